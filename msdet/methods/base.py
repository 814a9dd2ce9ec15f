"""What every separation method is: a function from a mixture to a `Separation`, or an `Oracle`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.components import Registry
from msdet.conventions import Array
from msdet.dsp.spatial import fold_map, mirror_to_left, pick_peaks, wrap_azimuth
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError

ORACLE = "oracle"  # value of options (``doa``, ``masks``) that stands for the truth

VOICES, AZIMUTHS = "voices", "azimuths"
"""What ``finds`` of a registration may hold: what a method estimates by itself, voices if not given."""

METHODS = Registry("method", "msdet.methods")
"""Functions ``(array, sample_rate, talkers, **options)`` that return a `Separator` or an `Oracle`."""


@dataclass(frozen=True)
class Separation:
    """A recording, or a block of one, separated into talkers; None is what a system does not give.

    Attributes:
        estimates: ``(talker, time)`` float32 at the reference microphone, ascending in azimuth where given.
        azimuth_deg: ``(talker,)`` in the array's frame, [0, 360), in the order of `estimates`.
        confidence: ``(talker,)`` in [0, 1]: of a model, the probability around each azimuth.
        elevation_deg: ``(talker,)``.
        activity: ``(talker, frame)``, probability that each speaks, in frames evenly over the recording.
        track_deg: azimuths ``(talker, frame)`` likewise; NaN where a talker is silent.
        track_confidence: confidences ``(talker, frame)`` likewise.
        track_elevation_deg: elevations ``(talker, frame)`` likewise.
        time_s: centers ``(frame,)`` of the frames.
        warnings: what should be known: faults of channels, what is far from training, doubts about the count.
    """

    estimates: Array | None = None
    azimuth_deg: Array | None = None
    confidence: Array | None = None
    elevation_deg: Array | None = None
    activity: Array | None = None
    track_deg: Array | None = None
    track_confidence: Array | None = None
    track_elevation_deg: Array | None = None
    time_s: Array | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = self._counts()
        if not counts.keys() & {"estimates", "azimuth_deg", "activity"} or len(set(counts.values())) > 1:
            found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
            raise MsdetError(f"a separation has {found}, expected estimates or azimuth_deg, one a talker")

    @property
    def count(self) -> int:
        """Number of talkers."""
        return next(iter(self._counts().values()))

    @property
    def frame_s(self) -> float:
        """Length of a frame of `activity` and tracks in seconds; 0 where there are no times."""
        return 0.0 if self.time_s is None or not len(self.time_s) else 2.0 * float(self.time_s[0])

    def _counts(self) -> dict[str, int]:
        values = {name: value for name, value in vars(self).items() if name not in ("time_s", "warnings")}
        return {name: len(value) for name, value in values.items() if value is not None}


Separator = Callable[[Array], Separation]
"""Separates a mixture ``(mic, time)``."""


@dataclass(frozen=True)
class OracleInput:
    """The truth that an oracle is given: references ``(talker, time)`` at the reference microphone, and azimuths."""

    references: Array
    azimuth_deg: Array


@dataclass(frozen=True)
class Oracle:
    """A separator of mixtures ``(mic, time)`` that uses the truth, which only a simulated set has."""

    separate: Callable[[Array, OracleInput], Separation]


def spectrum_of(stft: Stft, signals: Array) -> Tensor:
    """Signals ``(channel, time)`` as a batch of one, complex ``(1, channel, freq, frame)``."""
    spectrum: Tensor = stft(torch.from_numpy(signals)[None])
    return spectrum


def waveforms_of(stft: Stft, spectrum: Tensor, mixture: Array) -> Array:
    """Voices ``(talker, time)``, as long as the mixture, of a batch of one."""
    waveforms: Array = stft.inverse(spectrum, mixture.shape[-1])[0].numpy()
    return waveforms


def find_peaks(response: Tensor, talkers: int, array: MicrophoneArray, first_deg: float = 0.0) -> Tensor:
    """Azimuths ``(batch, talker)``, ascending, of the highest peaks of a response ``(batch, direction)``.

    The directions are evenly over the circle from `first_deg`. Of an array whose resolvable domain is half the circle,
    the peaks are those counter-clockwise from its axis.
    """
    axis_deg = array.mirror_axis_deg
    if axis_deg is None:
        return wrap_azimuth(pick_peaks(response, talkers) + first_deg).sort(dim=-1).values
    peaks = pick_peaks(fold_map(response, axis_deg, first_deg), talkers) + first_deg
    return mirror_to_left(peaks, axis_deg).sort(dim=-1).values


def check_talkers(method: str, talkers: int, most: int) -> None:
    """Refuse a number of talkers that a method cannot find."""
    if not 1 <= talkers <= most:
        raise MsdetError(f"talkers is {talkers}, expected 1 to {most} for {method} with this array")
