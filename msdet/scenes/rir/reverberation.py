"""How a room reverberates, and which absorption gives it a target reverberation time."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.errors import MsdetError
from msdet.scenes.rir.image_method import image_sources
from msdet.scenes.scene import Point, T60Rule, size_text

TYPICAL_DISTANCE_M = 1.5  # distance at which the direct path counts in a predicted decay
MIN_ABSORPTION, MAX_ABSORPTION = 1e-3, 0.99
INAUDIBLE_DB = -66.0  # images that arrive after a response has decayed to this level are left out
MAX_IMAGES = 4_000_000  # image sources a talker: about 0.5 GB while they are summed
HIGHPASS_HZ = 50.0
_PROBE_RATE = 8000

_PROBES = np.array(
    [
        [0.5, 0.35, 0.24], [0.28, 0.65, 0.41], [0.72, 0.16, 0.59], [0.17, 0.45, 0.76],
        [0.61, 0.74, 0.1], [0.39, 0.26, 0.27], [0.83, 0.55, 0.45],
    ]
)  # fmt: skip
"""A source and microphones to calibrate with, in shares of a room's size: spread evenly (Halton)."""

_PROBE_SHARE = 1.1  # part of the T60 that the probes render


def highpass(samples: Array, sample_rate: int) -> Array:
    """A microphone's high-pass along the last axis: second-order Butterworth at `HIGHPASS_HZ`, causal.

    Image sources are positive pulses, so their sum has too much energy at low frequencies, decaying slowly.
    """
    sos = scipy.signal.butter(2, HIGHPASS_HZ, "highpass", fs=sample_rate, output="sos")
    return np.asarray(scipy.signal.sosfilt(sos, samples, axis=-1), dtype=np.float32)


def measured_t60_s(responses: Array, sample_rate: int) -> float:
    """T60 of responses ``(source, tap)``: extrapolated from T30 (Schroeder), median."""
    from pyroomacoustics.experimental import measure_rt60

    measured = [measure_rt60(h, fs=sample_rate, decay_db=30) for h in responses]
    return round(float(np.median(measured)), 4)


def predicted_t60_s(room_m: Point, absorption: float, speed_of_sound: float = SPEED_OF_SOUND) -> float:
    """T60 from the T30 of the incoherent sum of image sources; `absorption` is of energy, at every wall."""
    path_m, decay_db = _predicted_decay(room_m, absorption)
    fitted = (decay_db <= -5.0) & (decay_db >= -35.0)
    slope = np.polyfit(path_m[fitted], decay_db[fitted], 1)[0]
    return float(-60.0 / slope / speed_of_sound)


def shortest_t60_s(room_m: Point) -> float:
    """The T60 of a room with walls of `MAX_ABSORPTION`."""
    return predicted_t60_s(room_m, MAX_ABSORPTION)


def longest_t60_s(room_m: Point, speed_of_sound: float = SPEED_OF_SOUND) -> float:
    """The T60 at which `MAX_IMAGES` image sources are audible; longer ones take too much memory."""
    radius_m = (MAX_IMAGES * math.prod(room_m) * 3 / (4 * math.pi)) ** (1 / 3)
    return float(radius_m / speed_of_sound / 1.2)  # the end of a decay is slower than its T30


def audible_path_m(room_m: Point, absorption: float) -> float:
    """Path length at which the predicted decay has reached `INAUDIBLE_DB`."""
    path_m, decay_db = _predicted_decay(room_m, absorption)
    return float(np.interp(-INAUDIBLE_DB, -decay_db, path_m))


def absorption_for_t60(
    room_m: Point, t60_s: float, speed_of_sound: float = SPEED_OF_SOUND, rule: T60Rule = "measured"
) -> float:
    """The energy absorption of all walls with which responses in the room have the target T60.

    Or that which Sabine's formula gives, by the rule of that name: as in the generator of Habets (2010), which SMS-WSJ
    uses, responses then have a longer T60, for image sources do not make a diffuse field.

    The prediction leaves out that reflections add up in phase at low frequencies, which lengthens the T60 by up to a
    fifth. So the T60 is measured between a few places in the room, and the prediction's target corrected by the ratio,
    except beyond `longest_t60_s`. An `MsdetError` says that the room cannot have that T60.
    """
    if rule == "sabine":
        x, y, z = room_m
        sabine_s = 24.0 * math.log(10.0) * x * y * z / (speed_of_sound * 2.0 * (x * y + y * z + z * x))
        if t60_s * MAX_ABSORPTION < sabine_s:
            least = f"by Sabine's formula at least {sabine_s / MAX_ABSORPTION:.3f} s"
            raise MsdetError(f"a T60 of {t60_s} s is impossible in a room of {size_text(room_m)}, which has {least}")
        return sabine_s / t60_s
    shortest, longest = (predicted_t60_s(room_m, a, speed_of_sound) for a in (MAX_ABSORPTION, MIN_ABSORPTION))
    if not shortest <= t60_s <= longest:
        limits = f"{shortest:.3f} s to {longest:.1f} s"
        raise MsdetError(f"a T60 of {t60_s} s is impossible in a room of {size_text(room_m)}, which allows {limits}")
    absorption = _absorption_for_prediction(room_m, t60_s, speed_of_sound)
    if t60_s > longest_t60_s(room_m, speed_of_sound):
        return absorption
    probed_s = _probed_t60_s(room_m, absorption, _PROBE_SHARE * t60_s, speed_of_sound)
    return _absorption_for_prediction(room_m, t60_s * t60_s / probed_s, speed_of_sound)


def _absorption_for_prediction(room_m: Point, t60_s: float, speed_of_sound: float) -> float:
    """The absorption whose predicted T60 is `t60_s`, or the nearest possible."""
    low, high = MIN_ABSORPTION, MAX_ABSORPTION
    for _ in range(25):
        middle = math.sqrt(low * high)
        if predicted_t60_s(room_m, middle, speed_of_sound) > t60_s:
            low = middle
        else:
            high = middle
    return high


def _probed_t60_s(room_m: Point, absorption: float, seconds: float, speed_of_sound: float) -> float:
    """Mean T60 of responses between the probes, put together to the nearest sample, which is quick."""
    probes = _PROBES * np.asarray(room_m)
    radius_m = seconds * speed_of_sound + math.hypot(*room_m)
    images = image_sources(room_m, probes[0], probes[1:].mean(axis=0), radius_m)
    gains = images.gains(absorption)
    measured = []
    for microphone in probes[1:]:
        paths_m = images.paths_m(microphone)
        arrival = (paths_m * (_PROBE_RATE / speed_of_sound) + 0.5).astype(np.int64)
        response = np.bincount(arrival, gains / paths_m)[: round(seconds * _PROBE_RATE)]
        measured.append(measured_t60_s(highpass(response, _PROBE_RATE)[None], _PROBE_RATE))
    return float(np.mean(measured))


def _predicted_decay(room_m: Point, absorption: float) -> tuple[Array, Array]:
    """Schroeder curve in dB ``(length,)`` over path length in meters ``(length,)``.

    A path of length s in direction u meets s (|u_x|/X + |u_y|/Y + |u_z|/Z) walls, so the decay is a sum of
    exponentials, one a direction (after Lehmann and Johansson, JASA 2008), slower late than early. The direct
    path at `TYPICAL_DISTANCE_M` is included, as it is in a measured decay.
    """
    walls, sums = _walls_met(room_m)
    loss = -math.log1p(-absorption)  # of energy, in nepers a wall
    # energy of the images in a shell is (4 pi / V) ds; integrated from s to infinity
    late = (4 * np.pi / math.prod(room_m)) / loss * sums
    return walls / loss, 10 * np.log10(late / (late[0] + 1.0 / TYPICAL_DISTANCE_M**2))


@lru_cache(maxsize=64)
def _walls_met(room_m: Point) -> tuple[Array, Array]:
    """Path length times the loss at a wall ``(length,)``, and there the mean of exp(-s r) / r."""
    per_meter = _DIRECTIONS @ (1.0 / np.asarray(room_m))
    scaled = np.linspace(0.0, 30.0 / per_meter.mean(), 400)
    return scaled, (np.exp(-np.outer(scaled, per_meter)) / per_meter).mean(axis=1)


def _octant_directions(steps: int) -> Array:
    """Unit vectors ``(steps², 3)`` spread evenly over one octant of the sphere."""
    z, azimuth = np.meshgrid((np.arange(steps) + 0.5) / steps, (np.arange(steps) + 0.5) / steps * np.pi / 2)
    horizontal = np.sqrt(1.0 - z**2)
    return np.stack([horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), z], -1).reshape(-1, 3)


_DIRECTIONS = _octant_directions(12)
