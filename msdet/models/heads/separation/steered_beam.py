"""A beam steered by the DoA posterior, refined by complex masks on all beams and the reference."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.models.encoders import build_encoder
from msdet.models.frontend import Observation, beam_features
from msdet.models.heads import HeadSizes, SlotLinear, as_complex
from msdet.spatial import apply_beam, past_frames, steered_beam_weights, wiener_filter


class Head(nn.Module):
    """The masks start at zero, so the first estimate is the beam itself.

    With `filter_taps`, a second pass fits one linear filter of all microphones to each estimate
    (`wiener_filter`), encodes what that filter gives together with the features, and refines it likewise.

    Args:
        sizes: what its sizes follow from.
        frames: frames that the refining filters see, this one and the ones before; 1 makes them masks.
        filter_taps: frames that the second pass's filters span; 0 for one pass.
        refiner: encoder of the second pass, a file name in ``msdet/models/encoders`` or ``module:Class``.
        refiner_options: what that encoder's constructor takes besides ``features_in``.
    """

    def __init__(
        self,
        sizes: HeadSizes,
        frames: int = 1,
        filter_taps: int = 0,
        refiner: str = "ft_gru",
        refiner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.filter_taps = filter_taps
        self.refine = _BeamMasks(sizes, sizes.talkers + 1, frames)
        if filter_taps:
            if sizes.per_slot:
                raise ValueError("a second pass needs features of all slots together")
            freqs = sizes.geometry.steering.shape[1]
            width = sizes.features + 6 * sizes.talkers
            encoder = build_encoder(refiner, refiner_options or {}, width, freqs)
            self.refiner = cast(nn.Module, encoder)
            again = sizes._replace(features=encoder.features_out)
            self.refine_again = _BeamMasks(again, 2 * sizes.talkers + 1, frames)

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)`` a pass."""
        spectrum = observation.spectrum
        reference = spectrum[:, self.geometry.reference]
        weights = steered_beam_weights(
            doa_logits.float().softmax(-1), self.geometry.steering, self.geometry.coherence
        )
        beams = apply_beam(weights, spectrum)
        first = self.refine(features, beams, [beams, reference[:, None]])
        if not self.filter_taps:
            return (first,)
        with torch.no_grad():  # the filter follows the first estimate, which has a loss of its own
            filtered = wiener_filter(spectrum, first, self.filter_taps)
            seen = [*beam_features(filtered, reference), *beam_features(first, reference)]
        again = self.refiner(torch.cat([features, torch.cat(seen, 1).permute(0, 2, 3, 1)], dim=-1))
        basis = [filtered, first.detach(), reference[:, None]]
        return first, self.refine_again(again, filtered, basis)


class _BeamMasks(nn.Module):
    """Adds signals, filtered over a few frames, to each talker's beam; the filters start at zero.

    A filter over frames (deep filtering, Mack and Habets 2020) also removes reverberation, which a mask can
    only make quieter.
    """

    def __init__(self, sizes: HeadSizes, signals: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.per_slot = sizes.per_slot
        self.filter = SlotLinear(sizes, 2 * signals * frames)
        self.filter.start_at_zero()

    def forward(self, features: Tensor, beams: Tensor, signals: list[Tensor]) -> Tensor:
        """Refined beams ``(batch, talker, freq, frame)``."""
        filters = as_complex(self.filter(features))
        past = past_frames(torch.cat(signals, dim=1), self.frames)[:, None]
        if self.per_slot:  # one layer serves all slots: each finds its own beam first
            turned = [
                past_frames(torch.cat([signals[0].roll(-s, 1), *signals[1:]], dim=1), self.frames)
                for s in range(beams.shape[1])
            ]
            past = torch.stack(turned, dim=1)
        refined: Tensor = beams + (filters * past).sum(2)
        return refined
