"""A stream from its first sample to the files of it: resampled, separated, kept, and told who spoke when.

Activity is judged every second, from the levels of what was heard so far (`msdet.inference.activity`), unless
the model has the task ``activity``.
"""

from __future__ import annotations

import numpy as np

from msdet.conventions import Array
from msdet.inference.activity import Levels, active_frames
from msdet.inference.blocks import FRAME_S
from msdet.inference.results import Scratch
from msdet.inference.streaming import Streamer, StreamResult
from msdet.inference.tracking import FAINT_S, FrameLog, SlotDirections
from msdet.io.audio import StreamResampler
from msdet.methods.base import Separation

JUDGED_S = 1.0
"""Activity is told for so long a time at once."""


class Session:
    """Takes what a device gives, and keeps what is in it.

    Args:
        streamer: of the model; what it remembers of another stream is forgotten.
        sample_rate: of what is pushed, hertz.
        kept: where voices are kept.

    Attributes:
        active: bool ``(slot,)``, who spoke in the last frame that was judged.
    """

    def __init__(self, streamer: Streamer, sample_rate: int, kept: Scratch) -> None:
        streamer.reset()
        self._streamer = streamer
        self._resampler = StreamResampler(sample_rate, streamer.model.sample_rate)
        self._sample_rate = sample_rate
        self._kept = kept
        slots = streamer.model.config.talkers
        self._frame = round(FRAME_S * streamer.model.sample_rate)
        self._levels = Levels()
        self._heard: Array = np.zeros((1, 0), dtype=np.float32)
        self._voices: Array = np.zeros((slots, 0), dtype=np.float32)
        self._found: Array = np.zeros((4, slots, 0))  # azimuth, confidence, occupancy, activity
        self._times: Array = np.zeros(0)
        self._judged = 0  # frames of 0.1 s
        self._directions = SlotDirections(slots)
        self._filled = np.zeros(slots, dtype=bool)
        self._frames = FrameLog(3, slots)
        self.active = np.zeros(slots, dtype=bool)

    @property
    def latency_s(self) -> float:
        """Algorithmic latency, that of resampling included."""
        return self._streamer.latency_s + self._resampler.delay_s

    def push(self, chunk: Array) -> StreamResult | None:
        """Take the next samples ``(mic, time)``; what the model gives, None if it was given nothing yet."""
        samples = self._resampler.push(chunk)
        return self._taken(samples) if samples.shape[1] else None

    def finish(self) -> None:
        """Take the end of the stream."""
        rest = self._resampler.finish()
        if rest is not None and rest.shape[1]:
            self._taken(rest)
        self._keep(self._streamer.finish())
        self._judge(self._voices.shape[1])

    def talkers(self) -> tuple[Array, Separation]:
        """After `finish`: slots ``(talker,)`` ascending in azimuth, and the talkers in that order."""
        azimuth_deg, confidence, _ = self._directions.overall()
        filled = np.flatnonzero(self._filled)
        order = filled[np.argsort(azimuth_deg[filled], kind="stable")]
        azimuths, confidences, activity = self._frames.joined()[:, order]
        return order, Separation(
            azimuth_deg=azimuth_deg[order],
            confidence=confidence[order],
            activity=activity,
            track_deg=azimuths,
            track_confidence=confidences,
            time_s=(np.arange(activity.shape[1]) + 0.5) * (self._frame / self._streamer.model.sample_rate),
        )

    def _taken(self, samples: Array) -> StreamResult:
        reference = self._streamer.model.array.reference
        self._heard = np.concatenate([self._heard, samples[[reference]]], axis=1)
        result = self._streamer.push(samples)
        self._keep(result)
        while self._voices.shape[1] >= (step := round(JUDGED_S / FRAME_S) * self._frame):
            self._judge(step)
        return result

    def _keep(self, result: StreamResult) -> None:
        self._kept.append(result.estimates)
        self._voices = np.concatenate([self._voices, result.estimates], axis=1)
        activity = np.zeros_like(result.confidence) if result.activity is None else result.activity
        found = np.stack([result.azimuth_deg, result.confidence, result.occupancy, activity])
        self._found = np.concatenate([self._found, found], axis=-1)
        self._times = np.concatenate([self._times, result.time_s])
        self._knows = result.activity is not None

    def _judge(self, samples: int) -> None:
        """Tell who speaks in so many samples, and where they are, in frames of 0.1 s."""
        if not samples:
            return
        voices, heard = self._voices[:, :samples], self._heard[0, :samples]
        frames = -(-samples // self._frame)
        centers = (self._judged + np.arange(frames) + 0.5) * (self._frame / self._streamer.model.sample_rate)
        place = np.clip(np.searchsorted(self._times, centers), 0, len(self._times) - 1)
        azimuth_deg, confidence, occupancy, activity = self._found[..., place]
        self._levels.add(heard, self._frame)
        if not self._knows:
            activity = active_frames(
                voices, heard, len(voices), self._levels, self._streamer.model.sample_rate, self._frame
            ).astype(np.float64)
        there = occupancy > 0.5
        there[occupancy.argmax(axis=0), np.arange(frames)] = True  # somebody is, or there were nothing
        activity = activity * there
        self._filled |= there.any(axis=1)
        for slot, active_s in enumerate(FRAME_S * (activity >= 0.5).sum(axis=1)):
            if there[slot, -1]:
                weight = max(float(active_s), FAINT_S)
                self._directions.add(slot, weight, float(azimuth_deg[slot, -1]), float(confidence[slot, -1]))
        known = np.where(there, (azimuth_deg, confidence), np.nan)
        self._frames.append(np.concatenate([known, activity[None]]))
        self.active = activity[:, -1] >= 0.5
        self._judged += frames
        self._voices, self._heard = self._voices[:, samples:].copy(), self._heard[:, samples:].copy()
        later = max(0, int(place[-1]) - 1)
        self._found, self._times = self._found[..., later:].copy(), self._times[later:].copy()
