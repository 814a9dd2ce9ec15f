"""Channels of a recording that are no microphones like the others, whatever the array: found without its geometry.

Files of devices also hold channels that are processed (a beam, noise suppression, gain control) or played back, and
programs that record copy or lose some. `odd_channels` looks at the first minutes of a recording.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse.csgraph import connected_components

from msdet.conventions import Array
from msdet.diagnostics.findings import Finding, FrameLevels, add_up
from msdet.diagnostics.fit import MIN_MOMENTS, Moments, moments
from msdet.inference.sources import AMBISONIC, ChannelSums, RecordingSource

LOOKED_AT_S = 300.0  # of a recording, from its start
MAX_CHANNELS = 32  # of a recording that is looked at: all pairs of channels are compared, in a few seconds
DEAF = 0.35  # a channel that correlates less with the others, against the median channel, hears something else
HEARD = 0.1  # correlation of the median channel from which on that says something
_PARTNERS = 8  # channels that each one is compared with
_COPY_COHERENCE = 0.995
_LATE_S = 1e-3  # a channel this much later than all others, and twice as far as those are apart, is processed
_STEADY = 0.7  # share of the moments at which such a delay is the same within that
_MOVES_DB, _MOVES_MORE = 1.2, 2.5  # movement of a processed channel's level, and against those that are alike
_MAX_MOVES_DB = 10.0  # more is no processing, but a channel that comes and goes
_IN_STEP_S = 3e-5  # channels with smaller delays at nearly all moments are at one place
_IN_STEP_SHARE = 0.8


def odd_channels(source: RecordingSource) -> tuple[list[Finding], list[int]]:
    """Copies, processed channels and playback in a recording, and the numbers of those that are neither, nor dead."""
    if source.channels > MAX_CHANNELS:
        return [], list(source.numbers)
    beginning = source.beginning(LOOKED_AT_S)
    sums, same, levels, samples, _ = add_up([beginning])
    observed = moments([beginning], samples)
    found = odd_findings(sums, same, observed, levels, source.numbers, late=True)
    dead = {source.numbers[c] for c in sums.dead}
    return found, [number for number in source.numbers if number not in dead | left_out(found)]


def left_out(found: Sequence[Finding]) -> set[int]:
    """Channels to do without: all that are found, but the first of copies."""
    return {channel for finding in found for channel in finding.channels[finding.kind == "copy" :]}


def deaf_finding(channel: int) -> Finding:
    """A channel that has nothing in common with the others."""
    text = f"channel {channel} hears nothing of what the others hear (playback, noise alone, or another clock)"
    return Finding("dead", (channel,), f"{text}; look at its cable and microphone")


def odd_findings(
    sums: ChannelSums, same: Array, observed: Moments, levels: FrameLevels, numbers: Sequence[int], late: bool = False
) -> list[Finding]:
    """Channels that copy another, are processed, or hear nothing of the others; or all at one place.

    `same` is bool ``(mic, mic)``: which may be copies. Findings call channels by their `numbers`. `late` says whether a
    constant delay counts as processing: where the array is known, that is better told from its geometry.
    """
    found: list[Finding] = []
    left = [c for c in range(len(numbers)) if c not in sums.dead]
    enough = len(observed.coherence) >= MIN_MOMENTS
    if enough and math.isqrt(len(left)) ** 2 == len(left) and _in_step(observed.of(left)):
        text = "the channels hear all sound at once, inverted in some by where it comes from: microphones at one place"
        return [Finding("coincident", (), f"{text}, as of ambisonic B-format, and no array; {AMBISONIC}")]
    for group in _copies(same, observed):
        named = [numbers[c] for c in group]
        text = f"channels {', '.join(map(str, named[:-1]))} and {named[-1]} carry the same signal"
        found.append(Finding("copy", tuple(named), f"{text}; look which input is routed twice"))
        left = [c for c in left if c not in group[1:]]
    if len(left) < 3 or not enough:
        return found
    peak, lag_s, steady = _delays(observed.of(left))
    deaf = np.flatnonzero((peak < DEAF * np.median(peak)) & (np.median(peak) > HEARD))
    found += [deaf_finding(numbers[left[k]]) for k in deaf]
    keep = [k for k in range(len(left)) if k not in deaf]
    moves_db = _standing_out(levels.moves_db([left[k] for k in keep]))
    behind = _behind(lag_s[keep]) & steady[keep] & late
    for k, of in enumerate(keep):
        moves = 0.0 if sums.clipped_share[left[of]] else float(moves_db[k])
        if not moves and not behind[k]:
            continue
        number = numbers[left[of]]
        how = [f"its level moves by {moves:.1f} dB against the others'"] * bool(moves)
        how += [f"it is {1000 * abs(lag_s[of]):.1f} ms {'late' if lag_s[of] > 0 else 'early'}"] * bool(behind[k])
        text = f"channel {number} is processed ({', '.join(how)}), no microphone like the others"
        found.append(Finding("processed", (number,), f"{text}; leave it out", moves or float(lag_s[of])))
    return found


def _in_step(observed: Moments) -> bool:
    """Whether most pairs of channels hear all sound at once, and one inverted now and then, as no two omnis do."""
    pairs = list(itertools.combinations(range(observed.coherence.shape[-1]), 2))
    at_once, inverted = 0, False
    for a, b in pairs:
        peak, lag_s, sign = _correlated(observed, a, b)
        clear = peak > HEARD
        if clear.any() and (np.abs(lag_s[clear]) < _IN_STEP_S).mean() > _IN_STEP_SHARE:
            at_once += 1
            inverted |= bool(0.1 < (sign[clear] < 0).mean() < 0.9)
    return at_once >= len(pairs) / 2 and inverted  # height is heard by the floor's reflection


def _delays(observed: Moments) -> tuple[Array, Array, Array]:
    """How much each channel ``(mic,)`` has in common with others, its median delay in seconds, and whether it stays."""
    channels = observed.coherence.shape[-1]
    peaks, lags, steady = [], [], []
    for c in range(channels):
        others = sorted({(c + 1 + k * (channels - 1) // _PARTNERS) % channels for k in range(_PARTNERS)} - {c})
        pairs = [_correlated(observed, c, other)[:2] for other in others]
        peaks.append(np.mean([peak.mean() for peak, _ in pairs]))
        lag_s = np.stack([lag_s for _, lag_s in pairs])
        lags.append(np.median(lag_s))
        steady.append((np.abs(lag_s - lags[-1]) < _LATE_S).mean() > _STEADY)
    return np.array(peaks), np.array(lags), np.array(steady)


def _correlated(observed: Moments, a: int, b: int) -> tuple[Array, Array, Array]:
    """Peak of the correlation (GCC-PHAT) of two channels at each moment ``(moment,)``, its lag in seconds, its sign."""
    step_hz = float(observed.frequency_hz[1] - observed.frequency_hz[0])
    first, count = round(float(observed.frequency_hz[0]) / step_hz), len(observed.frequency_hz)
    size = 4 * 2 ** int(np.ceil(np.log2(first + count)))
    spectrum = np.zeros((len(observed.coherence), size // 2 + 1), dtype=np.complex64)
    spectrum[:, first : first + count] = observed.coherence[:, :, a, b] / count
    correlation = np.fft.fftshift(np.fft.irfft(spectrum, size), axes=-1) * (size / 2)
    place = np.abs(correlation).argmax(axis=-1)
    value = np.take_along_axis(correlation, place[:, None], axis=-1)[:, 0]
    return np.abs(value), (place - size // 2) / (size * step_hz), np.sign(value)


def _standing_out(moves_db: Array) -> Array:
    """Movements of levels ``(mic,)`` that are far beyond those of most channels; 0 of the others."""
    ascending = np.sort(moves_db)
    for k in range(max(2, (len(ascending) + 1) // 2), len(ascending)):
        if ascending[k] >= max(_MOVES_DB, _MOVES_MORE * ascending[k - 1]):
            return np.where((moves_db >= ascending[k]) & (moves_db <= _MAX_MOVES_DB), moves_db, 0.0)
    return np.zeros_like(moves_db)


def _behind(lag_s: Array) -> Array:
    """Which channels ``(mic,)`` are late, or early, by more than the others may be apart."""
    middle = np.abs(lag_s - np.median(lag_s))
    apart = np.sort(middle)[len(middle) // 2]
    late: Array = middle > np.maximum(_LATE_S, 2 * apart)
    return late if late.sum() < len(late) / 2 else np.zeros_like(late)


def _copies(same: Array, observed: Moments) -> list[list[int]]:
    """Groups of channels that are one signal: of those that may be, coherent at all frequencies, as no neighbor is."""
    if len(observed.coherence):
        same = same & (np.abs(observed.coherence).mean(axis=(0, 1)) > _COPY_COHERENCE)
    labels = connected_components(same, directed=False)[1]
    groups = [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels.tolist())]
    return [group for group in groups if len(group) > 1]
