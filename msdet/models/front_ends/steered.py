"""Steered responses, and beams at the SRP-PHAT peaks: features that come from the array's coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.front_ends import FrontEndSizes
from msdet.models.frontend import Observation, beam_features, levelled
from msdet.spatial import (
    apply_beam,
    highest_peaks,
    phase_normalise,
    running_mean,
    seeded_logits,
    srp_phat,
    steered_beam_weights,
    steered_response,
)


class FrontEnd(nn.Module):
    """A bin's features are steered responses, a level, and what beams towards the loudest directions give.

    These are the steered response at every second class, the level at the reference, and for each peak the
    response there and the beam towards it relative to the reference. Peaks ascend in azimuth, and the beams
    null each other's directions softly. The peaks of as many talkers as there are slots are the seed of the
    DoA logits; further peaks come after them, ascending too, their beams with nulls on all others.

    Unless `causal`, the peaks are those of the whole recording.

    Args:
        sizes: what its sizes follow from.
        peaks: SRP-PHAT peaks that are offered as beams besides one for each talker.
        causal: peaks and levels are those of the recording so far, found again in each frame.
    """

    array_bound = False

    def __init__(self, sizes: FrontEndSizes, peaks: int = 0, causal: bool = False) -> None:
        super().__init__()
        if peaks < 0:
            raise ValueError(f"peaks is {peaks}, expected 0 or more")
        self.geometry = sizes.geometry
        self.talkers = sizes.talkers
        self.peaks = peaks
        self.causal = causal
        classes = len(sizes.geometry.steering)
        self.features_out = len(range(0, classes, 2)) + 1 + 4 * (sizes.talkers + peaks)

    @torch.no_grad()
    def forward(self, spectrum: Tensor) -> Observation:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        steering = self.geometry.steering
        seen, level = levelled(spectrum, self.geometry.reference, self.causal)
        phases = phase_normalise(spectrum)
        response = steered_response(phases, steering if self.causal else steering[::2])
        if self.causal:
            srp_map = running_mean(response.mean(2).transpose(1, 2), 1)  # (batch, frame, class)
            response = response[:, ::2]
        else:
            srp_map = srp_phat(spectrum, steering)[:, None]
        logits = self._seeds(srp_map)
        posterior = logits.softmax(-1)
        of_time = "btsk,bkft->bsft" if self.causal else "bosk,bkft->bsft"
        there = torch.einsum(of_time, posterior[..., ::2] * 2.0, response)
        reference = seen[:, self.geometry.reference]
        beams = self._beams(posterior, seen)
        features = [response, torch.log1p(reference.abs())[:, None], there, *beam_features(beams, reference)]
        return Observation(
            spectrum, torch.cat(features, 1).permute(0, 2, 3, 1), logits[:, -1, : self.talkers], level
        )

    def _seeds(self, srp_map: Tensor) -> Tensor:
        """Logits ``(batch, time, peak, class)`` of all peaks of maps ``(batch, time, class)``."""
        highest = highest_peaks(srp_map.flatten(0, 1), self.talkers + self.peaks)
        parts = highest.split([self.talkers, self.peaks], dim=-1)
        azimuth_deg = torch.cat([part.sort(dim=-1).values for part in parts], dim=-1)
        logits: Tensor = seeded_logits(azimuth_deg, srp_map.shape[-1]).unflatten(0, srp_map.shape[:2])
        return logits

    def _beams(self, posterior: Tensor, spectrum: Tensor) -> Tensor:
        """A beam for each peak, ``(batch, peak, freq, frame)``, of one time or of each frame."""
        batch, times = posterior.shape[:2]
        pieces = spectrum
        if self.causal:  # every frame is a recording of its own
            pieces = spectrum.permute(0, 3, 1, 2).flatten(0, 1)[..., None]
        flat = posterior.flatten(0, 1)
        steering, coherence = self.geometry.steering, self.geometry.coherence
        weights = steered_beam_weights(flat[:, : self.talkers], steering, coherence)
        if self.peaks:
            among_all = steered_beam_weights(flat, steering, coherence)
            weights = torch.cat([weights, among_all[:, self.talkers :]], dim=1)
        beams = apply_beam(weights, pieces)
        if self.causal:
            beams = beams[..., 0].unflatten(0, (batch, times)).permute(0, 2, 3, 1)
        return beams
