"""An array described in plain text, for `msdet info` and `msdet array show`."""

from __future__ import annotations

import textwrap

import numpy as np

from msdet.arrays import FLAT, MicrophoneArray, load_array
from msdet.commands._drawing import draw_points
from msdet.conventions import azimuth_elevation_deg


def describe_array(array: MicrophoneArray) -> None:
    """Print what there is to know of an array, and draw it."""
    first, second = array.closest_pair
    print(f"array {array.name}: {array.microphones} microphones, reference is channel {array.reference}")
    for label, text in (("", array.description), ("source: ", array.source)):
        if text:
            print_wrapped(f"{label}{text}")
    print(f"  {array.geometry}; aperture {100 * array.aperture_m:.1f} cm")
    print(
        f"  closest pair: channels {first} and {second}, {100 * array.closest_distance_m:.1f} cm; "
        f"aliasing from {array.aliasing_frequency_hz:.0f} Hz"
    )
    print_wrapped(f"tells apart: {array.resolvable_domain.words}")
    if array.is_linear:
        print("  models need the full circle of azimuths and refuse a linear array")
    print(f"  centroid {100 * np.linalg.norm(array.centroid_m):.1f} cm from the origin")
    for caution in array.cautions:
        print_wrapped(f"caution: {caution}")
    print("  azimuth: 0° = +x, counter-clockwise seen from above; elevation: from the xy-plane up to +z")
    distances_m = array.distances_m
    nearest = np.where(np.eye(array.microphones, dtype=bool), np.inf, distances_m).argmin(axis=1)
    azimuth, elevation = azimuth_elevation_deg(array.positions)
    for channel, (x, y, z) in enumerate(array.positions_m):
        seen = f"azimuth {azimuth[channel]:5.1f}°  elevation {elevation[channel] + 0.0:+5.1f}°"
        near = f"nearest: {nearest[channel]}, {100 * distances_m[channel, nearest[channel]]:.1f} cm"
        print(f"  channel {channel:2d}: {x + 0.0:+.4f} {y + 0.0:+.4f} {z + 0.0:+.4f} m  {seen}  {near}")
    views = [("from above, x right, y up", [0, 1])]
    if np.ptp(array.positions[:, 2]) > FLAT * array.aperture_m:
        views.append(("from the front (from +x), y right, z up", [1, 2]))
    for view, coordinates in views:
        lines, row_m = draw_points(array.positions[:, coordinates])
        origin = "; + is the origin" if any("+" in line for line in lines) else ""
        print(f"\n  {view}{origin}; a row is {100 * row_m:.2g} cm high\n")
        print("\n".join(f"    {line}".rstrip() for line in lines))


def list_arrays(names: list[str]) -> None:
    """Print a line a shipped array."""
    arrays = [load_array(name) for name in names]
    width = max(map(len, names))
    for array in arrays:
        wide = f"{100 * array.aperture_m:5.1f} cm"
        print(f"  {array.name:<{width}}  {array.microphones:2d} microphones  {wide}  {array.geometry}")


def print_wrapped(text: str) -> None:
    """Print a text in lines that fit, indented."""
    print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ", break_long_words=False))
