"""What every separation method is: from a mixture to a `Separation`, or told the truth as an `Oracle`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msdet.components import Registry
from msdet.conventions import Array
from msdet.errors import MsdetError

ORACLE = "oracle"
"""Value of options (``doa``, ``masks``) that stands for the truth."""

VOICES, AZIMUTHS = "voices", "azimuths"
"""What a baseline's ``FINDS`` may hold: what it finds without being told; voices where a module has none."""


METHODS = Registry("method", "msdet.methods")


@dataclass(frozen=True)
class OracleInput:
    """What an oracle is told.

    Attributes:
        references: ``(talker, time)`` at the reference microphone.
        azimuth_deg: ``(talker,)`` in the array's frame, in the order of `references`.
    """

    references: Array
    azimuth_deg: Array


@dataclass(frozen=True)
class Oracle:
    """A separator that is told the truth; only a simulated set has it.

    Attributes:
        separate: separates a mixture ``(mic, time)``, knowing the truth.
    """

    separate: Callable[[Array, OracleInput], Separation]


def check_talkers(method: str, talkers: int, most: int) -> None:
    """Refuse a number of talkers that a method cannot find.

    Raises:
        MsdetError: not from 1 to `most`.
    """
    if not 1 <= talkers <= most:
        raise MsdetError(f"talkers is {talkers}, expected 1 to {most} for {method} with this array")


def check_at_least_one(option: str, value: int) -> None:
    """Refuse an option that counts something and is 0 or negative.

    Raises:
        MsdetError: names the option.
    """
    if value < 1:
        raise MsdetError(f"{option} is {value}, expected at least 1")


@dataclass(frozen=True)
class Separation:
    """What was found in a recording: voices, azimuths, or both; None is what a system does not give.

    Attributes:
        estimates: ``(talker, time)`` float32 at the reference microphone, ascending in azimuth where given.
        azimuth_deg: ``(talker,)`` in the array's frame, in the order of `estimates`.
        confidence: ``(talker,)`` in [0, 1]: of a model, the probability around each azimuth.
        elevation_deg: ``(talker,)``.
        activity: ``(talker, frame)``, probability that each speaks, in frames evenly over the recording.
        track_deg: azimuths ``(talker, frame)`` likewise.
    """

    estimates: Array | None = None
    azimuth_deg: Array | None = None
    confidence: Array | None = None
    elevation_deg: Array | None = None
    activity: Array | None = None
    track_deg: Array | None = None

    def __post_init__(self) -> None:
        given = {name: len(v) for name, v in vars(self).items() if v is not None}
        if not given.keys() & {"estimates", "azimuth_deg"} or len(set(given.values())) > 1:
            found = ", ".join(f"{count} {name}" for name, count in given.items()) or "nothing"
            raise MsdetError(f"a separation has {found}, expected estimates or azimuth_deg, one a talker")

    @property
    def count(self) -> int:
        """Number of talkers."""
        return next(len(v) for v in vars(self).values() if v is not None)


Separator = Callable[[Array], Separation]
"""Separates a mixture ``(mic, time)``."""
