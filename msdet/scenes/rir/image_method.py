"""The image source method in a shoebox room, with the fractional delays of pyroomacoustics.

Three things make it fast. Only the images that arrive by a given time are made: they fill a sphere, where
pyroomacoustics' own enumeration, by order of reflection, fills the octahedron around it. Their distances come
from sums over a lattice. And pulses are first collected on a grid of `STEPS` to a sample, with weights by
linear interpolation, then filtered all at once by pyroomacoustics' fractional-delay filters: its builder does
the same sum pulse by pulse, 81 taps each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.scenes.scene import Point

STEPS = 20  # fractional delays to a sample; pyroomacoustics interpolates linearly between as many


@dataclass(frozen=True)
class Images:
    """Images of a source: a part of a lattice with coordinates `axes_m` along x, y and z.

    Image ``i`` is at index ``place[...][i]`` of each axis, after ``order[i]`` reflections.
    """

    axes_m: tuple[Array, Array, Array]
    place: tuple[Array, Array, Array]
    order: Array

    def paths_m(self, microphone_m: Array) -> Array:
        """Distance ``(image,)`` to a microphone."""
        squares = [(axis - m) ** 2 for axis, m in zip(self.axes_m, microphone_m, strict=True)]
        i, j, k = self.place
        return np.asarray(np.sqrt(squares[0][i] + squares[1][j] + squares[2][k]))

    def gains(self, absorption: float) -> Array:
        """Gain of amplitude ``(image,)`` that the walls leave; `absorption` is of energy."""
        return np.asarray(((1.0 - absorption) ** (np.arange(self.order.max() + 1) / 2))[self.order])


def image_sources(room_m: Point, source_m: Array, center_m: Array, radius_m: float) -> Images:
    """The images of a source within a radius of a point; the source itself is always among them."""
    axes, orders, squares = [], [], []
    for length, coordinate, middle in zip(room_m, source_m, center_m, strict=True):
        cells = math.ceil(radius_m / length) + 1
        cell = np.arange(-cells, cells + 1)
        images = cell * length + np.where(cell % 2 == 0, coordinate, length - coordinate)
        near = (np.abs(images - middle) <= radius_m) | (cell == 0)
        axes.append(images[near])
        orders.append(np.abs(cell[near]))
        squares.append((images[near] - middle) ** 2)
    inside = (squares[0][:, None] + squares[1])[..., None] + squares[2] <= radius_m**2
    inside[np.ix_(*(order == 0 for order in orders))] = True
    i, j, k = np.nonzero(inside)
    return Images((axes[0], axes[1], axes[2]), (i, j, k), orders[0][i] + orders[1][j] + orders[2][k])


def image_responses(
    room_m: Point,
    absorption: float,
    longest_m: float,
    microphones_m: Array,
    sources_m: Array,
    sample_rate: int,
    speed_of_sound: float = SPEED_OF_SOUND,
) -> Array:
    """Responses ``(source, mic, tap)`` of all paths up to `longest_m`, before any high-pass, float32.

    The image source method (Allen and Berkley, JASA 1979) in a shoebox whose walls all have one energy
    absorption; an absorption of 1 leaves the direct path.
    """
    center = microphones_m.mean(axis=0)
    reach_m = np.linalg.norm(microphones_m - center, axis=-1).max()
    direct_m = np.linalg.norm(sources_m - center, axis=-1).max()
    radius_m = longest_m + reach_m if absorption < 1 else 0.0
    latest = (max(radius_m, direct_m) + reach_m) / speed_of_sound * sample_rate
    filters = _fractional_delays()
    delay = len(filters) // 2 - 1
    taps = math.ceil(latest) + delay + 2
    size = scipy.fft.next_fast_len(taps + len(filters), real=True)
    spectra = scipy.fft.rfft(filters, size, axis=0)
    responses = np.empty((len(sources_m), len(microphones_m), taps), dtype=np.float32)
    for source, row in zip(sources_m, responses, strict=True):
        images = image_sources(room_m, source, center, radius_m)
        gains = images.gains(absorption)
        for microphone, response in zip(microphones_m, row, strict=True):
            paths_m = images.paths_m(microphone)
            grid = _collect(paths_m * (STEPS * sample_rate / speed_of_sound), gains / paths_m, taps * STEPS)
            pulses = scipy.fft.rfft(grid.reshape(taps, STEPS), size, axis=0)
            response[:] = scipy.fft.irfft((pulses * spectra).sum(axis=1), size)[delay : delay + taps]
    return responses


def _collect(place: Array, amplitude: Array, size: int) -> Array:
    """Pulses ``(pulse,)`` at places between the points of a grid, shared by the two nearest: ``(size,)``."""
    before = place.astype(np.int64)
    late = amplitude * (place - before)
    grid = np.bincount(before, amplitude - late, size)
    grid[1:] += np.bincount(before, late, size)[:-1]
    return grid.astype(np.float32)


@lru_cache(maxsize=1)
def _fractional_delays() -> Array:
    """Filters of pyroomacoustics ``(tap, step)``, for delays of 0, 1, … of `STEPS` parts of a sample.

    They are two taps longer than its, and delay by a further ``len // 2 - 1`` samples.
    """
    from pyroomacoustics import constants, libroom

    taps = constants.get("frac_delay_length")
    filters = np.zeros((STEPS, taps + 2), dtype=np.float32)
    for step, row in enumerate(filters):
        arrival = np.array([taps // 2 + step / STEPS], dtype=np.float32)
        libroom.rir_builder(row, arrival, np.ones(1, dtype=np.float32), 1, taps, STEPS, 1)
    return np.ascontiguousarray(filters.T)
