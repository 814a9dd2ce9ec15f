"""What can be wrong with a channel, in words: one line each, with the evidence and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msdet.conventions import SPEED_OF_SOUND
from msdet.diagnostics.fit import Fit, Wiring
from msdet.diagnostics.search import Evidence, alternatives, compare

Kind = Literal[
    "dead", "clipped", "offset", "gain", "copy", "inverted", "delayed", "swapped", "reordered", "unexplained"
]


@dataclass(frozen=True)
class Finding:
    """A fault.

    Attributes:
        kind: what sort of fault.
        channels: those concerned.
        text: one line: which, the evidence, what to do.
        value: size of the fault: delay in seconds, gain or level in dB, share of clipped samples, offset.
        agree: share of the moments of the recording that say so; None where levels do.
        alternatives: other swaps that sound the same.
    """

    kind: Kind
    channels: tuple[int, ...]
    text: str
    value: float | None = None
    agree: float | None = None
    alternatives: tuple[tuple[int, int], ...] = ()


def silent_finding(channels: int) -> Finding:
    """So many channels, and nothing on any of them."""
    text = f"channels 0 to {channels - 1} are all dead (no signal at all); look which input was recorded"
    return Finding("dead", tuple(range(channels)), text)


def copy_finding(channels: Sequence[int]) -> Finding:
    """Two or more channels that carry one signal."""
    *others, last = map(str, channels)
    text = f"channels {', '.join(others)} and {last} carry the same signal; look which input is routed twice"
    return Finding("copy", tuple(channels), text)


def deaf_finding(channel: int) -> Finding:
    """A channel with a level, but without anything of what the others hear."""
    text = (
        f"channel {channel} hears nothing of what the others hear (noise alone, or another clock); look at "
        "its cable and microphone"
    )
    return Finding("dead", (channel,), text)


def unexplained_finding(array: str, share: float) -> Finding:
    """Delays that no wiring of the array explains."""
    text = (
        f"the delays between channels do not fit the array '{array}' (directions explain {100 * share:.0f} % "
        "of what delays of any size would): look whether it is this array, in this order, in meters"
    )
    return Finding("unexplained", (), text, share)


def wiring_findings(fit: Fit, wiring: Wiring, channels: Sequence[int]) -> list[Finding]:
    """Where a wiring differs from the described one.

    Args:
        fit: of the recording.
        wiring: that explains it best.
        channels: ``(channel,)`` numbers in the recording of those that were fitted.
    """
    found = [_inverted(fit, wiring, c, channels) for c in np.flatnonzero(wiring.sign < 0).tolist()]
    found += [_delayed(fit, wiring, c, channels) for c in np.flatnonzero(wiring.delay_s).tolist()]
    left = set(np.flatnonzero(wiring.order != np.arange(fit.channels)).tolist())
    while left:
        cycle = [min(left)]
        while (carried := int(wiring.order[cycle[-1]])) != cycle[0]:
            cycle.append(carried)
        left -= set(cycle)
        found.append(_exchanged(fit, wiring, cycle, channels))
    return found


def _inverted(fit: Fit, wiring: Wiring, channel: int, channels: Sequence[int]) -> Finding:
    without = wiring.inverted(channel)
    evidence = compare(fit, wiring, without)
    number = channels[channel]
    text = (
        f"channel {number} is inverted against the others: {_explained(fit, wiring, without, evidence)}; "
        "reverse its polarity (pins 2 and 3 of an XLR plug, or the samples' sign)"
    )
    return Finding("inverted", (number,), text, agree=evidence.agree)


def _delayed(fit: Fit, wiring: Wiring, channel: int, channels: Sequence[int]) -> Finding:
    delay_s = float(wiring.delay_s[channel])
    without = wiring.delayed(channel, -delay_s)
    evidence = compare(fit, wiring, without)
    number, way_cm = channels[channel], 100 * SPEED_OF_SOUND * abs(delay_s)
    do = "record it with the same converter and clock as the others"
    if way_cm < 10.0:
        do += f", or look whether its microphone is {way_cm:.1f} cm from where the array has it"
    text = (
        f"channel {number} is {1000 * abs(delay_s):.2f} ms {'late' if delay_s > 0 else 'early'} whoever "
        f"talks: {_explained(fit, wiring, without, evidence)}; {do}"
    )
    return Finding("delayed", (number,), text, delay_s, evidence.agree)


def _exchanged(fit: Fit, wiring: Wiring, cycle: Sequence[int], channels: Sequence[int]) -> Finding:
    order = wiring.order.copy()
    order[list(cycle)] = cycle
    without = Wiring(order, wiring.sign, wiring.delay_s)
    evidence = compare(fit, wiring, without)
    explained = _explained(fit, wiring, without, evidence)
    numbers = tuple(channels[c] for c in cycle)
    if len(cycle) > 2:
        carried = ", ".join(f"{channels[c]} carries microphone {channels[wiring.order[c]]}" for c in cycle)
        text = (
            f"channels {', '.join(map(str, sorted(numbers)))} are in another order ({carried}): "
            f"{explained}; change the plugs, or the order of positions_m in the array's file"
        )
        return Finding("reordered", numbers, text, agree=evidence.agree)
    others = tuple((channels[a], channels[b]) for a, b in alternatives(fit, wiring, cycle[0], cycle[1]))
    instead = "".join(f", or {a} and {b}" for a, b in others)
    alike = " (which sounds the same)" if others else ""
    text = (
        f"channels {numbers[0]} and {numbers[1]}{instead} are swapped{alike}: {explained}; swap their plugs, "
        "or their lines of positions_m in the array's file"
    )
    return Finding("swapped", numbers, text, agree=evidence.agree, alternatives=others)


def _explained(fit: Fit, wiring: Wiring, without: Wiring, evidence: Evidence) -> str:
    """How much better one wiring fits than another, in words."""
    possible = float(fit.unconstrained(wiring).mean())
    now, then = (100 * float(fit.quality(w).mean()) / possible for w in (without, wiring))
    return (
        f"directions explain {max(now, 0.0):.0f} % of the delays, and {then:.0f} % otherwise "
        f"(at {100 * evidence.agree:.0f} % of the moments more)"
    )
