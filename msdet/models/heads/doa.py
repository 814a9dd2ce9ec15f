"""DoA heads: a classifier on pooled features, and mask-weighted SRP-PHAT (`msdet.models.heads`)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from msdet.dsp.spatial import frame_response, phase_normalize, srp_from_covariance, weighted_covariance
from msdet.dsp.streaming_state import State, decay_over, running_sum, sample_and_hold
from msdet.models.frontends import FrontEndOutput, running_rms_normalize
from msdet.models.heads import DOA_HEADS, HeadSizes, circular_convolutions, start_at_zero
from msdet.models.heads.separation import at_least_one


@DOA_HEADS.register("pooled")
class PooledDoaHead(nn.Module):
    """A classifier on features of bins pooled by learned attention, one for each slot.

    Pools over the whole recording, unless causal, with the weights of a head that is not.
    """

    def __init__(self, sizes: HeadSizes, causal: bool = False, time_constant_s: float | None = None) -> None:
        super().__init__()
        self.causal = causal
        self.decay = decay_over(time_constant_s, sizes.geometry.frame_s)
        features = sizes.features
        classes, freqs, _ = sizes.geometry.steering.shape
        self.attention = nn.Linear(features, sizes.talkers)
        self.embed = nn.Linear(features, features)
        self.frequency = nn.Parameter(torch.randn(freqs, features) * 0.1)
        outputs = classes + sizes.variable_num_speakers
        self.classify = nn.Sequential(
            nn.Linear(2 * features, 4 * features), nn.ReLU(), nn.Linear(4 * features, outputs)
        )

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame, outputs)``."""
        if self.causal:
            return self.stream(features, front_end, None)[0]
        weights = self.attention(features).flatten(1, 2).softmax(1)
        return cast(Tensor, self.classify(weights.mT @ self._values(features).flatten(1, 2)))

    def stream(self, features: Tensor, front_end: FrontEndOutput, state: State) -> tuple[Tensor, State]:
        """Logits ``(batch, talker, frame, outputs)`` of the next frames, of a causal head."""
        sums, shares = state or (None, None)
        attention = self.attention(features).float().permute(0, 2, 3, 1)  # (batch, frame, talker, freq)
        highest = attention.amax(-1, keepdim=True)
        share = (attention - highest).exp()
        of_frames = share @ self._values(features).float().transpose(1, 2)
        scale = highest.double().exp()  # which half the range of a double holds
        total, sums = running_sum(of_frames * scale, 1, self.decay, sums)
        weight, shares = running_sum(share.sum(-1, keepdim=True) * scale, 1, self.decay, shares)
        pooled = (total / weight).to(features.dtype).transpose(1, 2)
        return self.classify(pooled), (sums, shares)

    def _values(self, features: Tensor) -> Tensor:
        """What is pooled, ``(batch, freq, frame, value)``."""
        embedded = torch.relu(self.embed(features))
        placed = embedded * self.frequency[None, :, None]  # phase differences mean a direction per frequency
        return torch.cat([embedded, placed], dim=-1)


def bin_weights(masks: Tensor, reference: Tensor, frequency: Tensor) -> Tensor:
    """Weights ``(batch, talker, freq, frame)`` of each slot's bins: their share, whether reliable, level, frequency.

    Of masks ``(batch, freq, frame, 2 talkers)`` and the spectrum at the reference microphone ``(batch, freq, frame)``.
    """
    slots, reliable = masks.permute(0, 3, 1, 2).chunk(2, dim=1)
    level = torch.log1p(reference.abs())[:, None]
    return slots.softmax(1) * reliable.sigmoid() * level * nn.functional.softplus(frequency)[:, None]


@DOA_HEADS.register("steered")
class SteeredDoaHead(nn.Module):
    """Mask-weighted SRP-PHAT, sharpened by circular convolutions, on top of the front end's seed logits.

    At the start the logits are the seed's: the model is the classical localizer, and learns from there. Whether a slot
    has a talker is read from its features, pooled by its mask, and from the height of its steered response. Pools over
    the whole recording, unless causal, with the same parameters; weights of bins are then relative to the level so far.
    """

    def __init__(
        self, sizes: HeadSizes, causal: bool = False, time_constant_s: float | None = None, update_interval: int = 1
    ) -> None:
        super().__init__()
        self.update_interval = at_least_one(update_interval, "update_interval")
        self.causal = causal
        self.decay = decay_over(time_constant_s, sizes.geometry.frame_s)
        self.geometry = sizes.geometry
        freqs = sizes.geometry.steering.shape[1]
        self.mask = nn.Linear(sizes.features, 2 * sizes.talkers)
        self.frequency = nn.Parameter(torch.zeros(freqs))
        self.trust = nn.Parameter(torch.ones(()))
        self.sharpness = nn.Parameter(torch.zeros(()))
        self.sharpen = circular_convolutions(2, 32, 32, 1)
        start_at_zero(self.sharpen[-1])
        self.nobody: nn.Module | None = None
        if sizes.variable_num_speakers:
            self.nobody = nn.Sequential(nn.Linear(sizes.features + 3, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame, outputs)``."""
        if self.causal:
            return self.stream(features, front_end, None)[0]
        spectrum = front_end.spectrum
        weights = self._weights(features, spectrum)
        covariance = weighted_covariance(phase_normalize(spectrum), weights)
        response = srp_from_covariance(covariance, self.geometry.steering)
        seed = torch.zeros_like(response) if front_end.seed_logits is None else front_end.seed_logits
        if self.nobody is None:
            return self._logits(response, seed)
        share = (weights / weights.sum((-2, -1), keepdim=True).clamp_min(1e-8)).to(features.dtype)
        return self._logits(response, seed, torch.einsum("bsft,bftd->bsd", share, features))

    def stream(self, features: Tensor, front_end: FrontEndOutput, state: State) -> tuple[Tensor, State]:
        """Logits ``(batch, talker, frame, outputs)`` of the next frames, of a causal head."""
        levels, responses, sums, shares, estimate = state or (None,) * 5
        spectrum = front_end.spectrum
        leveled, _, levels = running_rms_normalize(spectrum, self.geometry.reference, self.decay, levels)
        weights = self._weights(features, leveled)
        of_frames = frame_response(phase_normalize(spectrum), weights, self.geometry.steering)
        response, responses = running_sum(of_frames, 2, self.decay, responses)
        response = response.to(of_frames.dtype)
        seed = front_end.frame_seed_logits
        seed = torch.zeros_like(response) if seed is None else seed
        pooled = None
        if self.nobody is not None:
            of_frames = torch.einsum("bsft,bftd->bstd", weights.to(features.dtype), features)
            total, sums = running_sum(of_frames, 2, self.decay, sums)
            weight, shares = running_sum(weights.sum(2)[..., None], 2, self.decay, shares)
            pooled = (total / weight.clamp_min(1e-8)).to(features.dtype)

        def update(frames: slice) -> tuple[Tensor]:
            known = None if pooled is None else pooled[:, :, frames]
            return (self._logits(response[:, :, frames], seed[:, :, frames], known).transpose(1, 2),)

        (logits,), estimate = sample_and_hold(update, spectrum.shape[-1], self.update_interval, estimate)
        return logits.transpose(1, 2), (levels, responses, sums, shares, estimate)

    def _weights(self, features: Tensor, spectrum: Tensor) -> Tensor:
        return bin_weights(self.mask(features), spectrum[:, self.geometry.reference], self.frequency)

    def _logits(self, response: Tensor, seed: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Logits ``(..., outputs)`` from a response and seed ``(..., class)``, and features pooled."""
        mean, spread = response.mean(-1, keepdim=True), response.std(-1, keepdim=True)
        z = (response - mean) / spread.clamp_min(1e-6)
        both = torch.stack([z, seed.exp()], dim=-2).flatten(0, -3)
        logits: Tensor = self.trust * seed + self.sharpness * z + self.sharpen(both).view_as(z)
        if self.nobody is None or pooled is None:
            return logits
        there = (seed.softmax(-1) * response).sum(-1, keepdim=True) / mean.clamp_min(1e-6)
        evidence = [pooled, there, spread / mean.clamp_min(1e-6), z.amax(-1, keepdim=True)]
        return torch.cat([logits, self.nobody(torch.cat(evidence, dim=-1))], dim=-1)
