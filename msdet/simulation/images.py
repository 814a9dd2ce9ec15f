"""The image source method in a shoebox room, its responses put together by pyroomacoustics.

Only the images that arrive by a given time are made: they fill a sphere, where pyroomacoustics' own
enumeration, by order of reflection, fills the octahedron around it. Its builder of responses delays them by
half the length of its fractional-delay filter, which is removed here.
"""

from __future__ import annotations

import math

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.simulation.scene import Point


def image_responses(
    room_m: Point,
    absorption: float,
    longest_m: float,
    microphones_m: Array,
    sources_m: Array,
    sample_rate: int,
    speed_of_sound: float = SPEED_OF_SOUND,
) -> Array:
    """Responses ``(source, mic, tap)`` of all paths up to `longest_m`, before any low cut, float32.

    The image source method (Allen and Berkley, JASA 1979) in a shoebox whose walls all have one energy
    absorption; an absorption of 1 leaves the direct path.
    """
    from pyroomacoustics import constants, libroom

    filter_taps, table = constants.get("frac_delay_length"), constants.get("sinc_lut_granularity")
    delay = filter_taps // 2
    centre = microphones_m.mean(axis=0)
    radius_m = longest_m + np.linalg.norm(microphones_m - centre, axis=-1).max()
    latest_m = radius_m + np.linalg.norm(microphones_m - centre, axis=-1).max()
    taps = math.ceil(latest_m / speed_of_sound * sample_rate) + filter_taps + 2
    summed = np.zeros((len(sources_m), len(microphones_m), taps), dtype=np.float32)
    for source, row in zip(sources_m, summed, strict=True):
        images, order = image_sources(room_m, source, centre, radius_m if absorption < 1 else 0.0)
        gain = wall_gain(absorption, order)
        for microphone, response in zip(microphones_m, row, strict=True):
            path_m = np.sqrt(((images - microphone[:, None]) ** 2).sum(axis=0))
            arrival_s = (path_m / speed_of_sound + delay / sample_rate).astype(np.float32)
            amplitude = (gain / path_m).astype(np.float32)
            libroom.rir_builder(response, arrival_s, amplitude, sample_rate, filter_taps, table, 1)
    return summed[..., delay : taps - delay]


def image_sources(room_m: Point, source_m: Array, centre_m: Array, radius_m: float) -> tuple[Array, Array]:
    """Positions ``(3, image)`` of a source's images within a radius of a point, and reflections ``(image,)``.

    The source itself is always among them, first.
    """
    axes = []
    for length, coordinate, middle in zip(room_m, source_m, centre_m, strict=True):
        cells = math.ceil(radius_m / length) + 1
        cell = np.arange(-cells, cells + 1)
        images = cell * length + np.where(cell % 2 == 0, coordinate, length - coordinate)
        near = np.abs(images - middle) <= radius_m
        axes.append((images[near], np.abs(cell[near]), (images[near] - middle) ** 2))
    (x, x_order, x2), (y, y_order, y2), (z, z_order, z2) = axes
    inside = (x2[:, None] + y2)[..., None] + z2 <= radius_m**2
    i, j, k = np.nonzero(inside)
    order = x_order[i] + y_order[j] + z_order[k]
    images, reflected = np.stack([x[i], y[j], z[k]]), order > 0
    return (
        np.concatenate([np.asarray(source_m)[:, None], images[:, reflected]], axis=1),
        np.concatenate([[0], order[reflected]]),
    )


def wall_gain(absorption: float, order: Array) -> Array:
    """Gain of amplitude ``(image,)`` after `order` reflections."""
    gain: Array = ((1.0 - absorption) ** (np.arange(order.max() + 1) / 2))[order]
    return gain
