"""The direct path of a talker, taken out of a room's impulse response as SMS-WSJ keeps it.

SMS-WSJ stores dry speech, responses, and the early part of what they make together, but not the direct path
alone. Its responses come from Habets' generator: each path is a sinc under a Hann window of 8 ms, and the sum
goes through the high-pass filter of Allen and Berkley (JASA 1979), whose ringing lies under the reflections.
So the filter is undone, the direct path cut out, and the filter applied again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.data.formats.external import one_channel
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.rir.room_response import EARLY_S
from msdet.scenes.scene import Point, Scene

PULSE_S = 0.004  # a path's pulse ends this long after it arrives: half the width of the generator's window
HIGH_PASS_HZ = 100.0
MAX_MISFIT_DB = -15.0  # the direct path may differ from the generator's pulse by this much, up to where it is cut off
MIN_S = 0.0005  # it can be taken out only if it is longer than this: halfway to the first reflection
ARRIVAL_TOLERANCE_S = 0.001  # a response may start this far from where the talker's distance puts its direct path
START_RATIO = 0.1  # a response starts at the first sample above this part of its peak (SMS-WSJ, get_rir_start_sample)
MAX_ERROR_DB = -40.0  # what speech and response make may differ from the set's early part by this much


@dataclass(frozen=True)
class DirectPath:
    """A reference that is the dry speech over the direct path alone.

    The dry speech, of one channel, starts at sample `offset` of the mixture; `rir` is the response to each
    microphone, and `early`, the talker over its first 50 ms, gives the level. At the reference microphone the
    direct path arrives `arrival_s` after emission, the first reflection `reflection_s`; `place` is for errors.
    """

    speech: Path
    offset: int
    rir: Path
    early: Path
    arrival_s: float
    reflection_s: float
    place: str

    def read(self, scene: Scene, microphone: int) -> Array:
        """The direct path ``(time,)`` at a microphone, at the level and time it has in the mixture.

        The response is cut halfway between the direct path and the first reflection. Time counts from a talker's first
        arrival on, as in the set. Level is that with which speech and early response make the set's own early part.
        """
        rate = scene.sample_rate
        length_s = min(PULSE_S, (self.reflection_s - self.arrival_s) / 2)
        if length_s < MIN_S:
            comes = f"the first reflection comes {2000 * length_s:.2f} ms after the direct path"
            raise MsdetError(f"{self.place}: {comes} and cannot be told from it; choose target early or image")
        responses = self._read(self.rir, rate)
        response = one_channel(responses, microphone, self.rir)
        start_s = _start(response) / rate
        if abs(start_s - self.arrival_s) > ARRIVAL_TOLERANCE_S:
            expected = f"the direct path should at {1000 * self.arrival_s:.2f} ms by the positions"
            raise MsdetError(f"{self.rir}: starts at {1000 * start_s:.2f} ms, but {expected} ({self.place})")
        speech = one_channel(self._read(self.speech, rate), 0, self.speech)
        first = min(_start(row) for row in responses)
        early = response[: first + int(EARLY_S * rate)]
        direct = self._direct(response, length_s, rate)
        gain = self._gain(self._placed(speech, early, first, scene.samples), scene, microphone)
        return gain * self._placed(speech, direct, first, scene.samples)

    def _direct(self, response: Array, length_s: float, rate: int) -> Array:
        """The part ``(tap,)`` of a response that is the direct path, the ringing of its high-pass included.

        Whether a response has that filter is seen from which of the two starts with a pulse.
        """
        end = round((self.arrival_s + length_s) * rate)
        pulse = _pulse(np.arange(end) - self.arrival_s * rate, rate)
        best = MAX_MISFIT_DB
        direct: Array | None = None
        for feed, back in (([1.0], [1.0]), _high_pass(rate)):
            raw = scipy.signal.lfilter(back, feed, response[:end])
            misfit = raw - pulse * (np.dot(raw, pulse) / np.dot(pulse, pulse))
            misfit_db = 10 * np.log10(np.sum(misfit**2) / np.sum(raw**2))
            if misfit_db < best:
                cut = np.pad(raw, (0, len(response) - end))
                best, direct = misfit_db, np.asarray(scipy.signal.lfilter(feed, back, cut))
        if direct is None:
            remedy = f"so the direct path cannot be told from the rest; choose target early or image ({self.place})"
            raise MsdetError(f"{self.rir}: does not start with a single pulse, {remedy}")
        return direct

    def _gain(self, made: Array, scene: Scene, microphone: int) -> np.float32:
        """Factor from the early part as `made` to the set's own."""
        early = one_channel(self._read(self.early, scene.sample_rate), microphone, self.early)
        if len(early) != scene.samples:
            raise MsdetError(f"{self.early}: has {len(early)} samples, expected {scene.samples}")
        energy = np.sum(np.square(made, dtype=np.float64))
        gain = np.sum(made * early, dtype=np.float64) / energy if energy else 0.0
        error = np.sum(np.square(early - gain * made, dtype=np.float64))
        if gain <= 0 or error > 10 ** (MAX_ERROR_DB / 10) * np.sum(np.square(early, dtype=np.float64)):
            remedy = f"so the direct path's level is unknown; choose target early ({self.place})"
            raise MsdetError(f"{self.early}: is not made of {self.speech} and {self.rir}, {remedy}")
        return np.float32(gain)

    def _placed(self, speech: Array, response: Array, first: int, samples: int) -> Array:
        """Speech through a response, whose sample `first` goes to `offset` of the mixture: ``(time,)``."""
        image = scipy.signal.fftconvolve(speech, response)
        start = self.offset - first
        placed = np.zeros(samples, dtype=np.float32)
        piece = image[max(0, -start) : samples - start]
        placed[max(0, start) : max(0, start) + len(piece)] = piece
        return placed

    def _read(self, path: Path, sample_rate: int) -> Array:
        samples, rate = audio.read(path)
        if rate != sample_rate:
            raise MsdetError(f"{path}: is at {rate} Hz, expected {sample_rate} Hz as the mixture")
        return samples


def direct_and_first_reflection_s(room_m: Point, source_m: Point, microphone_m: Array) -> tuple[float, float]:
    """When a sound arrives over the direct path, and over the nearest of a shoebox room's six walls.

    >>> times_s = direct_and_first_reflection_s((9.0, 9.0, 9.0), (4.0, 4.0, 1.0), np.array([4.0, 4.0, 4.43]))
    >>> [round(time_s, 4) for time_s in times_s]
    [0.01, 0.0158]
    """
    images = np.tile(np.array(source_m), (6, 1))
    images[[0, 1, 2], [0, 1, 2]] *= -1.0
    images[[3, 4, 5], [0, 1, 2]] = 2 * np.array(room_m) - source_m
    paths_m = np.linalg.norm(images - microphone_m, axis=-1)
    direct_m = np.linalg.norm(source_m - microphone_m)
    return float(direct_m / SPEED_OF_SOUND), float(paths_m.min() / SPEED_OF_SOUND)


def _pulse(time: Array, sample_rate: int) -> Array:
    """A path's pulse at times ``(tap,)`` in samples after its arrival."""
    half = round(PULSE_S * sample_rate)
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(time / half, -1.0, 1.0))
    return np.asarray(window * np.sinc(time))


def _high_pass(sample_rate: int) -> tuple[list[float], list[float]]:
    """Coefficients of Allen and Berkley's filter, as Habets' generator has it: numerator and denominator."""
    omega = 2 * math.pi * HIGH_PASS_HZ / sample_rate
    radius = math.exp(-omega)
    return [1.0, -(1 + radius), radius], [1.0, -2 * radius * math.cos(omega), radius**2]


def _start(response: Array) -> int:
    """First sample of a response ``(tap,)`` above `START_RATIO` of its peak."""
    magnitude = np.abs(response)
    return int(np.argmax(magnitude > START_RATIO * magnitude.max()))
