"""Mask-weighted SRP-PHAT, sharpened by circular convolutions, on top of the front end's seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontend import Observation, levelled_so_far
from msdet.models.heads import HeadSizes
from msdet.running import Memory, decay_over, held, sum_so_far
from msdet.spatial import frame_response, phase_normalise, pooled_response, weighted_covariance


class Head(nn.Module):
    """At the start the logits are the seed's: the model is the classical localiser, and learns from there.

    Whether anybody is in a slot is read from its features, pooled by its mask, and from the height of its
    steered response. Pools over the whole recording, unless causal.

    Args:
        sizes: what its sizes follow from.
        causal: give a word in each frame, on what came so far. Has the parameters of a head that is not; its
            weights of bins are relative to the level so far.
        memory_s: time constant in seconds with which a causal head forgets; null for never.
        every: frames after which a causal head says something new; more is faster.
    """

    def __init__(
        self, sizes: HeadSizes, causal: bool = False, memory_s: float | None = None, every: int = 1
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}, expected at least 1")
        self.every = every
        self.causal = causal
        self.decay = decay_over(memory_s, sizes.geometry.frame_s)
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
        """Logits ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame, outputs)``."""
        if self.causal:
            return self.stream(features, observation, None)[0]
        spectrum = observation.spectrum
        weights = self._weights(features, spectrum)
        covariance = weighted_covariance(phase_normalise(spectrum), weights)
        response = pooled_response(covariance, self.geometry.steering)
        seed = torch.zeros_like(response) if observation.seed_logits is None else observation.seed_logits
        if self.nobody is None:
            return self._logits(response, seed)
        share = (weights / weights.sum((-2, -1), keepdim=True).clamp_min(1e-8)).to(features.dtype)
        return self._logits(response, seed, torch.einsum("bsft,bftd->bsd", share, features))

    def stream(self, features: Tensor, observation: Observation, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits ``(batch, talker, frame, outputs)`` of the next frames, of a causal head."""
        levels, responses, sums, shares, said = memory or (None,) * 5
        spectrum = observation.spectrum
        seen, _, levels = levelled_so_far(spectrum, self.geometry.reference, self.decay, levels)
        weights = self._weights(features, seen)
        of_frames = frame_response(phase_normalise(spectrum), weights, self.geometry.steering)
        response, responses = sum_so_far(of_frames, 2, self.decay, responses)
        response = response.to(of_frames.dtype)
        seed = observation.seeds_so_far
        seed = torch.zeros_like(response) if seed is None else seed
        pooled = None
        if self.nobody is not None:
            heard = torch.einsum("bsft,bftd->bstd", weights.to(features.dtype), features)
            total, sums = sum_so_far(heard, 2, self.decay, sums)
            weight, shares = sum_so_far(weights.sum(2)[..., None], 2, self.decay, shares)
            pooled = (total / weight.clamp_min(1e-8)).to(features.dtype)

        def say(frames: list[int]) -> tuple[Tensor]:
            known = None if pooled is None else pooled[:, :, frames]
            return (self._logits(response[:, :, frames], seed[:, :, frames], known).transpose(1, 2),)

        (logits,), said = held(say, spectrum.shape[-1], self.every, said)
        return logits.transpose(1, 2), (levels, responses, sums, shares, said)

    def _weights(self, features: Tensor, spectrum: Tensor) -> Tensor:
        """Of each slot's bins, ``(batch, talker, freq, frame)``."""
        slots, reliable = self.mask(features).permute(0, 3, 1, 2).chunk(2, dim=1)
        level = torch.log1p(spectrum[:, self.geometry.reference].abs())[:, None]
        frequency = nn.functional.softplus(self.frequency)[:, None]
        weights: Tensor = slots.softmax(1) * reliable.sigmoid() * level * frequency
        return weights

    def _logits(self, response: Tensor, seed: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Logits ``(..., outputs)`` from a response and seed ``(..., class)``, and features pooled."""
        mean, spread = response.mean(-1, keepdim=True), response.std(-1, keepdim=True)
        z = (response - mean) / spread.clamp_min(1e-6)
        both = torch.stack([z, seed.exp()], dim=-2).flatten(0, -3)
        logits: Tensor = self.trust * seed + self.sharpness * z + self.sharpen(both).view_as(z)
        if self.nobody is None or pooled is None:
            return logits
        there = (seed.softmax(-1) * response).sum(-1, keepdim=True) / mean.clamp_min(1e-6)
        seen = [pooled, there, spread / mean.clamp_min(1e-6), z.amax(-1, keepdim=True)]
        return torch.cat([logits, self.nobody(torch.cat(seen, dim=-1))], dim=-1)
