"""What levels tell of channels: dead, clipped, offset or weak ones, and copies of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from msdet.conventions import Array
from msdet.diagnostics.findings import Finding, silent_finding
from msdet.inference.sources import ChannelSums, RecordingSource, check_length

GAIN_DB = 10.0
"""A channel that differs by more from the median channel is told: microphones differ by 1 to 3 dB, and a near
talker adds some."""

COPY = 0.9999
"""Correlation from which on two channels may be the same signal."""


@dataclass
class Totals:
    """What is summed up over recordings.

    Attributes:
        sums: by channel.
        products: ``(mic, mic)``.
        samples: length of each recording.
    """

    sums: ChannelSums = field(default_factory=ChannelSums)
    products: Array | float = 0.0
    samples: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, sources: Sequence[RecordingSource]) -> Totals:
        """Of recordings of the same channels.

        Raises:
            MsdetError: one that cannot be read, or is too short.
        """
        totals = cls()
        for source in sources:
            before = totals.sums.samples
            for piece in source.pieces():
                totals.sums.add(piece)
                wide = piece.astype(np.float64)
                totals.products = totals.products + wide @ wide.T
            totals.samples.append(totals.sums.samples - before)
            check_length(source, totals.samples[-1])
        return totals

    def correlated(self) -> list[tuple[int, int]]:
        """Pairs of channels that may be copies of each other."""
        mean, power = self.sums.mean, self.sums.power
        covariance = np.asarray(self.products) / self.sums.samples - np.outer(mean, mean)
        size = np.sqrt(np.outer(power, power))
        same = (np.abs(covariance) >= COPY * size) & (size > 0)
        return [(int(a), int(b)) for a, b in np.argwhere(np.triu(same, 1))]


def level_findings(sums: ChannelSums) -> list[Finding]:
    """Dead, clipped, offset and weak or strong channels."""
    level_db = 10 * np.log10(np.maximum(sums.power, 1e-20))
    alive = [channel for channel in range(len(level_db)) if channel not in sums.dead]
    if not alive:
        return [silent_finding(len(level_db))]
    relative_db = level_db - np.median(level_db[alive])
    found = [_dead(channel, float(sums.power[channel]), float(relative_db[channel])) for channel in sums.dead]
    for channel in np.flatnonzero(sums.clipped_share).tolist():
        share = float(sums.clipped_share[channel])
        text = f"channel {channel} is clipped ({100 * share:.2g} % of its samples); turn its gain down"
        found.append(Finding("clipped", (channel,), text, share))
    for channel in np.flatnonzero(sums.offset).tolist():
        if channel not in sums.dead:
            mean = float(sums.mean[channel])
            text = (
                f"channel {channel} has a DC offset of {mean:+.3g} of full scale; msdet takes it away, but "
                "look at its input"
            )
            found.append(Finding("offset", (channel,), text, mean))
    for channel in np.flatnonzero(np.abs(relative_db) > GAIN_DB).tolist():
        if channel not in sums.dead:
            gain_db = float(relative_db[channel])
            how = "stronger" if gain_db > 0 else "weaker"
            text = f"channel {channel} is {abs(gain_db):.0f} dB {how} than the median channel; set gains alike"
            found.append(Finding("gain", (channel,), text, gain_db))
    return found


def _dead(channel: int, power: float, relative_db: float) -> Finding:
    how = f"{-relative_db:.0f} dB below the median channel" if power > 0 else "no signal at all"
    text = f"channel {channel} is dead ({how}); look at its cable, its microphone's power and the input"
    return Finding("dead", (channel,), text, relative_db if power > 0 else None)
