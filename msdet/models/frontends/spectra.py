"""The spectra of all microphones: as they are, turned by the reference's phase, or through a network (TAC)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontends import FRONT_ENDS, FrontEndOutput, FrontEndSizes, LeveledFrontEnd

_FAINTEST = 1e-4
"""Fainter bins are not raised further by compression."""


@FRONT_ENDS.register("stft")
class StftFrontEnd(LeveledFrontEnd):
    """Real parts of all microphones, then imaginary parts, at unit RMS at the reference.

    What SpatialNet (Quan and Li, IEEE/ACM TASLP 32, 2024), TF-GridNet (Wang et al., IEEE/ACM TASLP 31, 2023) and
    FT-JNF (Tesch and Gerkmann, IEEE/ACM TASLP 31, 2023) see. It keeps the phase from frame to frame, by which sound
    can be told from its own reverberation; front ends that turn every bin by the reference's phase lose it.

    Args:
        sizes: what its sizes follow from.
        compression: exponent of the magnitudes; a half brings loud and faint bins closer together, phases stay.
        relative: the features of ``real_imaginary`` besides, which show phases between microphones without a product
            having to be learned (as Wang, Le Roux and Hershey, "Multi-channel deep clustering", ICASSP 2018, have it).
        causal: levels of bins are those of the frames so far.
        time_constant_s: of these levels; null for a mean over all frames so far.
    """

    array_bound = True
    keeps_phase = True

    def __init__(
        self,
        sizes: FrontEndSizes,
        compression: float = 1.0,
        relative: bool = False,
        causal: bool = False,
        time_constant_s: float | None = None,
    ) -> None:
        super().__init__(sizes, causal, time_constant_s)
        if not 0.0 < compression <= 1.0:
            raise ValueError(f"compression is {compression}, expected above 0 to 1")
        self.compression, self.relative = compression, relative
        self.features_out = (4 if relative else 2) * sizes.geometry.microphones + relative

    def output(self, spectrum: Tensor, leveled: Tensor, level: Tensor) -> FrontEndOutput:
        """Of the spectrum whose bins at the reference have unit RMS."""
        return FrontEndOutput(spectrum, self.features(spectrum / level[:, None]), None, level, keeps_phase=True)

    def features(self, leveled: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, feature)`` of a leveled spectrum ``(batch, mic, freq, frame)``."""
        relative = relative_parts(leveled, self.geometry.reference) if self.relative else []
        if self.compression < 1.0:
            leveled = leveled * leveled.abs().clamp_min(_FAINTEST).pow(self.compression - 1.0)
        return torch.cat([leveled.real, leveled.imag, *relative], dim=1).permute(0, 2, 3, 1)


@FRONT_ENDS.register("real_imaginary")
class RealImaginaryFrontEnd(LeveledFrontEnd):
    """Parts are turned so that the reference's phase is zero; the level of each bin is kept as its logarithm."""

    array_bound = True

    def __init__(self, sizes: FrontEndSizes, causal: bool = False, time_constant_s: float | None = None) -> None:
        super().__init__(sizes, causal, time_constant_s)
        self.features_out = 2 * sizes.geometry.microphones + 1

    def features(self, leveled: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, feature)`` of a leveled spectrum ``(batch, mic, freq, frame)``."""
        return torch.cat(relative_parts(leveled, self.geometry.reference), dim=1).permute(0, 2, 3, 1)


def relative_parts(spectrum: Tensor, reference: int) -> list[Tensor]:
    """Parts ``(batch, mic, freq, frame)`` relative to the reference, squashed below 1, and its log level."""
    at_reference = spectrum[:, reference : reference + 1]
    magnitude = at_reference.abs()
    relative = spectrum * (at_reference.conj() / magnitude.clamp_min(1e-8).square())
    squashed = relative / (1.0 + relative.abs())
    return [squashed.real, squashed.imag, torch.log1p(magnitude)]


@FRONT_ENDS.register("tac")
class TACFrontEnd(LeveledFrontEnd):
    """One network for all channels, any number of them, which learn of each other by their mean alone.

    Luo et al., "End-to-end microphone permutation and number invariant multi-channel speech separation", ICASSP 2020;
    channels are waveforms there, here a bin's phase and level relative to the reference, and a place.

    A channel enters as real and imaginary part relative to the reference; as the same with the phase taken out that a
    wave from each of some directions would have there, so that their mean over channels is a beam; and as coordinates,
    which alone teach nothing within hundreds of steps. The features of a bin are the mean over channels and the level
    at the reference. Bins do not mix, and every array gives the same number of features.

    Args:
        hidden: width of a channel within.
        blocks: number of transform-average-concatenate blocks.
        directions: azimuths, evenly over the circle, that phases are compared with.
        features: of a bin, besides the level.
    """

    array_bound = False
    steering: Tensor

    def __init__(
        self,
        sizes: FrontEndSizes,
        hidden: int = 32,
        blocks: int = 2,
        directions: int = 12,
        features: int = 48,
        causal: bool = False,
        time_constant_s: float | None = None,
    ) -> None:
        super().__init__(sizes, causal, time_constant_s)
        classes = len(sizes.geometry.steering)
        if not 1 <= directions <= classes:
            raise ValueError(f"directions is {directions}, expected 1 to {classes} (DoA classes)")
        self.features_out = features + 1
        self.directions = directions
        self.register_buffer("steering", None, persistent=False)
        self.use_geometry()
        self.enter = nn.Linear(2 + 2 * directions, hidden)
        self.place = nn.Linear(3, hidden, bias=False)
        self.blocks = nn.ModuleList(_Tac(hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, features)

    def use_geometry(self) -> None:
        """Choose steering vectors from the geometry, which may have changed."""
        steering = self.geometry.steering
        chosen = torch.arange(self.directions, device=steering.device) * len(steering) // self.directions
        self.steering = steering[chosen].permute(0, 2, 1).conj().resolve_conj()

    def features(self, leveled: Tensor) -> Tensor:
        """Features ``(batch, freq, frame, feature)`` of a leveled spectrum ``(batch, mic, freq, frame)``."""
        real, imaginary, log_level = relative_parts(leveled, self.geometry.reference)
        phase = torch.complex(real, imaginary)
        turned = phase[:, None] * self.steering[..., None]
        parts = torch.cat([real[:, None], imaginary[:, None], turned.real, turned.imag], dim=1)
        place = self.place(10.0 * self.geometry.positions)[:, None, None]  # in decimeters, near 1 for small arrays
        x = self.enter(parts.permute(0, 2, 3, 4, 1)) + place
        for block in self.blocks:
            x = block(x)
        features = torch.relu(self.leave(x.mean(1)))
        return torch.cat([features, log_level.permute(0, 2, 3, 1)], dim=-1)


class _Tac(nn.Module):
    """A channel is transformed, meets the transformed mean of all, and both are added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform, self.average = nn.Linear(width, width), nn.Linear(width, width)
        self.concatenate = nn.Linear(2 * width, width)
        self.slopes = nn.ModuleList(nn.PReLU() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, mic, freq, frame, width)`` to the same."""
        own = self.slopes[0](self.transform(x))
        mean = self.slopes[1](self.average(own.mean(1, keepdim=True))).expand_as(own)
        both: Tensor = self.slopes[2](self.concatenate(torch.cat([own, mean], dim=-1)))
        return x + both
