"""Who is who from one block to the next: talkers stay in their slots.

Each block is separated on its own, so its voices come in an order of their own: ascending in azimuth, which
changes when a talker falls silent and something else takes the free place. Which slot of the recording a
voice ``k`` belongs to is decided by two kinds of evidence, each in [0, 1]:

- **Overlap.** The normalized correlation, without delay, of voice ``k`` with what slot ``s`` held of the
  block before, over the samples that both blocks share. It counts as far as both are active there, in full
  from `ENOUGH_S` seconds on: the residue of another talker in an empty slot proves nothing.
- **Direction.** How near the voice is to where slot ``s`` has been active so far: the mean of
  ``exp(-Δ²/2σ²)`` over its azimuths, weighted by the seconds of activity behind each. Unlike the overlap this
  is remembered over any pause, so who comes back comes back to the same slot. The memory holds `MEMORY_S`
  seconds of speech and forgets the oldest exponentially, so that it follows those who move. A slot that has
  hardly been active is neither near nor far (`UNKNOWN`, with the weight of `PRIOR_S` seconds), so a newcomer
  takes the free slot and not that of a talker who is silent elsewhere. Again only activity counts.

The permutation with the largest sum of overlap and, twice as heavy, direction is taken (Hungarian algorithm);
where there is no evidence at all, voices stay in their order. Only what is active is remembered.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.inference.blocks import FRAME_S, Match
from msdet.methods.base import Separation

SPREAD_DEG = 15.0  # σ: directions this far apart are still alike
MEMORY_S = 30.0
PRIOR_S = 2.0
UNKNOWN = 0.3

DIRECTION_WEIGHT = 2.0
"""Of the direction beside the overlap: a voice that two people share in one block correlates with either."""

ENOUGH_S = 0.5  # activity from which on evidence counts in full
FRAMES_AT_ONCE = 6000  # frames that a `FrameLog` takes memory for at once: ten minutes
FAINT_S = 1e-3  # weight of a direction without activity: it is used where there is nothing else
_ORDER = 1e-6  # the worth of staying in order
_BINS = 360
_NEAR = 10  # bins to either side of the peak that an overall direction is the mean of


class SlotDirections:
    """Where each slot has been active: so many seconds of activity by azimuth, in bins of a degree."""

    def __init__(self, slots: int, time_constant_s: float = np.inf) -> None:
        self._seconds = np.zeros((slots, _BINS))
        self._sums = np.zeros((slots, 4, _BINS))  # of cos, sin, confidence and elevation, each by seconds
        self._time_constant_s = time_constant_s

    def add(
        self, slot: int, seconds: float, azimuth_deg: float, confidence: float = np.nan, elevation_deg: float = np.nan
    ) -> None:
        """Remember a direction of a slot; NaN for what is not known besides the azimuth."""
        total = self._seconds[slot].sum() + seconds
        if total > self._time_constant_s:
            rest = 1.0 - (total - self._time_constant_s) / (total - seconds) if total > seconds else 0.0
            self._seconds[slot] *= max(0.0, rest)
            self._sums[slot] *= max(0.0, rest)
        place = int(wrap_deg(azimuth_deg)) % _BINS
        angle_rad = np.deg2rad(azimuth_deg)
        self._seconds[slot, place] += seconds
        values = (np.cos(angle_rad), np.sin(angle_rad), confidence, elevation_deg)
        self._sums[slot, :, place] += seconds * np.array(values)

    def likeness(self, azimuth_deg: Array) -> Array:
        """How near ``(slot, talker)`` azimuths ``(talker,)`` are to each slot, in [0, 1]."""
        centers = np.arange(_BINS) + 0.5
        apart_deg = angular_distance_deg(centers[:, None], np.nan_to_num(azimuth_deg))
        near = np.exp(-0.5 * (apart_deg / SPREAD_DEG) ** 2)
        total = self._seconds.sum(axis=1, keepdims=True)
        return np.asarray((self._seconds @ near + PRIOR_S * UNKNOWN) / (total + PRIOR_S))

    def overall(self) -> tuple[Array, Array, Array]:
        """Azimuth, confidence and elevation ``(slot,)`` where each slot was active most; NaN if never.

        The mean of what lies within some degrees of the heaviest azimuth: a stray block moves nothing.
        """
        around = np.arange(-_NEAR, _NEAR + 1)
        found = np.full((3, len(self._seconds)), np.nan)
        for slot, seconds in enumerate(self._seconds):
            if seconds.sum() == 0:
                continue
            windows = (np.arange(_BINS)[:, None] + around) % _BINS
            best = windows[seconds[windows].sum(axis=1).argmax()]
            cos, sin, confidence, elevation = self._sums[slot][:, best].sum(axis=1)
            weight = seconds[best].sum()
            azimuth_deg = float(wrap_deg(np.rad2deg(np.arctan2(sin, cos))))
            found[:, slot] = azimuth_deg, confidence / weight, elevation / weight
        return found[0], found[1], found[2]


class SlotTracker:
    """Assigns the voices of one block after another to slots."""

    def __init__(self, slots: int, match: Match = "both") -> None:
        self.slots = slots
        self._match = match
        self._directions = SlotDirections(slots, MEMORY_S)
        self._tail: Array | None = None
        self._tail_s = np.zeros(slots)

    def assign(self, heads: Array | None, azimuth_deg: Array | None, active: Array, shared: int) -> Array:
        """The slot ``(talker,)`` of each voice of the next block; there are no more talkers than slots.

        Args:
            heads: of the voices, ``(talker, time)``: what they share with the block before; None if nothing.
            azimuth_deg: of the voices, ``(talker,)``, NaN of an empty slot; None of a system without.
            active: when each speaks in the block, bool ``(talker, frame)``.
            shared: frames at its start that the block shares with the one before.
        """
        talkers = len(active)
        worth = _ORDER * np.eye(self.slots, talkers)
        active_s = FRAME_S * active.sum(axis=1)
        if azimuth_deg is not None and self._match != "overlap":
            worth = worth + DIRECTION_WEIGHT * self._directions.likeness(azimuth_deg) * _evidence(active_s)
        if heads is not None and self._match != "direction":
            worth = worth + self._alike(heads, FRAME_S * active[:, :shared].sum(axis=1))
        slot_of, talker_of = linear_sum_assignment(worth, maximize=True)
        slots = np.empty(talkers, dtype=np.int64)
        slots[talker_of] = slot_of
        if azimuth_deg is not None:
            for talker in np.flatnonzero((active_s > 0) & np.isfinite(azimuth_deg)):
                self._directions.add(int(slots[talker]), float(active_s[talker]), float(azimuth_deg[talker]))
        return slots

    def set_overlap(self, tail: Array, tail_s: Array) -> None:
        """Take what each slot ``(slot, time)`` holds of the next overlap, and its seconds of speech."""
        self._tail, self._tail_s = tail, tail_s

    def _alike(self, heads: Array, active_s: Array) -> Array:
        """Correlation ``(slot, talker)`` of the slots before with the voices now, as far as both speak."""
        if self._tail is None:
            return np.zeros((self.slots, len(heads)))
        before, now = self._tail.astype(np.float64), heads.astype(np.float64)
        norms = np.linalg.norm(before, axis=1)[:, None] * np.linalg.norm(now, axis=1)
        correlation = np.divide(before @ now.T, norms, out=np.zeros_like(norms), where=norms > 0)
        return np.asarray(correlation.clip(0.0) * np.sqrt(_evidence(self._tail_s)[:, None] * _evidence(active_s)))


def _evidence(seconds: Array) -> Array:
    return np.minimum(1.0, seconds / ENOUGH_S)


class FrameLog:
    """Keeps numbers of frames, ``(column, slot, frame)`` float32, in one large array, which grows now and then.

    A small array that is kept every second comes to lie between large ones that come and go, and holds the
    memory around it: a process that kept 320 bytes a second grew by 90 MB an hour.
    """

    def __init__(self, columns: int, slots: int) -> None:
        self._kept = np.empty((columns, slots, 0), dtype=np.float32)
        self._count = 0

    def append(self, frames: Array) -> None:
        """Keep the next frames ``(column, slot, frame)``."""
        start, self._count = self._count, self._count + frames.shape[-1]
        if self._count > self._kept.shape[-1]:
            room = np.empty((*self._kept.shape[:2], FRAMES_AT_ONCE + frames.shape[-1]), dtype=np.float32)
            self._kept = np.concatenate([self._kept, room], axis=-1)
        self._kept[..., start : self._count] = frames

    def joined(self) -> Array:
        """All of them.

        >>> log = FrameLog(1, 2)
        >>> log.append(np.array([[[1.0], [2.0]]])); log.append(np.array([[[3.0, 5.0], [4.0, 6.0]]]))
        >>> log.joined().tolist()
        [[[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]]
        """
        return self._kept[..., : self._count]


def talkers_by_azimuth(
    directions: SlotDirections, filled: Array, frames: FrameLog, frame_s: float, warnings: tuple[str, ...] = ()
) -> tuple[Array, Separation]:
    """The `filled` slots ``(talker,)`` ascending in azimuth, and the talkers in that order.

    The columns of `frames` are azimuth, confidence, elevation and activity.
    """
    azimuth, confidence, elevation = directions.overall()
    slots = np.flatnonzero(filled)
    order = slots[np.argsort(azimuth[slots], kind="stable")]  # NaN, of no direction, last
    azimuths, confidences, elevations, activity = frames.joined()[:, order]

    def known(values: Array) -> Array | None:
        return values[order] if np.isfinite(values[order]).any() else None

    return order, Separation(
        azimuth_deg=known(azimuth),
        confidence=known(confidence),
        elevation_deg=known(elevation),
        activity=activity,
        track_deg=azimuths,
        track_confidence=confidences,
        track_elevation_deg=elevations,
        time_s=(np.arange(activity.shape[1]) + 0.5) * frame_s,
        warnings=warnings,
    )
