"""What can be wrong with a channel, in words: one line each, with the evidence and what to do.

Levels alone tell dead, clipped, offset and weak channels and copies (`add_up`, `level_findings`); the rest is
where the wiring that explains the delays best differs from the described one (`wiring_findings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.arrays.recorded import list_channels
from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.diagnostics.fit import Fit, Wiring
from msdet.diagnostics.search import alternatives, compare
from msdet.inference.channel_faults import ChannelWatch
from msdet.inference.sources import ChannelSums, RecordingSource, check_length

GAIN_DB = 10.0
"""A channel that differs by more from the median channel is reported: microphones differ by 1 to 3 dB, and a
near talker adds some."""

COPY = 0.9999  # correlation from which on two channels may be the same signal

LEVEL_S = 0.1  # length of the frames whose levels are compared
LOUD_DB = 30.0  # of those, down to this below the loud ones
MIN_FRAMES = 30

Kind = Literal[
    "dead", "clipped", "offset", "gain", "copy", "processed", "inverted", "delayed", "swapped", "reordered",
    "coincident", "unexplained", "late", "slipped", "drifting",
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A fault."""

    kind: Kind  # what sort of fault
    channels: tuple[int, ...]  # those concerned
    text: str  # one line: which, the evidence, what to do
    value: float | None = None  # size: delay in seconds, gain or level in dB, share of clipped samples, offset, ppm
    agree: float | None = None  # share of the moments of the recording that say so; None where levels do
    alternatives: tuple[tuple[int, int], ...] = ()  # other swaps that sound the same


def wiring_findings(fit: Fit, wiring: Wiring, channels: Sequence[int]) -> list[Finding]:
    """Where the wiring that explains a recording best differs from the described one.

    `channels` are the numbers in the recording of those that were fitted.
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
    explained, agree = _explained(fit, wiring, wiring.inverted(channel))
    number = channels[channel]
    text = (
        f"channel {number} is inverted against the others: {explained}; "
        "reverse its polarity (pins 2 and 3 of an XLR plug, or the samples' sign)"
    )
    return Finding("inverted", (number,), text, agree=agree)


def _delayed(fit: Fit, wiring: Wiring, channel: int, channels: Sequence[int]) -> Finding:
    delay_s = float(wiring.delay_s[channel])
    explained, agree = _explained(fit, wiring, wiring.delayed(channel, -delay_s))
    number, way_cm = channels[channel], 100 * SPEED_OF_SOUND * abs(delay_s)
    do = "record it with the same converter and clock as the others"
    if way_cm < 10.0:
        do += f", or look whether its microphone is {way_cm:.1f} cm from where the array has it"
    text = (
        f"channel {number} is {1000 * abs(delay_s):.2f} ms {'late' if delay_s > 0 else 'early'} whoever "
        f"talks: {explained}; {do}"
    )
    return Finding("delayed", (number,), text, delay_s, agree)


def _exchanged(fit: Fit, wiring: Wiring, cycle: Sequence[int], channels: Sequence[int]) -> Finding:
    order = wiring.order.copy()
    order[list(cycle)] = cycle
    explained, agree = _explained(fit, wiring, replace(wiring, order=order))
    numbers = tuple(channels[c] for c in cycle)
    if len(cycle) > 2:
        carried = ", ".join(f"{channels[c]} carries microphone {channels[wiring.order[c]]}" for c in cycle)
        text = (
            f"channels {', '.join(map(str, sorted(numbers)))} are in another order ({carried}): "
            f"{explained}; change the plugs, or the order of positions_m in the array's file"
        )
        return Finding("reordered", numbers, text, agree=agree)
    others = tuple((channels[a], channels[b]) for a, b in alternatives(fit, wiring, cycle[0], cycle[1]))
    instead = "".join(f", or {a} and {b}" for a, b in others)
    alike = " (which sounds the same)" if others else ""
    text = (
        f"channels {numbers[0]} and {numbers[1]}{instead} are swapped{alike}: {explained}; swap their plugs, "
        "or their lines of positions_m in the array's file"
    )
    return Finding("swapped", numbers, text, agree=agree, alternatives=others)


def _explained(fit: Fit, wiring: Wiring, without: Wiring) -> tuple[str, float]:
    """How much better one wiring fits than another, in words, and at what share of the moments."""
    agree = compare(fit, wiring, without).agree
    possible = float(fit.unconstrained(wiring).mean())
    now, then = (100 * float(fit.quality(w).mean()) / possible for w in (without, wiring))
    words = f"directions explain {max(now, 0.0):.0f} % of the delays, and {then:.0f} % otherwise "
    return words + f"(at {100 * agree:.0f} % of the moments more)", agree


class FrameLevels:
    """Levels of channels in short frames, high frequencies raised: rumble says little of a microphone."""

    def __init__(self) -> None:
        self._frames: list[Array] = []

    def add(self, piece: Array, sample_rate: int) -> None:
        """Add the next piece ``(mic, time)``; what is left after its last whole frame does not count."""
        frame = round(LEVEL_S * sample_rate)
        whole = (piece.shape[-1] - 1) // frame * frame
        if whole > 0:
            frames = np.diff(piece[:, : whole + 1], axis=-1).reshape(len(piece), -1, frame)
            self._frames.append(10 * np.log10(np.square(frames).mean(axis=-1) + 1e-12))

    def moves_db(self, channels: Sequence[int]) -> Array:
        """How much the level of each of some channels moves ``(mic,)``, in a way that the others' levels do not tell.

        Microphones near to each other hear one talker louder than another at most, which a few of them tell of all;
        gain control and noise suppression follow the speech. Half of the range that most frames are in; 0 without
        enough of them.
        """
        frames_db = np.concatenate([f[list(channels)] for f in self._frames] or [np.zeros((len(channels), 0))], axis=-1)
        if frames_db.shape[-1] < MIN_FRAMES:
            return np.zeros(len(channels))
        middle_db = np.median(frames_db, axis=0)
        loud = middle_db > np.quantile(middle_db, 0.95) - LOUD_DB
        apart_db = (frames_db - middle_db)[:, loud]
        apart_db -= np.median(apart_db, axis=1, keepdims=True)
        moves = []
        for c, own in enumerate(apart_db):
            others = np.delete(apart_db, c, axis=0)
            normal = others @ others.T + 0.05 * loud.sum() * np.eye(len(others))  # weights of noise stay small
            low, high = np.quantile(own - np.linalg.solve(normal, others @ own) @ others, (0.16, 0.84))
            moves.append((high - low) / 2)
        return np.array(moves)


def add_up(
    sources: Sequence[RecordingSource], array: MicrophoneArray | None = None
) -> tuple[ChannelSums, Array, FrameLevels, list[int], list[Finding]]:
    """Sums over recordings, whether two channels may be copies, bool ``(mic, mic)``, levels, samples of each, faults.

    The faults are those of an array, if it is known, for a while or more and more; channels have the file's numbers.
    """
    sums, products, levels, samples = ChannelSums(), np.zeros(()), FrameLevels(), []
    found: list[Finding] = []
    for source in sources:
        before = sums.samples
        watch = ChannelWatch(array, source.sample_rate, source.numbers) if array else None
        for piece in source.pieces():
            sums.add(piece)
            levels.add(piece, source.sample_rate)
            if watch:
                watch.add(piece)
            wide = piece.astype(np.float64)
            products = products + wide @ wide.T
        samples.append(sums.samples - before)
        check_length(source, samples[-1])
        of = f"{source.name}: " if len(sources) > 1 else ""
        for fault in watch.faults() if watch else ():
            numbers = tuple(source.numbers[c] for c in fault.channels)
            found.append(Finding(fault.kind, numbers, of + fault.text, fault.value))
    covariance = products / sums.samples - np.outer(sums.mean, sums.mean)
    size = np.sqrt(np.outer(sums.power, sums.power))
    same = (np.abs(covariance) >= COPY * size) & (size > 0)
    return sums, same, levels, samples, found


def level_findings(sums: ChannelSums, numbers: Sequence[int]) -> list[Finding]:
    """Dead, clipped, offset and weak or strong channels, called by their numbers in the recording."""
    level_db = 10 * np.log10(np.maximum(sums.power, 1e-20))
    alive = [channel for channel in range(len(level_db)) if channel not in sums.dead]
    if not alive:
        text = f"channels {list_channels(numbers)} are all dead (no signal at all); look which input was recorded"
        return [Finding("dead", tuple(numbers), text)]
    relative_db = level_db - np.median(level_db[alive])
    found = []
    for channel in sums.dead:
        below_db = float(relative_db[channel]) if sums.power[channel] > 0 else None
        how = "no signal at all" if below_db is None else f"{-below_db:.0f} dB below the median channel"
        text = f"channel {numbers[channel]} is dead ({how}); look at its cable, its microphone's power and the input"
        found.append(Finding("dead", (numbers[channel],), text, below_db))
    for channel in np.flatnonzero(sums.clipped_share).tolist():
        share = float(sums.clipped_share[channel])
        text = f"channel {numbers[channel]} is clipped ({100 * share:.2g} % of its samples); turn its gain down"
        found.append(Finding("clipped", (numbers[channel],), text, share))
    for channel in alive:
        mean, gain_db = float(sums.mean[channel]), float(relative_db[channel])
        if sums.offset_told[channel]:
            text = (
                f"channel {numbers[channel]} has a DC offset of {mean:+.3g} of full scale; msdet takes it away, but "
                "look at its input"
            )
            found.append(Finding("offset", (numbers[channel],), text, mean))
        if abs(gain_db) > GAIN_DB:
            how = "stronger" if gain_db > 0 else "weaker"
            text = f"channel {numbers[channel]} is {abs(gain_db):.0f} dB {how} than the median channel; set gains alike"
            found.append(Finding("gain", (numbers[channel],), text, gain_db))
    return found
