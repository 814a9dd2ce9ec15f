"""Whether measured responses and the positions noted for them agree, and which mistake explains it if not.

The differences between the microphones' arrival times follow from the source's position and the array. Where
measured and expected ones differ, each usual mistake is undone in turn, such as azimuths counted clockwise or
channels in another order; one that brings both together is the explanation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector, wrap_deg

MAX_DEVIATION_S = 0.15e-3  # of arrival times (RMS over microphones, median over positions); more is no measuring error
MAX_DEVIATION = 0.15  # the same as a part of the time sound takes across the array, for small arrays: some 25 degrees
MIN_DEVIATION = 0.03  # below, not even a mistake that explains all of it is worth a warning: some 5 degrees
EXPLAINED = 1 / 3  # an explanation leaves at most this part of the deviation
AS_GOOD = 1.5  # explanations that leave no more than this times what the best one leaves are as good
MIN_FITTED = 3  # fewer positions could always be turned, or channels reordered, to fit
MAX_POSITIONS = 400  # explanations are searched with so many positions at most


Labels = tuple[Array, Array, Array]
"""Azimuths in degrees, elevations and distances of positions, ``(position,)`` each."""


def disagreements(names: Sequence[str], labels: Labels, arrivals_s: Array, array: MicrophoneArray) -> list[str]:
    """What is wrong with the positions noted in a collection, a sentence each; empty if nothing is.

    Either all of them follow another convention than ours, or some stand out. Names are for people; of the arrivals
    ``(position, mic)`` of direct sound only the differences between microphones matter.
    """
    measured = _centered(arrivals_s)
    deviations = _deviations(measured, _expected(labels, array.positions))
    across_s = array.aperture_m / SPEED_OF_SOUND
    most_s = min(MAX_DEVIATION_S, MAX_DEVIATION * across_s)
    median_s = float(np.median(deviations))
    reasons = []
    if median_s > MIN_DEVIATION * across_s:
        chosen = np.unique(np.linspace(0, len(measured) - 1, MAX_POSITIONS).round().astype(int))
        azimuths, elevations, distances = (column[chosen] for column in labels)
        reasons = _explanations((azimuths, elevations, distances), measured[chosen], array.positions)
    count, worst = len(measured), int(np.argmax(deviations))
    place = f"{names[worst]}, {_azimuths(worst, labels, measured, array.positions)}"
    if median_s > most_s or reasons:
        unknown = "no usual mistake explains it; are rows mixed up, or is it another array?"
        remedy = f"explained by {' or by '.join(reasons)}" if reasons else unknown
        return [
            f"sound and positions disagree: arrival times at the microphones are {_ms(median_s)} off "
            f"(median of {count} positions; {_ms(deviations[worst])} at {place}); {remedy}"
        ]
    apart = deviations > max(2 * most_s, 4 * median_s)
    if apart.any():
        return [
            f"sound and positions disagree in {int(apart.sum())} of {count}: arrival times at the "
            f"microphones are {_ms(deviations[worst])} off at {place}, {_ms(median_s)} in the median; are "
            "rows mixed up?"
        ]
    return []


def expected_arrivals_s(azimuths_deg: Array, elevations_deg: Array, distances_m: Array, microphones_m: Array) -> Array:
    """When sound arrives ``(position, mic)`` at microphones ``(mic, 3)`` from positions in the same frame."""
    sources_m = np.asarray(distances_m)[:, None] * direction_vector(azimuths_deg, elevations_deg)
    return np.asarray(np.linalg.norm(sources_m[:, None] - microphones_m, axis=-1) / SPEED_OF_SOUND)


def _expected(labels: Labels, microphones_m: Array) -> Array:
    return _centered(expected_arrivals_s(*labels, microphones_m))


def _centered(arrivals_s: Array) -> Array:
    return np.asarray(arrivals_s - arrivals_s.mean(axis=-1, keepdims=True))


def _deviations(measured: Array, expected: Array) -> Array:
    """Deviation ``(position,)`` in seconds."""
    return np.asarray(np.sqrt(((measured - expected) ** 2).mean(axis=-1)))


def _explanations(labels: Labels, measured: Array, microphones_m: Array) -> list[str]:
    """The mistakes that, undone, bring both together; of those as good, the simplest first, two at most."""

    def left(labels: Labels) -> float:
        return float(np.median(_deviations(measured, _expected(labels, microphones_m))))

    noted_s = left(labels)
    recounted = [(reason, left(corrected)) for reason, corrected in _recounted(labels)]
    expected = _expected(labels, microphones_m)
    size = float((measured * expected).sum() / max((expected**2).sum(), 1e-30))  # that fits best
    resized_s = float(np.median(_deviations(measured, size * expected)))
    others = [(f"an array {size:.2f} times as large (or on a solid body)", resized_s)]
    if len(measured) >= MIN_FITTED:
        others.insert(0, _reordered(measured, expected))
        if min(deviation for _, deviation in recounted) > EXPLAINED * noted_s:
            recounted += _turned(labels, measured, microphones_m)
    best_s = min(deviation for _, deviation in recounted + others)
    good_s = min(EXPLAINED * noted_s, max(AS_GOOD * best_s, EXPLAINED**2 * noted_s))
    groups = ([reason for reason, deviation in group if deviation <= good_s] for group in (recounted, others))
    return [reasons[0] for reasons in groups if reasons]


def _recounted(labels: Labels) -> list[tuple[str, Labels]]:
    """Mistakes without a quantity to them, and the labels with the mistake undone."""
    azimuths, elevations, distances = labels
    mistakes = [
        ("azimuths counted clockwise (negate them)", (-azimuths, elevations, distances)),
        ("elevations counted downwards (negate them)", (azimuths, -elevations, distances)),
        ("elevations counted from the zenith (subtract them from 90)", (azimuths, 90.0 - elevations, distances)),
    ]
    signed = np.where(azimuths > 180.0, azimuths - 360.0, azimuths)
    if max(np.abs(signed).max(), np.abs(elevations).max()) <= 2 * np.pi:
        radians = (np.rad2deg(signed), np.rad2deg(elevations), distances)
        mistakes.insert(0, ("angles in radians (convert them to degrees)", radians))
    return mistakes


def _turned(labels: Labels, measured: Array, microphones_m: Array) -> list[tuple[str, float]]:
    """Azimuths from another zero, and clockwise as well, with the median deviation left."""
    azimuths, elevations, distances = labels
    candidates = []
    for sign, reason in (
        (1.0, "azimuths counted from another zero (add {} degrees)"),
        (-1.0, "azimuths counted clockwise from another zero (subtract them from {} degrees)"),
    ):
        medians = [
            np.median(_deviations(measured, _expected((sign * azimuths + n, elevations, distances), microphones_m)))
            for n in range(360)
        ]
        best = int(np.argmin(medians))
        candidates.append((reason.format(best), float(medians[best])))
    return candidates


def _reordered(measured: Array, expected: Array) -> tuple[str, float]:
    """The order of the channels that fits best, with the median deviation left."""
    from scipy.optimize import linear_sum_assignment

    cost = ((measured[:, :, None] - expected[:, None, :]) ** 2).sum(axis=0)
    order = linear_sum_assignment(cost)[1]
    named = ", ".join(map(str, order))
    left_s = float(np.median(_deviations(measured, expected[:, order])))
    return f"channels in another order (they are microphones {named} of the array)", left_s


def _azimuths(position: int, labels: Labels, measured: Array, microphones_m: Array) -> str:
    """The azimuth noted for a position, and the one that fits its sound best, at the elevation noted."""
    azimuth, elevation, distance = (float(column[position]) for column in labels)
    grid = np.arange(360.0)
    around = (grid, np.full(360, elevation), np.full(360, distance))
    fitting = int(np.argmin(_deviations(measured[position], _expected(around, microphones_m))))
    return f"noted at azimuth {round(float(wrap_deg(azimuth))) % 360} and heard at {fitting}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3f} ms"
