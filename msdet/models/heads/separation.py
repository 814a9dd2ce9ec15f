"""Separation heads: masks, maps, filters, and beams by masks or the DoA posterior (`msdet.models.heads`)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.beamforming import (
    apply_beam,
    apply_beam_per_frame,
    causal_masked_mvdr,
    masked_mvdr,
    past_frames,
    power_masks,
    steered_beam_weights,
    wiener_filter,
)
from msdet.dsp.spatial import phase_normalize
from msdet.dsp.streaming_state import State, decay_over, sample_and_hold, with_past
from msdet.errors import UnknownNameError
from msdet.models.encoders import build_encoder
from msdet.models.frontends import FrontEndOutput, beam_features, final_frame_logits, reference_level
from msdet.models.heads import SEPARATION_HEADS, HeadSizes, SlotLinear, Streamed, as_complex, start_at_zero

BEAMFORMERS = ("wiener", "mvdr")


class BeamMasks(nn.Module):
    """Adds signals, filtered over this frame and ones before, to each talker's beam; the filters start at zero.

    A filter over frames (deep filtering, Mack and Habets 2020) also removes reverberation; a mask makes it quieter.
    """

    def __init__(self, sizes: HeadSizes, signals: int, frames: int) -> None:
        super().__init__()
        self.frames = at_least_one(frames, "frames")
        self.per_slot = sizes.per_slot
        self.filter = SlotLinear(sizes, 2 * signals * frames)
        start_at_zero(self.filter.linear)

    def forward(self, features: Tensor, beams: Tensor, signals: list[Tensor]) -> Tensor:
        """Refined beams, as beams ``(batch, talker, freq, frame)``, from features of the head.

        The signals to filter and add are each of every talker, as beams, or ``(batch, 1, freq, frame)``.
        """
        return self.stream(features, beams, signals, None)[0]

    def stream(self, features: Tensor, beams: Tensor, signals: list[Tensor], state: State) -> tuple[Tensor, State]:
        """The same of the next frames."""
        filters = as_complex(self.filter(features))
        joined, kept = [], []
        for signal, before in zip(signals, state or [None] * len(signals), strict=True):
            past, after = with_past(signal, self.frames - 1, 3, before)
            joined.append(past)
            kept.append(after)
        if self.per_slot:  # one layer serves all slots: each has its own signals first
            filtered = torch.stack([self._filtered(own) for own in own_first(joined, beams)], dim=1)
        else:
            filtered = self._filtered(joined)[:, None]
        refined: Tensor = beams + (filters * filtered).sum(2)
        return refined, kept

    def _filtered(self, signals: list[Tensor]) -> Tensor:
        """What the filters see, ``(batch, frames * signal, freq, frame)``."""
        return past_frames(torch.cat(signals, dim=1), self.frames)[..., self.frames - 1 :]


def own_first(signals: list[Tensor], beams: Tensor) -> list[list[Tensor]]:
    """Of each slot, the signals with that talker's before the others'."""
    return [[signal.roll(-slot, 1) for signal in signals] for slot in range(beams.shape[1])]


def at_least_one(value: int, name: str) -> int:
    """The value of an option; an error if it is below 1."""
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return value


class FramewiseHead(nn.Module):
    """A separation head that needs no frame but the present one; a subclass has ``forward``."""

    causal = True

    def stream(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor, state: State) -> Streamed:
        """The next frames."""
        return self(features, front_end, doa_logits), None


@SEPARATION_HEADS.register("reference_mask")
class ReferenceMaskHead(FramewiseHead):
    """A complex mask for each talker on the reference microphone (Williamson et al., 2016), not bounded."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.mask = SlotLinear(sizes, 2)

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        mask = as_complex(self.mask(features))[:, :, 0]
        return (mask * front_end.spectrum[:, self.geometry.reference, None],)


@SEPARATION_HEADS.register("complex_mapping")
class ComplexMappingHead(FramewiseHead):
    """Complex spectral mapping: each talker's spectrum itself, not a mask.

    Z.-Q. Wang, P. Wang and D. Wang, "Multi-microphone complex spectral mapping for utterance-wise and
    continuous speech separation", IEEE/ACM TASLP 29, 2021. The map is scaled by the level of the recording at
    the reference. Where the front end does not keep phases but shows them relative to the reference's, a
    phase of its own could not be mapped to: the map is then turned by each bin's phase at the reference.
    """

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.map = SlotLinear(sizes, 2)

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        reference = front_end.spectrum[:, self.geometry.reference]
        level = reference_level(reference) if front_end.level is None else front_end.level
        mapped = as_complex(self.map(features))[:, :, 0]
        if front_end.keeps_phase:
            return (mapped * level[:, None],)
        return (mapped * (level * phase_normalize(reference))[:, None],)


@SEPARATION_HEADS.register("multi_frame_filter")
class MultiFrameFilterHead(nn.Module):
    """A filter over microphones and frames that the network gives, for each bin and talker: Σ w_ml X_m(t-l).

    Over frames it is deep filtering (Mack and Habets, IEEE SPL 27, 2020), over microphones filter-and-sum;
    over both, the filter of multi-channel multi-frame networks (Z. Zhang et al., "Multi-channel multi-frame
    ADL-MVDR", TASLP 2021). The weights are not bounded. Those of all microphones belong to one array.

    Args:
        frames: that the filters see, this one and the ones before.
        microphones: ``all``, or ``reference`` alone, which any array has.
    """

    causal = True

    def __init__(self, sizes: HeadSizes, frames: int = 3, microphones: str = "all") -> None:
        super().__init__()
        if microphones not in ("all", "reference"):
            raise UnknownNameError("choice of microphones", microphones, ("all", "reference"))
        self.array_bound = microphones == "all"
        self.geometry = sizes.geometry
        self.frames = at_least_one(frames, "frames")
        channels = sizes.geometry.microphones if self.array_bound else 1
        self.filter = SlotLinear(sizes, 2 * channels * frames)

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        return self.stream(features, front_end, doa_logits, None)[0]

    def stream(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor, state: State) -> Streamed:
        """The next frames."""
        spectrum = front_end.spectrum
        if not self.array_bound:
            spectrum = spectrum[:, self.geometry.reference : self.geometry.reference + 1]
        weights = as_complex(self.filter(features))
        joined, state = with_past(spectrum, self.frames - 1, 3, state)
        past = past_frames(joined, self.frames)[..., self.frames - 1 :]
        return ((weights * past[:, None]).sum(2),), state


@SEPARATION_HEADS.register("masked_mvdr")
class MaskedMVDRHead(nn.Module):
    """Masks, spatial covariances, MVDR, complex masks: a beamformer steered by masks, trained through.

    Masks for covariances as in Heymann, Drude and Haeb-Umbach (ICASSP 2016), the beamformer by Souden et al.
    (IEEE TASLP 18(2), 2010). Each bin is shared among the talkers and noise, by masks that add up to one. A
    beam is refined by complex masks on all beams and the reference, which start at zero.

    Args:
        frames: that the refining filters see, this one and the ones before; 1 makes them masks.
        loading: of the disturbance's diagonal, relative to its trace; 1e-4 if not given, 1e-3 of a causal head.
        causal: a beam for each frame, from covariances of that frame and those before it.
    """

    def __init__(
        self,
        sizes: HeadSizes,
        frames: int = 1,
        loading: float | None = None,
        causal: bool = False,
        time_constant_s: float | None = None,
    ) -> None:
        super().__init__()
        loading = (1e-3 if causal else 1e-4) if loading is None else loading
        if not 0 < loading < float("inf"):
            raise ValueError(f"loading is {loading}, expected above 0")
        self.geometry = sizes.geometry
        self.loading = loading
        self.causal = causal
        self.decay = decay_over(time_constant_s, sizes.geometry.frame_s)
        self.share = SlotLinear(sizes, 1)
        self.refine = BeamMasks(sizes, sizes.talkers + 1, frames)

    def masks(self, features: Tensor) -> Tensor:
        """Shares ``(batch, talker, freq, frame)`` of the talkers; what is left to one is noise."""
        talkers = self.share(features)[..., 0].float()
        return torch.cat([talkers, torch.zeros_like(talkers[:, :1])], dim=1).softmax(1)[:, :-1]

    def forward(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        if self.causal:
            return self.stream(features, front_end, doa_logits, None)[0]
        spectrum = front_end.spectrum
        beams = masked_mvdr(spectrum, self.masks(features), self.geometry.reference, self.loading)
        return (self.refine(features, beams, [beams, spectrum[:, self.geometry.reference, None]]),)

    def stream(self, features: Tensor, front_end: FrontEndOutput, doa_logits: Tensor, state: State) -> Streamed:
        """The next frames, of a causal head."""
        covariances, refining = state or (None, None)
        spectrum = front_end.spectrum
        masks = self.masks(features)
        beams, covariances = causal_masked_mvdr(
            spectrum, masks, self.geometry.reference, self.loading, self.decay, covariances
        )
        signals = [beams, spectrum[:, self.geometry.reference, None]]
        refined, refining = self.refine.stream(features, beams, signals, refining)
        return (refined,), (covariances, refining)


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
        causal: steer in each frame by what a causal DoA head says there, in one pass alone.
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

        def steer(frames: slice) -> tuple[Tensor]:
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
