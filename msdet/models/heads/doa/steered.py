"""Mask-weighted SRP-PHAT, sharpened by circular convolutions, on top of the front end's seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes
from msdet.spatial import phase_normalise, pooled_response, weighted_covariance


class Head(nn.Module):
    """At the start the logits are the seed's: the model is the classical localiser, and learns from there.

    Whether anybody is in a slot is read from its features, pooled by its mask, and from the height of its
    steered response. Pools over the whole recording.
    """

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        freqs = sizes.geometry.steering.shape[1]
        self.mask = nn.Linear(sizes.features, 2 * sizes.talkers)
        self.frequency = nn.Parameter(torch.zeros(freqs))
        self.trust = nn.Parameter(torch.ones(()))
        self.sharpness = nn.Parameter(torch.zeros(()))
        channels = 32
        self.sharpen = nn.Sequential(
            nn.Conv1d(2, channels, 9, padding=4, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 9, padding=4, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv1d(channels, 1, 9, padding=4, padding_mode="circular"),
        )
        nn.init.zeros_(self.sharpen[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.sharpen[-1].bias)  # type: ignore[arg-type]
        self.nobody: nn.Module | None = None
        if sizes.vacancy:
            self.nobody = nn.Sequential(nn.Linear(sizes.features + 3, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Logits ``(batch, talker, outputs)``."""
        spectrum = observation.spectrum
        slots, reliable = self.mask(features).permute(0, 3, 1, 2).chunk(2, dim=1)
        level = torch.log1p(spectrum[:, self.geometry.reference].abs())[:, None]
        frequency = nn.functional.softplus(self.frequency)[:, None]
        weights = slots.softmax(1) * reliable.sigmoid() * level * frequency
        covariance = weighted_covariance(phase_normalise(spectrum), weights)
        response = pooled_response(covariance, self.geometry.steering)
        mean, spread = response.mean(-1, keepdim=True), response.std(-1, keepdim=True)
        z = (response - mean) / spread.clamp_min(1e-6)
        seed = z.new_zeros(z.shape) if observation.seed_logits is None else observation.seed_logits
        both = torch.stack([z, seed.exp()], dim=2).flatten(0, 1)
        logits: Tensor = self.trust * seed + self.sharpness * z + self.sharpen(both).view_as(z)
        if self.nobody is None:
            return logits
        share = (weights / weights.sum((-2, -1), keepdim=True).clamp_min(1e-8)).to(features.dtype)
        pooled = torch.einsum("bsft,bftd->bsd", share, features)
        there = (seed.softmax(-1) * response).sum(-1, keepdim=True) / mean.clamp_min(1e-6)
        seen = [pooled, there, spread / mean.clamp_min(1e-6), z.amax(-1, keepdim=True)]
        return torch.cat([logits, self.nobody(torch.cat(seen, dim=-1))], dim=-1)
