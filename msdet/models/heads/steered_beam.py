"""The separation head of beams steered by the DoA posterior."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.beamforming import (
    apply_beam,
    apply_beam_per_frame,
    masked_mvdr,
    power_masks,
    steered_beam_weights,
    wiener_filter,
)
from msdet.dsp.streaming_state import State, sample_and_hold
from msdet.errors import UnknownNameError
from msdet.models.encoders import build_encoder
from msdet.models.frontends import FrontEndOutput, beam_features, final_frame_logits
from msdet.models.heads import SEPARATION_HEADS, HeadSizes, Streamed
from msdet.models.heads.separation import BeamMasks, at_least_one, own_first

BEAMFORMERS = ("wiener", "mvdr")


@SEPARATION_HEADS.register("steered_beam")
class SteeredBeamHead(nn.Module):
    """A beam steered by the DoA posterior, refined by complex masks on all beams and the reference.

    The masks start at zero, so the first estimate is the beam itself. The posterior is one for the whole recording,
    unless `causal`. Each further pass fits a beamformer to the estimates before it, encodes what that gives together
    with the features, and refines it likewise.

    Args:
        frames: frames that the refining filters see, this one and the ones before; 1 makes them masks.
        filter_taps: frames that the Wiener filters of further passes span; 0 stands for 1.
        refiner: encoder of a further pass, by name or ``module:Class``.
        refiner_options: what that encoder's constructor takes besides derived sizes.
        passes: number of passes; if not given, 2 with `filter_taps` or `second`, otherwise 1.
        second: beamformer of further passes: ``wiener`` (one filter of all microphones, `wiener_filter`), or
            ``mvdr`` (masks of the estimates, covariances, `masked_mvdr`).
        causal: steer in each frame by what a causal DoA head says there. One pass alone: further ones fit
            beamformers to the whole recording.
    """

    def __init__(
        self,
        sizes: HeadSizes,
        frames: int = 1,
        filter_taps: int = 0,
        refiner: str = "ft_gru",
        refiner_options: dict[str, Any] | None = None,
        passes: int | None = None,
        second: str | None = None,
        causal: bool = False,
        update_interval: int = 1,
    ) -> None:
        super().__init__()
        if second is not None and second not in BEAMFORMERS:
            raise UnknownNameError("beamformer of the second pass", second, BEAMFORMERS)
        if second == "mvdr" and filter_taps:
            raise ValueError("filter_taps are of the wiener filter; mvdr has none")
        if filter_taps < 0:
            raise ValueError(f"filter_taps is {filter_taps}, expected 0 or more")
        self.geometry = sizes.geometry
        self.beamformer = second or "wiener"
        self.filter_taps = max(filter_taps, 1)
        count = at_least_one((2 if filter_taps or second else 1) if passes is None else passes, "passes")
        if causal and count > 1:
            raise ValueError(f"a causal head has 1 pass, not {count}: further ones need the whole recording")
        self.causal = self.needs_causal_doa = causal
        self.update_interval = at_least_one(update_interval, "update_interval")
        self.refine = BeamMasks(sizes, sizes.talkers + 1, frames)
        self.further = nn.ModuleList(_Pass(sizes, frames, refiner, refiner_options or {}) for _ in range(count - 1))

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)`` a pass."""
        if self.causal:
            return self.stream(features, front_end, doa_logits, None)[0]
        spectrum = front_end.spectrum
        reference = spectrum[:, self.geometry.reference]
        beams = apply_beam(self._weights(final_frame_logits(doa_logits)), spectrum)
        estimates = [self.refine(features, beams, [beams, reference[:, None]])]
        for refine in self.further:
            before = estimates[-1].detach()  # the beamformer follows an estimate that has a loss of its own
            with torch.no_grad():
                beams = self._fitted(spectrum, before)
            estimates.append(refine(features, beams, before, reference))
        return tuple(estimates)

    def stream(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor, state: State) -> Streamed:
        """The next frames, of a causal head, with logits ``(batch, talker, frame, class)``."""
        steered, refining = state or (None, None)
        spectrum = front_end.spectrum

        def steer(frames: list[int]) -> tuple[Tensor]:
            logits = doa_logits[:, :, frames].transpose(1, 2)
            return (self._weights(logits.flatten(0, 1)).unflatten(0, logits.shape[:2]),)

        (weights,), steered = sample_and_hold(steer, spectrum.shape[-1], self.update_interval, steered)
        beams = apply_beam_per_frame(weights, spectrum)
        reference = spectrum[:, self.geometry.reference, None]
        refined, refining = self.refine.stream(features, beams, [beams, reference], refining)
        return (refined,), (steered, refining)

    def _weights(self, logits: Tensor) -> Tensor:
        """Of the beams, ``(batch, talker, freq, mic)``, from azimuth logits ``(batch, talker, class)``."""
        posterior = logits.float().softmax(-1)
        return steered_beam_weights(posterior, self.geometry.steering, self.geometry.coherence)

    def _fitted(self, spectrum: Tensor, estimates: Tensor) -> Tensor:
        """What the beamformer of a further pass gives, ``(batch, talker, freq, frame)``."""
        if self.beamformer == "wiener":
            return wiener_filter(spectrum, estimates, self.filter_taps)
        masks = power_masks(estimates, spectrum[:, self.geometry.reference])
        return masked_mvdr(spectrum, masks, self.geometry.reference)


class _Pass(nn.Module):
    """Encodes beams and the estimates that they were fitted to, and refines the beams."""

    def __init__(self, sizes: HeadSizes, frames: int, refiner: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.per_slot = sizes.per_slot
        freqs = sizes.geometry.steering.shape[1]
        encoder = build_encoder(refiner, options, sizes.features + 6 * sizes.talkers, freqs)
        self.encode = cast(nn.Module, encoder)
        again = sizes._replace(features=encoder.features_out)
        self.refine = BeamMasks(again, 2 * sizes.talkers + 1, frames)

    def forward(self, features: Tensor, beams: Tensor, before: Tensor, reference: Tensor) -> Tensor:
        """Refined beams ``(batch, talker, freq, frame)``."""
        with torch.no_grad():
            fitted = [*beam_features(beams, reference), *beam_features(before, reference)]
        if self.per_slot:
            of_slots = torch.stack([torch.cat(own, dim=1) for own in own_first(fitted, beams)], dim=1)
            width = torch.cat([features, of_slots.permute(0, 1, 3, 4, 2)], dim=-1)
            encoded = self.encode(width.flatten(0, 1)).unflatten(0, width.shape[:2])
        else:
            encoded = self.encode(torch.cat([features, torch.cat(fitted, 1).permute(0, 2, 3, 1)], dim=-1))
        return cast(Tensor, self.refine(encoded, beams, [beams, before, reference[:, None]]))
