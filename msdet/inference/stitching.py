"""Blocks that were separated one by one, joined to voices and directions of the whole recording."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from msdet.conventions import Array, angular_distance_deg, wrap_deg
from msdet.errors import MsdetError
from msdet.inference.activity import OCCUPIED_S, Levels, active_frames
from msdet.inference.blocks import FRAME_S, Block, BlockOptions, Grid, fade_in
from msdet.inference.tracking import FAINT_S, SlotDirections, SlotTracker
from msdet.methods.base import Separation

SAME_DIRECTION_DEG = 12.0  # closer directions may be one

TOGETHER = 0.85
"""Correlation of the envelopes of two parts of a voice, at least: measured, parts have above 0.95, two people
below 0.7."""

_ENVELOPE_S = 0.02


class Stitcher:
    """Takes block after block of a recording, of whose reference microphone it knows the levels; gives what is final.

    `overall` is where each slot was active, `filled`, bool ``(slot,)``, whether any block had a talker in it.
    """

    def __init__(self, slots: int, options: BlockOptions, sample_rate: int, levels: Levels, reference: int) -> None:
        self.overall = SlotDirections(slots)
        self.filled = np.zeros(slots, dtype=bool)
        self._slots, self._gate, self._sample_rate = slots, options.gate, sample_rate
        self._levels, self._reference = levels, reference
        self._grid = Grid.of(options, sample_rate)
        self._tracker = SlotTracker(slots, options.match)
        self._tail: Array | None = None
        self._sums = np.zeros((5, slots, 0), dtype=np.complex128)  # as of `_weighted`, of the next overlap

    def push(self, block: Block, separation: Separation) -> Separation:
        """Join another block's separation; gives the next part of the recording that is final.

        That is estimates, if the system gives any, tracks and activity of each slot, in frames of 0.1 s.
        """
        if separation.count > self._slots:
            raise MsdetError(f"a block has {separation.count} talkers, expected at most {self._slots}")
        if self._gate and not block.whole:
            separation = merge_split_sources(separation, self._sample_rate)
        overlap, shared = (0, 0) if block.first else (self._grid.overlap, self._grid.shared)
        later, later_shared = (0, 0) if block.last else (self._grid.overlap, self._grid.shared)
        estimates = separation.estimates
        activity = self._activity(block, separation)
        active = activity >= 0.5
        heads = estimates[:, :overlap] if overlap and estimates is not None else None
        slots = self._tracker.assign(heads, separation.azimuth_deg, active, shared)
        self.filled[slots] = True
        active_s = FRAME_S * active.sum(axis=1)
        shown = (active_s >= OCCUPIED_S) | (not self._gate) | block.whole
        self._add_directions(separation, slots, active_s, shown)
        sums = np.zeros((5, self._slots, activity.shape[1]), dtype=np.complex128)
        sums[:, slots] = _weighted(separation, activity, shown)
        piece = self._joined_frames(sums, shared, later_shared)
        if estimates is None:
            return piece
        voices = np.zeros((self._slots, block.mixture.shape[-1]), dtype=np.float32)
        voices[slots] = estimates * shown[:, None]
        tail_s = np.zeros(self._slots)
        tail_s[slots] = FRAME_S * active[:, active.shape[1] - later_shared :].sum(axis=1)
        return dataclasses.replace(piece, estimates=self._joined_voices(voices, overlap, later, tail_s))

    def _activity(self, block: Block, separation: Separation) -> Array:
        """When each talker speaks, ``(talker, frame)``."""
        frame = self._grid.frame
        if separation.activity is not None:
            return _at_frames(separation.activity, block.mixture.shape[-1], frame)
        voices, reference = separation.estimates, block.mixture[self._reference]
        active = active_frames(voices, reference, separation.count, self._levels, self._sample_rate, frame)
        return active.astype(np.float64)

    def _add_directions(self, separation: Separation, slots: Array, active_s: Array, shown: Array) -> None:
        """Note where each slot is active in this block."""
        if separation.azimuth_deg is None:
            return
        unknown = np.full(separation.count, np.nan)
        confidence = unknown if separation.confidence is None else separation.confidence
        elevation = unknown if separation.elevation_deg is None else separation.elevation_deg
        rows = np.stack([np.maximum(active_s, FAINT_S), separation.azimuth_deg, confidence, elevation], axis=1)
        for talker in np.flatnonzero(shown & np.isfinite(separation.azimuth_deg)):
            self.overall.add(int(slots[talker]), *map(float, rows[talker]))

    def _joined_frames(self, sums: Array, shared: int, later: int) -> Separation:
        weights = fade_in(shared)
        sums[..., :shared] = sums[..., :shared] * weights + self._sums * (1.0 - weights)
        end = sums.shape[-1] - later
        self._sums = sums[..., end:]
        phasor, weight, confidence, elevation, activity = sums[..., :end]
        weight = np.where(weight.real > 0, weight.real, np.nan)
        return Separation(
            track_deg=np.where(np.isnan(weight), np.nan, wrap_deg(np.rad2deg(np.angle(phasor)))),
            track_confidence=confidence.real / weight,
            track_elevation_deg=elevation.real / weight,
            activity=activity.real,
        )

    def _joined_voices(self, voices: Array, overlap: int, later: int, tail_s: Array) -> Array:
        if overlap and self._tail is not None:
            weights = fade_in(overlap)
            voices[:, :overlap] = voices[:, :overlap] * weights + self._tail * (1.0 - weights)
        end = voices.shape[-1] - later
        self._tail = voices[:, end:]
        self._tracker.set_overlap(self._tail, tail_s)
        return voices[:, :end]


def merge_split_sources(separation: Separation, sample_rate: int) -> Separation:
    """A block's separation with split voices joined: one slot has it all, the other is zero, its azimuth NaN.

    A model with a fixed number of slots, given a block in which one person speaks, often splits that voice:
    two slots point in the same direction and rise and fall together, each with a part of it. Two people
    cannot do that; so such voices are summed into the stronger one.
    """
    if separation.estimates is None or separation.azimuth_deg is None or separation.count < 2:
        return separation
    step = round(_ENVELOPE_S * sample_rate)
    whole = separation.estimates[:, : separation.estimates.shape[1] // step * step]
    parts = whole.reshape(separation.count, -1, step)
    envelopes = np.sqrt(np.square(parts, dtype=np.float64).mean(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):  # of silence
        correlation = np.corrcoef(envelopes)
    voices, azimuth_deg = separation.estimates, separation.azimuth_deg.copy()
    activity = separation.activity
    for a, b in itertools.combinations(range(separation.count), 2):
        apart_deg = float(angular_distance_deg(azimuth_deg[a], azimuth_deg[b]))
        if not (apart_deg < SAME_DIRECTION_DEG and correlation[a, b] >= TOGETHER):
            continue
        strong, weak = (a, b) if envelopes[a].sum() >= envelopes[b].sum() else (b, a)
        voices = voices.copy()
        voices[strong] += voices[weak]
        voices[weak] = 0.0
        azimuth_deg[weak] = np.nan
        if activity is not None:
            activity = activity.copy()
            activity[strong] = np.maximum(activity[strong], activity[weak])
            activity[weak] = 0.0
    return dataclasses.replace(separation, estimates=voices, azimuth_deg=azimuth_deg, activity=activity)


def _at_frames(values: Array, samples: int, frame: int) -> Array:
    """Values ``(talker, any)``, evenly over so many samples, at the centers of frames."""
    frames = -(-samples // frame)
    centers = (np.arange(frames) + 0.5) * frame / samples
    own = (np.arange(values.shape[1]) + 0.5) / values.shape[1]
    return np.stack([np.interp(centers, own, row) for row in values])


def _weighted(separation: Separation, activity: Array, shown: Array) -> Array:
    """What frames hold ``(5, talker, frame)``, to be faded: zero where a slot is not shown.

    In this order: phasors of the azimuth, 1 where there is one, confidence, elevation, activity.
    """
    unknown = np.full(activity.shape, np.nan)

    def over_time(values: Array | None) -> Array:
        return unknown if values is None else np.broadcast_to(values[:, None], activity.shape)

    azimuth_deg = over_time(separation.azimuth_deg)
    phasor = np.exp(1j * np.deg2rad(azimuth_deg))
    if separation.track_deg is not None:
        tracks = np.exp(1j * np.deg2rad(separation.track_deg))
        place = _at_frames(np.arange(tracks.shape[1])[None], activity.shape[1], 1)[0].round().astype(int)
        phasor = tracks[:, place]
    confidence, elevation = over_time(separation.confidence), over_time(separation.elevation_deg)
    there = shown[:, None] & np.isfinite(azimuth_deg)
    parts = [np.where(there, part, 0.0) for part in (phasor, 1.0, confidence, elevation)]
    return np.stack([*parts, activity * shown[:, None]])
