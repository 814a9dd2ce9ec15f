"""Beams through one filter a bin for the whole recording, predicted from the recording's statistics.

What is wrong with a beam is mostly reverberation of its own talker, and that is linear: filters over four
frames of two talkers' beams, fixed for a recording and fitted to the truth, improve SI-SDR by 18 dB where the
beams do by 7.5 (T60 0.2 to 0.5 s). Which filter is a question about the room, not about a frame: a network
answers it from correlations between beams, directions and frames, over the whole recording and across
frequencies. Weighted prediction error (Nakatani et al., IEEE TASLP 18(7), 2010) and convolutional beamformers
(Nakatani and Kinoshita, IEEE SPL 26(6), 2019) solve equations for such filters, and cannot know the gain that
early reflections give a bin. What they leave is refined frame by frame, and filtered once more.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.beamforming import apply_beam, steered_beam_weights
from msdet.dsp.spatial import decode_azimuth, von_mises_logits
from msdet.models.encoders import build_encoder
from msdet.models.frontends import FrontEndOutput, beam_features, final_frame_logits
from msdet.models.heads import SEPARATION_HEADS, HeadSizes
from msdet.models.heads.separation import BeamMasks, at_least_one, own_first
from msdet.models.heads.statistics import AGAIN, FilterNetwork, RecordingStatistics, filtered_bins, in_turn


@SEPARATION_HEADS.register("recording_filter")
class RecordingFilterHead(nn.Module):
    """A beam to each talker, fixed filters, filters frame by frame, and fixed filters once more.

    Each stage starts as what changes nothing, so an untrained head gives the beams. A beam looks along the
    azimuth that the DoA logits decode to: losses of separation do not train the DoA head through it.

    Args:
        sizes: what its sizes follow from.
        taps: frames that the first filters span, this one and those before.
        bandwidth_hz: up to where there are fixed filters.
        hidden: width of the networks that predict them, the first and the last.
        blocks: number of blocks of these networks.
        frames: that the filters frame by frame span, this one and the ones before.
        refiner: encoder of these, by name or ``module:Class``.
        refiner_options: what that encoder's constructor takes besides derived sizes.
    """

    def __init__(
        self,
        sizes: HeadSizes,
        taps: int = 4,
        bandwidth_hz: float = 2000.0,
        hidden: tuple[int, int] = (88, 56),
        blocks: tuple[int, int] = (4, 2),
        frames: int = 2,
        refiner: str = "band_gru",
        refiner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.geometry, talkers = sizes.geometry, sizes.talkers
        self.per_slot = sizes.per_slot
        self.taps = at_least_one(taps, "taps")
        freqs = sizes.geometry.steering.shape[1]
        self.low = filtered_bins(sizes.geometry, bandwidth_hz)
        inputs = talkers * taps, talkers * sum(AGAIN)
        self.statistics = RecordingStatistics(sizes.geometry, talkers, inputs[0], self.low)
        self.predict = FilterNetwork(self.statistics.features_out, self.low, inputs[0], hidden[0], blocks[0])
        seen = 1 + 6 * talkers
        self.context = nn.Linear(sizes.features, seen, bias=False)
        nn.init.zeros_(self.context.weight)
        options = {"hidden": 64, "outputs": 32} if refiner_options is None else refiner_options
        encoder = build_encoder(refiner, options, seen, freqs)
        self.encode = cast(nn.Module, encoder)
        self.refine = BeamMasks(sizes._replace(features=encoder.features_out), 2 * talkers + 1, frames)
        self.statistics_again = RecordingStatistics(sizes.geometry, talkers, inputs[1], self.low, of_beams=False)
        self.again = FilterNetwork(self.statistics_again.features_out, self.low, inputs[1], hidden[1], blocks[1])

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """Beams filtered, refined, and filtered again, each ``(batch, talker, freq, frame)``."""
        spectrum = front_end.spectrum
        low = (slice(None), slice(None), slice(self.low))
        with torch.no_grad():
            azimuth_deg = decode_azimuth(final_frame_logits(doa_logits))[0]
            posterior = von_mises_logits(azimuth_deg, doa_logits.shape[-1]).softmax(-1)
            weights = steered_beam_weights(posterior, self.geometry.steering, self.geometry.coherence)
            beams = apply_beam(weights, spectrum)
            inputs = in_turn(beams[low], self.taps)
            found = self.statistics(spectrum, beams[low], inputs, azimuth_deg, weights)
        filtered = torch.cat([self.predict(found, inputs), beams[:, :, self.low :]], dim=2)
        refined = self._refined(features, filtered, beams, spectrum[:, self.geometry.reference])
        inputs = torch.cat([in_turn(refined[low], AGAIN[0]), in_turn(beams[low], AGAIN[1])], dim=3)
        with torch.no_grad():
            found = self.statistics_again(spectrum, refined[low], inputs, azimuth_deg, weights)
        again = torch.cat([self.again(found, inputs), refined[:, :, self.low :]], dim=2)
        return filtered, refined, again

    def _refined(self, features: Tensor, filtered: Tensor, beams: Tensor, reference: Tensor) -> Tensor:
        """Filtered frame by frame: ``(batch, talker, freq, frame)``."""
        level = torch.log1p(reference.abs())[:, None]
        seen = [*beam_features(filtered.detach(), reference), *beam_features(beams, reference)]
        context = self.context(features)
        if self.per_slot:
            slots = [torch.cat([level, *own], dim=1) for own in own_first(seen, beams)]
            of_slots = torch.stack(slots, dim=1).permute(0, 1, 3, 4, 2) + context
            encoded: Tensor = self.encode(of_slots.flatten(0, 1)).unflatten(0, of_slots.shape[:2])
        else:
            encoded = self.encode(torch.cat([level, *seen], dim=1).permute(0, 2, 3, 1) + context)
        refined: Tensor = self.refine(encoded, filtered, [filtered, beams, reference[:, None]])
        return refined
