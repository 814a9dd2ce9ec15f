"""What `msdet live` shows in the terminal: level meters, where the talkers are, what is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from msdet.conventions import Array

_REFRESHES_HZ = 8
_METER, _COMPASS = 30, 72
_QUIETEST_DB = -60.0
CLIPPED = 0.999  # peaks from here on are clipped: the largest 16-bit sample is a little below full scale


@dataclass(frozen=True)
class Shown:
    """What is shown at a time."""

    seconds: float  # that were heard
    peak: Array  # of each channel since the last time, (mic,), full scale 1
    azimuth_deg: Sequence[float]  # of each slot
    confidence: Sequence[float]  # of each slot
    active: Sequence[bool]  # who speaks, bool
    overruns: int  # so far
    busy: float  # seconds of computing a second of sound takes


def meter(peak: float) -> str:
    """A bar for a peak, full scale 1, over 60 dB.

    >>> meter(1.0).strip("█"), len(meter(0.001)), meter(0.0316)
    (' CLIP', 30, '███████████████               ')
    """
    level_db = 20.0 * np.log10(max(peak, 1e-9))
    filled = round(_METER * float(np.clip(1.0 - level_db / _QUIETEST_DB, 0.0, 1.0)))
    return "█" * filled + " " * (_METER - filled) + (" CLIP" if peak >= CLIPPED else "")


def compass(azimuth_deg: Sequence[float], active: Sequence[bool]) -> str:
    """The circle as a line from 0 to 360 degrees: a talker's number where it speaks, else a dot.

    >>> compass([0.0, 182.0], [True, False]).replace("─", "")
    '1·'
    >>> compass([359.9], [True]).index("1")
    0
    """
    line = ["─"] * _COMPASS
    for slot, (azimuth, speaks) in enumerate(zip(azimuth_deg, active, strict=True)):
        line[round(azimuth * _COMPASS / 360.0) % _COMPASS] = str(slot + 1) if speaks else "·"
    return "".join(line)


def lines(shown: Shown) -> list[str]:
    """All that is shown."""
    rows = [f"channel {n:2d} |{meter(float(peak)):<35}" for n, peak in enumerate(shown.peak)]
    rows += ["", f"0° {compass(shown.azimuth_deg, shown.active)} 360°"]
    for slot, azimuth in enumerate(shown.azimuth_deg):
        speaks = "speaks" if shown.active[slot] else "silent"
        rows.append(f"slot {slot + 1}  {azimuth:5.1f}°  confidence {shown.confidence[slot]:.2f}  {speaks}")
    lost = f"{shown.overruns} overrun{'s' * (shown.overruns != 1)}"
    return [*rows, "", f"{shown.seconds:7.1f} s  {lost}  busy {100 * shown.busy:.0f} %  Ctrl-C ends"]


@contextmanager
def display() -> Iterator[Callable[[Callable[[], Shown]], None]]:
    """Yield a function that shows what another one gives, now and then; nothing without a terminal."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda shown: None
        return
    with Live(console=console, refresh_per_second=_REFRESHES_HZ, transient=True) as live:
        yield lambda shown: live.update(Text("\n".join(lines(shown()))))
