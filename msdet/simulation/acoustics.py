"""Room impulse responses by pyroomacoustics' image source method.

Two things are put right here, once: pyroomacoustics delays every response by half the length of its
fractional-delay filter, which is removed; and it renders image sources that arrive after the T60 (more than
half of them, in the corners of the octahedron of reflection orders), which are left out.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, sosfilt

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.errors import MsdetError
from msdet.simulation.scene import Point, Target

EARLY_S = 0.05
"""The early part of a response ends this long after the direct path (SMS-WSJ)."""

TYPICAL_DISTANCE_M = 1.5
"""Distance at which the direct path counts in a predicted decay."""

MAX_ABSORPTION = 0.99

LOW_CUT_HZ = 50.0

MAX_IMAGES = 2_000_000
"""Image sources a talker: about 1 GB while they are made."""


@dataclass(frozen=True)
class RoomResponse:
    """Impulse responses of one room.

    Attributes:
        rirs: ``(source, mic, tap)`` float32, time 0 is emission.
        direct: ``(source, mic, tap)`` float32, the direct path alone.
        t60_measured_s: extrapolated from T30 (Schroeder) of the first microphone's responses after `low_cut`,
            median over sources.
    """

    rirs: Array
    direct: Array
    t60_measured_s: float

    def target(self, kind: Target, microphone: int, sample_rate: int) -> Array:
        """The part ``(source, tap)`` of the responses at one microphone that a reference holds."""
        if kind == "direct":
            return self.direct[:, microphone]
        responses = self.rirs[:, microphone]
        if kind == "image":
            return responses
        arrival = np.abs(self.direct[:, microphone]).argmax(axis=-1)
        end = arrival + round(EARLY_S * sample_rate)
        return np.where(np.arange(responses.shape[-1]) < end[:, None], responses, np.float32(0.0))


def low_cut(samples: Array, sample_rate: int) -> Array:
    """A microphone's low cut along the last axis: second-order Butterworth at `LOW_CUT_HZ`, causal.

    The image source method sums positive pulses, so its responses hold far too much energy at the lowest
    frequencies, which also decays more slowly. Dry speech is filtered instead of each response (the order
    does not matter), which keeps the direct path one short pulse.
    """
    sos = butter(2, LOW_CUT_HZ, "highpass", fs=sample_rate, output="sos")
    filtered: Array = sosfilt(sos, samples, axis=-1).astype(np.float32)
    return filtered


def predicted_t60_s(room_m: Point, absorption: float, speed_of_sound: float = SPEED_OF_SOUND) -> float:
    """T60 extrapolated from the T30 of the image source method in a shoebox of uniform absorption.

    A path of length s in direction u meets s (|u_x|/X + |u_y|/Y + |u_z|/Z) walls, so the decay is a sum of
    exponentials, one a direction (after Lehmann and Johansson, JASA 2008), slower late than early. Sabine's
    single exponential misses it by tens of per cent, either way. The direct path at `TYPICAL_DISTANCE_M` is
    included, as it is in a measured decay.

    Args:
        room_m: size of the room.
        absorption: of energy, at every wall, in (0, 1).
        speed_of_sound: metres per second.
    """
    per_metre = -math.log1p(-absorption) * (_DIRECTIONS @ (1.0 / np.asarray(room_m)))
    # energy of the images in a shell is (4 pi / V) ds; integrated from s to infinity
    rate = np.sort(per_metre)
    path_m = np.linspace(0.0, 14.0 / rate.mean(), 600)
    late = (4 * np.pi / math.prod(room_m)) * (np.exp(-np.outer(path_m, rate)) / rate).mean(axis=1)
    total = late[0] + 1.0 / TYPICAL_DISTANCE_M**2
    decay_db = 10 * np.log10(late / total)
    fitted = (decay_db <= -5.0) & (decay_db >= -35.0)
    slope = np.polyfit(path_m[fitted], decay_db[fitted], 1)[0]
    return float(-60.0 / slope / speed_of_sound)


def longest_t60_s(room_m: Point, speed_of_sound: float = SPEED_OF_SOUND) -> float:
    """The T60 at which `MAX_IMAGES` image sources arrive in time; longer ones take too much memory."""
    radius_m = (MAX_IMAGES * math.prod(room_m) * 3 / (4 * math.pi)) ** (1 / 3)
    return float(radius_m / speed_of_sound)


def absorption_for_t60(room_m: Point, t60_s: float, speed_of_sound: float = SPEED_OF_SOUND) -> float:
    """The energy absorption of all walls with which `predicted_t60_s` gives the T60 asked for.

    Raises:
        MsdetError: the room cannot have that T60.
    """
    low, high = 1e-3, MAX_ABSORPTION
    longest, shortest = (predicted_t60_s(room_m, a, speed_of_sound) for a in (low, high))
    if not shortest <= t60_s <= longest:
        size = " x ".join(f"{v:.2f}" for v in room_m)
        raise MsdetError(
            f"a T60 of {t60_s} s is impossible in a room of {size} m, which allows {shortest:.3f} s "
            f"to {longest:.1f} s"
        )
    for _ in range(30):
        middle = math.sqrt(low * high)
        if predicted_t60_s(room_m, middle, speed_of_sound) > t60_s:
            low = middle
        else:
            high = middle
    return high


def _octant_directions(steps: int) -> Array:
    """Unit vectors ``(steps², 3)`` spread evenly over one octant of the sphere."""
    z, azimuth = np.meshgrid((np.arange(steps) + 0.5) / steps, (np.arange(steps) + 0.5) / steps * np.pi / 2)
    horizontal = np.sqrt(1.0 - z**2)
    return np.stack([horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), z], -1).reshape(-1, 3)


_DIRECTIONS = _octant_directions(16)


def room_response(
    room_m: Point,
    t60_s: float,
    microphones_m: Array,
    sources_m: Array,
    sample_rate: int,
    speed_of_sound: float = SPEED_OF_SOUND,
) -> RoomResponse:
    """Responses from every source to every microphone in a shoebox room.

    Args:
        room_m: size of the room.
        t60_s: reverberation time asked for; 0 is anechoic.
        microphones_m: ``(mic, 3)`` in the room.
        sources_m: ``(source, 3)`` in the room.
        sample_rate: hertz.
        speed_of_sound: metres per second.

    Raises:
        MsdetError: the room cannot have that T60, or a microphone is outside it.
    """
    import pyroomacoustics as pra

    for number, position in enumerate(microphones_m):
        if not ((position > 0) & (position < np.asarray(room_m))).all():
            size = " x ".join(f"{v:.2f}" for v in room_m)
            raise MsdetError(
                f"microphone {number} at {position.round(2).tolist()} is outside the room of {size} m"
            )
    pra.constants.set("num_threads", 1)
    pra.constants.set("rir_hpf_enable", False)  # see `low_cut`
    direct = _shoebox_rirs(room_m, 1.0, 0, microphones_m, sources_m, sample_rate, speed_of_sound, None)
    if t60_s == 0:
        return RoomResponse(direct, direct, 0.0)
    absorption = absorption_for_t60(room_m, t60_s, speed_of_sound)
    # the octahedron of this order holds the sphere of images that arrive within the T60
    radius = min(a * b / math.hypot(a, b) for a, b in itertools.combinations(room_m, 2))
    order = math.ceil(t60_s * speed_of_sound / radius)
    rirs = _shoebox_rirs(
        room_m, absorption, order, microphones_m, sources_m, sample_rate, speed_of_sound, t60_s
    )
    measured = [
        pra.experimental.measure_rt60(low_cut(h[0], sample_rate), fs=sample_rate, decay_db=30) for h in rirs
    ]
    return RoomResponse(rirs, direct, round(float(np.median(measured)), 4))


def _shoebox_rirs(
    room_m: Point,
    absorption: float,
    order: int,
    microphones_m: Array,
    sources_m: Array,
    sample_rate: int,
    speed_of_sound: float,
    latest_s: float | None,
) -> Array:
    """Responses ``(source, mic, tap)`` up to a reflection order and, if given, an arrival time."""
    import pyroomacoustics as pra

    room = pra.ShoeBox(list(room_m), fs=sample_rate, materials=pra.Material(absorption), max_order=order)
    room.set_sound_speed(speed_of_sound)
    room.add_microphone_array(np.ascontiguousarray(microphones_m.T))
    for position in sources_m:
        room.add_source(position)
    room.image_source_model()
    if latest_s is not None:
        _discard_late_images(room, microphones_m, latest_s * speed_of_sound)
    room.compute_rir()
    delay = pra.constants.get("frac_delay_length") // 2
    responses = [[room.rir[m][s][delay:] for m in range(len(microphones_m))] for s in range(len(sources_m))]
    taps = max(len(h) for row in responses for h in row)
    stacked = np.zeros((len(sources_m), len(microphones_m), taps), dtype=np.float32)
    for s, row in enumerate(responses):
        for m, h in enumerate(row):
            stacked[s, m, : len(h)] = h
    return stacked


def _discard_late_images(room: object, microphones_m: Array, longest_m: float) -> None:
    """Keep the image sources within `longest_m` of the array, the sphere that all orders fill."""
    centre = microphones_m.mean(axis=0)[:, None]
    for index, source in enumerate(room.sources):  # type: ignore[attr-defined]
        keep = np.linalg.norm(source.images - centre, axis=0) <= longest_m
        for name in ("images", "damping", "orders_xyz"):
            setattr(source, name, getattr(source, name)[:, keep])
        for name in ("orders", "walls", "generators"):
            setattr(source, name, getattr(source, name)[keep])
        source.directions = source.directions[:, :, keep]
        room.visibility[index] = room.visibility[index][:, keep]  # type: ignore[attr-defined]
