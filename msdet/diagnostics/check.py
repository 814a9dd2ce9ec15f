"""Is an array plugged in as its description says? Faults of channels, found from a recording of speech.

Levels alone tell dead, clipped and offset channels and copies. For the rest the delays between channels must
be explained by one direction at each moment: a channel that is inverted, delayed or on another microphone's
plug contradicts the others at all moments, whoever talks from wherever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, azimuth_elevation_deg
from msdet.diagnostics.findings import Finding, add_up, level_findings, wiring_findings
from msdet.diagnostics.fit import MAX_DELAY_S, MIN_MOMENTS, Fit, Moments, Wiring, moments
from msdet.diagnostics.odd import deaf_finding, left_out, odd_findings
from msdet.diagnostics.search import Hidden, find_wiring, hidden_faults
from msdet.errors import MsdetError
from msdet.inference.sources import RecordingSource, check_channels

MAX_MICROPHONES = 64  # of an array that is checked
UNEXPLAINED = 0.6  # below this share of the fit without geometry, delays are not those of the array
DEAF = 0.25  # a channel that correlates less with the others, against the median channel, hears something else
NOISE = 0.045  # fit without geometry below which there is nothing in common at all: noise gives 0.035
COHERENT = 0.08  # fit without geometry from which on channels have something in common; noise of their own gives half
_APART_DEG = 20.0


@dataclass(frozen=True)
class ArrayReport:
    """What was found."""

    array: MicrophoneArray  # that was checked
    seconds: float  # length of the recordings
    moments: int  # number of moments that were looked at
    azimuths_deg: tuple[float, ...]  # that sound came from at those, ascending, 20 degrees apart at least
    fit: float | None  # how well one direction explains the delays of a moment, against no geometry at all; at most 1
    findings: tuple[Finding, ...]  # the faults
    hidden: Hidden | None  # faults that the recordings would not show; None if they do not tell anything of delays
    symmetric: bool  # whether the whole order of channels could be rotated or mirrored without a sign of it

    @property
    def enough(self) -> bool:
        """Whether any inverted channel would have shown, the least that speech must tell, and some swap or delay."""
        if self.hidden is None or self.hidden.inverted:
            return False
        swapped = {channel for pair in self.hidden.swapped for channel in pair}
        return min(len(swapped), len(self.hidden.delayed)) < self.array.microphones

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the recordings cannot tell, in a sentence each."""
        if any(finding.kind == "coincident" for finding in self.findings):
            return ()
        if self.hidden is None:
            return ("anything of delays: not enough speech, or other sound that several channels share",)
        if not self.enough:
            channels = _listed(self.hidden.inverted or self.hidden.delayed)
            return (f"anything sure of channels {channels}: not enough speech from one direction at a time",)
        doubts = []
        if self.hidden.swapped:
            pairs = _listed(f"{a} and {b}" for a, b in self.hidden.swapped)
            doubts.append(
                f"whether channels {pairs} are swapped: with sound from these directions that makes too "
                "little difference, or is a mirror image; talk from elsewhere"
            )
        if self.hidden.delayed:
            doubts.append(f"whether channels {_listed(self.hidden.delayed)} are late by 0.1 ms")
        if self.symmetric:
            doubts.append(
                "whether the order of all channels is rotated or mirrored, which its shape hides; talk from "
                "+x, and see if msdet localize says 0°"
            )
        return tuple(doubts)


def check_array(sources: Sequence[RecordingSource], array: MicrophoneArray) -> ArrayReport:
    """Look for dead, clipped, offset, weak, copied, inverted, delayed, drifting and swapped channels.

    Speech from several directions is needed to tell all; sound of any kind to tell most. Recordings of the array, as it
    is thought to be, are read twice and in pieces.
    """
    if not sources:
        raise MsdetError("give at least one recording")
    if array.microphones > MAX_MICROPHONES:
        most = f"all pairs are compared, expected at most {MAX_MICROPHONES}"
        raise MsdetError(f"array '{array.name}' has {array.microphones} microphones; {most}")
    for source in sources:
        check_channels(source, array)
    numbers = sources[0].numbers
    sums, same, levels, samples, passing = add_up(sources, array)
    seconds = sum(n / source.sample_rate for n, source in zip(samples, sources, strict=True))
    near = [f for f in passing if f.kind == "late" and abs(f.value or 0.0) < MAX_DELAY_S]  # which the fit tells better
    passing = [fault for fault in passing if fault not in near]
    findings = level_findings(sums, numbers) + passing
    observed = moments(sources, samples)
    odd = odd_findings(sums, same, observed, levels, numbers)
    findings += odd
    without = left_out(odd).union(*(fault.channels for fault in passing))
    channels = [c for c in range(array.microphones) if c not in sums.dead and numbers[c] not in without]
    if any(finding.kind == "coincident" for finding in odd):
        channels = []
    fit, channels, deaf = _fitted(observed, array, channels)
    findings += [deaf_finding(numbers[channel]) for channel in deaf]
    hidden, share = None, None
    azimuths_deg: tuple[float, ...] = ()
    if fit is not None and fit.unconstrained(Wiring.as_described(fit.channels)).mean() > NOISE:
        wiring = find_wiring(fit)
        findings += (wired := wiring_findings(fit, wiring, [numbers[c] for c in channels]))
        delayed = {channel for finding in wired if finding.kind == "delayed" for channel in finding.channels}
        findings += [fault for fault in near if not delayed.issuperset(fault.channels)]
        unconstrained = float(fit.unconstrained(wiring).mean())
        share = float(fit.quality(wiring).mean()) / unconstrained
        if share < UNEXPLAINED and unconstrained > COHERENT:
            text = (
                f"the delays between channels do not fit the array '{array.name}' (directions explain "
                f"{100 * share:.0f} % of what delays of any size would): look whether it is this array, in "
                "this order, in meters"
            )
            findings.append(Finding("unexplained", (), text, share))
        hidden = hidden_faults(fit, wiring).named([numbers[c] for c in channels])
        azimuths_deg = _apart(fit.directions[fit.places(wiring)])
    return ArrayReport(
        array,
        seconds,
        len(observed.coherence),
        azimuths_deg,
        share,
        tuple(sorted(findings, key=lambda finding: finding.channels or (array.microphones,))),
        hidden,
        is_symmetric(array.positions),
    )


def is_symmetric(positions: Array) -> bool:
    """Whether rotating or reversing the order of channels gives an array of the same shape.

    >>> is_symmetric(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
    True
    >>> is_symmetric(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-2.0, 0.0, 0.0], [0.0, -3.0, 0.0]]))
    False
    """
    channels = np.arange(len(positions))
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    turned = [np.roll(order, k) for order in (channels, channels[::-1]) for k in channels]
    same = (np.abs(distances[order][:, order] - distances).max() < 0.01 * distances.max() for order in turned)
    return sum(map(bool, same)) > 1


def _fitted(observed: Moments, array: MicrophoneArray, channels: list[int]) -> tuple[Fit | None, list[int], list[int]]:
    """A fit, the channels in it, and those left out since they hear nothing of what the others hear."""
    deaf: list[int] = []
    while len(channels) >= 2 and len(observed.coherence) >= MIN_MOMENTS:
        fit = Fit(observed.of(channels), array.positions[channels])
        wiring = find_wiring(fit)
        peaks = np.array([np.abs(fit.residual(wiring, k)[1]).max() for k in range(fit.channels)])
        worst = int(peaks.argmin())
        if fit.channels == 2 or peaks[worst] > DEAF * np.median(peaks):
            return fit, channels, deaf
        deaf.append(channels[worst])
        channels = [c for c in channels if c != channels[worst]]
    return None, channels, deaf


def _listed(items: Iterable[object], most: int = 6) -> str:
    """Items with commas between, the first few of many."""
    names = [str(item) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _apart(directions: Array) -> tuple[float, ...]:
    """Azimuths of unit vectors ``(direction, 3)``, ascending, of those near each other only the first."""
    found: list[float] = []
    for azimuth_deg in azimuth_elevation_deg(directions)[0].tolist():
        if not found or angular_distance_deg(azimuth_deg, found).min() >= _APART_DEG:
            found.append(azimuth_deg)
    return tuple(sorted(found))
