"""Steered responses, and beams at the SRP-PHAT peaks: features that come from the array's coordinates."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from msdet.dsp.beamforming import apply_beam, apply_beam_per_frame, steered_beam_weights
from msdet.dsp.spatial import highest_peaks, phase_normalize, srp_phat, steered_response, von_mises_logits
from msdet.dsp.streaming_state import State, running_mean, sample_and_hold
from msdet.models.frontends import (
    FRONT_ENDS,
    FrontEndOutput,
    FrontEndSizes,
    LeveledFrontEnd,
    beam_features,
    reference_level,
    running_rms_normalize,
)


@FRONT_ENDS.register("steered")
class SteeredFrontEnd(LeveledFrontEnd):
    """A bin's features are steered responses, a level, and what beams towards the loudest directions give.

    These are the steered response at every second class, the level at the reference, and for each peak the response
    there and the beam towards it relative to the reference. Peaks ascend in azimuth, and beams null each other's
    directions softly. As many peaks as slots are the seed of the DoA logits; further ones ascend after them.

    Args:
        peaks: SRP-PHAT peaks that are offered as beams besides one for each talker.
        causal: peaks and levels are those of the recording so far, not of the whole.
        update_interval: frames from one search for peaks of a causal front end to the next; more is faster.
    """

    array_bound = False

    def __init__(
        self,
        sizes: FrontEndSizes,
        peaks: int = 0,
        causal: bool = False,
        time_constant_s: float | None = None,
        update_interval: int = 1,
    ) -> None:
        super().__init__(sizes, causal, time_constant_s)
        if peaks < 0:
            raise ValueError(f"peaks is {peaks}, expected 0 or more")
        if update_interval < 1:
            raise ValueError(f"update_interval is {update_interval}, expected at least 1")
        self.talkers = sizes.talkers
        self.peaks = peaks
        self.update_interval = update_interval
        classes = len(sizes.geometry.steering)
        self.features_out = len(range(0, classes, 2)) + 1 + 4 * (sizes.talkers + peaks)

    @torch.no_grad()
    def forward(self, spectrum: Tensor) -> FrontEndOutput:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        if self.causal:
            return self.stream(spectrum, None)[0]
        steering = self.geometry.steering
        response = steered_response(phase_normalize(spectrum), steering[::2])
        logits = self._seeds(srp_phat(spectrum, steering)[:, None])[:, 0]
        posterior = logits.softmax(-1)
        there = torch.einsum("bsk,bkft->bsft", posterior[..., ::2] * 2.0, response)
        beams = apply_beam(self._weights(posterior), spectrum)
        level = reference_level(spectrum[:, self.geometry.reference])
        features = self._joined(response, there, beams, spectrum)
        return FrontEndOutput(spectrum, features, logits[:, : self.talkers], level)

    @torch.no_grad()
    def stream(self, spectrum: Tensor, state: State) -> tuple[FrontEndOutput, State]:
        """The next frames, of a causal front end."""
        levels, maps, before = state or (None, None, None)
        leveled, level, levels = running_rms_normalize(spectrum, self.geometry.reference, self.decay, levels)
        response = steered_response(phase_normalize(spectrum), self.geometry.steering)
        srp_map, maps = running_mean(response.mean(2).transpose(1, 2), 1, self.decay, maps)

        def update(frames: slice) -> tuple[Tensor, Tensor]:
            logits = self._seeds(srp_map[:, frames])
            weights = self._weights(logits.softmax(-1).flatten(0, 1))
            return logits, weights.unflatten(0, logits.shape[:2])

        (logits, weights), before = sample_and_hold(update, spectrum.shape[-1], self.update_interval, before)
        response = response[:, ::2]
        there = torch.einsum("btsk,bkft->bsft", logits.softmax(-1)[..., ::2] * 2.0, response)
        features = self._joined(response, there, apply_beam_per_frame(weights, leveled), leveled)
        seeds = logits[:, :, : self.talkers].transpose(1, 2)
        return FrontEndOutput(spectrum, features, seeds[:, :, -1], level, seeds), (levels, maps, before)

    def _seeds(self, srp_map: Tensor) -> Tensor:
        """Logits ``(batch, time, peak, class)`` of all peaks of maps ``(batch, time, class)``."""
        highest = highest_peaks(srp_map.flatten(0, 1), self.talkers + self.peaks)
        parts = highest.split([self.talkers, self.peaks], dim=-1)
        azimuth_deg = torch.cat([part.sort(dim=-1).values for part in parts], dim=-1)
        return cast(Tensor, von_mises_logits(azimuth_deg, srp_map.shape[-1]).unflatten(0, srp_map.shape[:2]))

    def _weights(self, posterior: Tensor) -> Tensor:
        """Of a beam for each peak, ``(batch, peak, freq, mic)``, from posteriors ``(batch, peak, class)``."""
        steering, coherence = self.geometry.steering, self.geometry.coherence
        weights = steered_beam_weights(posterior[:, : self.talkers], steering, coherence)
        if not self.peaks:
            return weights
        among_all = steered_beam_weights(posterior, steering, coherence)
        return torch.cat([weights, among_all[:, self.talkers :]], dim=1)

    def _joined(self, response: Tensor, there: Tensor, beams: Tensor, leveled: Tensor) -> Tensor:
        """``(batch, freq, frame, feature)`` of responses, those at the peaks, beams and spectrum."""
        reference = leveled[:, self.geometry.reference]
        level = torch.log1p(reference.abs())[:, None]
        features = [response, level, there, *beam_features(beams, reference)]
        return torch.cat(features, 1).permute(0, 2, 3, 1)
