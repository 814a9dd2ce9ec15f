"""Talkers who walk: paths through a map of where somebody is heard in each moment.

The map of a whole recording (`msdet.models.heads.map_peaks`) has a peak for each who stands still; who walks smears
over it. In the map of moments he is a line. Lines are found as the best paths (Viterbi, IEEE Trans. Inf. Theory 13(2),
1967), the strongest first, each then looked for again where the others are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from msdet.conventions import Array, angular_distance_deg, wrap_deg

FAINTEST, MOST = -1.5, 3.0
"""Logit from which on a moment counts, and the most that it does: one loud word says no more than a quiet one."""

REACH = 2
"""Classes that a path moves by in a moment, at most."""

STEP = 0.3
"""What it pays for each."""

NEAR_DEG = 12.0
"""What is heard so near to a path is heard from there."""

SAME_DEG = 8.0
"""So near to a talker it is nobody else who is heard."""

OTHERS = 0.3
"""What counts of that for other paths: two may cross."""

ROUNDS = 2
"""How often each path is looked for again where the others are not, whenever one more was found."""

LEAST_S = 0.4
"""Of evidence, for a talker."""

WALKED_DEG = 20.0
"""Nobody who stands seems to have moved so far."""

GAINED = 0.05
"""Of what is heard: so much more is on paths than around fixed directions, if somebody walks.

Of 118 blocks of meetings in which people sit and take turns it was 0.03 at most, of 30 scenes with walkers 0.06 at
least.
"""

_SMOOTH_S = 0.25


@dataclass(frozen=True)
class MomentTracks:
    """Where talkers are over time: azimuths in degrees and evidence ``(talker, moment)``."""

    azimuth_deg: Array
    evidence: Array

    @property
    def walked_deg(self) -> Array:
        """How far each went ``(talker,)``: the width of the sector that has nine tenths of the evidence."""
        return np.array([_width_deg(*row) for row in zip(self.azimuth_deg, self.evidence, strict=True)])

    @property
    def overall_deg(self) -> Array:
        """Mean azimuth ``(talker,)``."""
        phasor = ((self.evidence + 1e-9) * np.exp(1j * np.deg2rad(self.azimuth_deg))).sum(axis=1)
        return np.asarray(wrap_deg(np.rad2deg(np.angle(phasor))))

    @property
    def ordered(self) -> MomentTracks:
        """The same, ascending in azimuth."""
        order = self.overall_deg.argsort()
        return MomentTracks(self.azimuth_deg[order], self.evidence[order])

    def confidence(self, activity: Array) -> Array:
        """Probability ``(talker,)`` that somebody is there: that of activity ``(talker, moment)``, where heard."""
        weight = self.evidence + 1e-9
        return np.asarray((weight * activity).sum(axis=1) / weight.sum(axis=1))


def moment_tracks(logits: Array, moment_s: float, most: int) -> MomentTracks:
    """At most so many paths through logits ``(class, moment)`` of a talker in each direction, around the circle."""
    heard = evidence(logits)
    least = max(1.0, LEAST_S / moment_s) * MOST / 2
    found: list[tuple[Array, Array]] = []
    for _ in range(most):
        path = _path(logits, heard, found, moment_s)
        if path[1].sum() < least:
            break
        found.append(path)
        for _ in range(ROUNDS if len(found) > 1 else 0):
            for k in range(len(found)):
                found[k] = _path(logits, heard, found[:k] + found[k + 1 :], moment_s)
    shape = (len(found), logits.shape[1])
    return MomentTracks(*(np.array([path[k] for path in found]).reshape(shape) for k in range(2)))


def evidence(logits: Array) -> Array:
    """What logits ``(class, moment)`` say for a talker, 0 to `MOST`."""
    return np.clip(logits.astype(np.float64) - FAINTEST, 0.0, MOST)


def activity(logits: Array, azimuth_deg: Array) -> Array:
    """Probability ``(talker, moment)`` that somebody is heard from azimuths ``(talker, moment)`` or ``(talker, 1)``."""
    grid_deg = 360.0 / len(logits) * np.arange(len(logits))
    near = angular_distance_deg(grid_deg[:, None, None], azimuth_deg) <= SAME_DEG
    highest = np.where(near, logits[:, None], -np.inf).max(axis=0)
    return np.asarray(1.0 / (1.0 + np.exp(-highest)))


def are_apart(azimuth_deg: Array) -> bool:
    """Whether azimuths ``(talker,)`` are so far from each other that `activity` tells the talkers apart."""
    gaps = angular_distance_deg(azimuth_deg[:, None], azimuth_deg) + 360.0 * np.eye(len(azimuth_deg))
    return bool((gaps > 2 * SAME_DEG).all())


def someone_walks(logits: Array, tracks: MomentTracks, standing_deg: Array) -> bool:
    """Whether paths explain what is heard in moments ``(class, moment)`` better than fixed azimuths ``(talker,)``."""
    if not len(tracks.azimuth_deg) or tracks.walked_deg.max() < WALKED_DEG:
        return False
    heard = evidence(logits)
    on_paths = heard[_near(len(logits), tracks.azimuth_deg)].sum()
    around_fixed = heard[_near(len(logits), standing_deg[:, None])[:, 0]].sum()
    return bool(on_paths - around_fixed >= GAINED * heard.sum())


def _path(logits: Array, heard: Array, others: list[tuple[Array, Array]], moment_s: float) -> tuple[Array, Array]:
    """Azimuth in degrees and evidence ``(moment,)`` of the best path beside others."""
    taken = _near(len(heard), np.array([azimuth_deg for azimuth_deg, _ in others]).reshape(-1, heard.shape[1]))
    free, heard = np.where(taken, 0.0, heard), np.where(taken, OTHERS * heard, heard)
    path = _best_path(heard)
    along = heard[path, np.arange(len(path))]
    azimuth_deg = _smoothed(_between(logits, path) * 360.0 / len(logits), along, moment_s)
    return azimuth_deg, np.where(_near(len(heard), azimuth_deg[None]), free, 0.0).max(axis=0)


def _near(classes: int, azimuth_deg: Array) -> Array:
    """Bool ``(class, moment)``: near any of azimuths ``(talker, moment)``."""
    grid_deg = 360.0 / classes * np.arange(classes)
    return np.asarray((angular_distance_deg(grid_deg[:, None, None], azimuth_deg) <= NEAR_DEG).any(axis=1))


def _best_path(heard: Array) -> Array:
    """The class ``(moment,)`` of the path with the most evidence ``(class, moment)``."""
    classes, moments = heard.shape
    moves = np.array([0, *(sign * k for k in range(1, REACH + 1) for sign in (1, -1))])
    origins = (np.arange(classes) - moves[:, None]) % classes
    cost = STEP * np.abs(moves)[:, None]
    came = np.zeros((moments, classes), dtype=np.int64)
    total = heard[:, 0].copy()
    for moment in range(1, moments):
        moved = total[origins] - cost
        came[moment] = moved.argmax(axis=0)
        total = moved.max(axis=0) + heard[:, moment]
    path = np.empty(moments, dtype=np.int64)
    path[-1] = total.argmax()
    for moment in range(moments - 1, 0, -1):
        path[moment - 1] = origins[came[moment, path[moment]], path[moment]]
    return path


def _between(logits: Array, path: Array) -> Array:
    """Places ``(moment,)`` between classes: tops of parabolas through a path's classes and their neighbors."""
    moments, classes = np.arange(len(path)), len(logits)
    below, top, above = (logits[(path + k) % classes, moments] for k in (-1, 0, 1))
    curvature = below - 2 * top + above
    shift = np.where(curvature < 0, 0.5 * (below - above) / np.minimum(curvature, -1e-9), 0.0)
    return np.asarray(path + shift.clip(-0.5, 0.5))


def _smoothed(azimuth_deg: Array, weight: Array, moment_s: float) -> Array:
    """Means of azimuths ``(moment,)`` over a quarter of a second; what is silent hardly counts."""
    phasor = (weight + 1e-3) * np.exp(1j * np.deg2rad(azimuth_deg))
    real, imag = (gaussian_filter1d(part, _SMOOTH_S / moment_s) for part in (phasor.real, phasor.imag))
    return np.asarray(wrap_deg(np.rad2deg(np.arctan2(imag, real))))


def _width_deg(azimuth_deg: Array, weight: Array) -> float:
    """Of the sector from the lowest to the highest twentieth of the weight."""
    unwrapped = np.rad2deg(np.unwrap(np.deg2rad(azimuth_deg)))
    order = unwrapped.argsort()
    share = weight[order].cumsum() / max(weight.sum(), 1e-9)
    low, high = (unwrapped[order][np.searchsorted(share, part).clip(0, len(order) - 1)] for part in (0.05, 0.95))
    return float(high - low)
