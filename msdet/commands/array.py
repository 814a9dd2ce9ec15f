"""``msdet array show`` and ``msdet array check``; an array in plain text."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.arrays import FLAT, MicrophoneArray, array_names, load_array
from msdet.arrays.recorded import choose, parse_channels
from msdet.conventions import Array, azimuth_elevation_deg
from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.diagnostics.check import ArrayReport

EXIT_FAULT = 1


def array_show(array: str | None = None, out: Path | None = None) -> None:
    """Describe and draw a microphone array; without one, list those that are shipped.

    Prints coordinates, neighbors, aperture, the frequency from which on the closest microphones are
    ambiguous, the directions that can be told apart, and the source of the coordinates.

    Args:
        array: name of a shipped array, or path of a TOML file; may come first, unnamed.
        out: picture to write as well, .png or .svg: from above, from the side where the array is not flat,
            with channels, the reference microphone, 0° and the sense of azimuth.
    """
    from msdet.io.files import atomic_path

    if array is None:
        if out is not None:
            raise MsdetError("out needs an array to draw: msdet array show NAME --out PICTURE")
        width = max(map(len, array_names()))
        for shipped in map(load_array, array_names()):
            size = f"{shipped.microphones:2d} microphones  {100 * shipped.aperture_m:5.1f} cm  {shipped.geometry}"
            print(f"  {shipped.name:<{width}}  {size}")
        return
    if out is not None and out.suffix not in (".png", ".svg"):
        raise MsdetError(f"{out}: the picture's name must end in .png or .svg")
    found = load_array(array)
    describe_array(found)
    if out is None:
        return
    from msdet.plots.geometry import array_sheet
    from msdet.plots.theme import drawing

    with atomic_path(out) as temporary, drawing():
        array_sheet(found).savefig(temporary, format=out.suffix[1:], dpi=150, facecolor="white")
    print(f"\n{out}")


def array_check(recordings: list[str], array: str, channels: str | None = None, json: Path | None = None) -> int:
    """Find swapped, dead, inverted or delayed channels of an array from recordings of speech.

    Also clipped, offset and weak channels, copies, and those that die, slip or drift on the way. Walk around
    the array and talk, for half a minute or so: with a talker in one place alone, some swaps do not show,
    which is told. What no recording can tell is whether the order of all channels of a symmetric array is
    rotated or mirrored.

    Exit code 0 if nothing is wrong, 1 if something is, 2 for input that cannot be checked or says too little.

    Args:
        recordings: audio files of the array, of any length, rate and format, taken together; Kaldi tables
            (.scp) of them; or - for a WAV file on standard input. May come unnamed.
        array: name of a shipped array, or path of a TOML file.
        channels: those of the recordings that are the array's microphones, for example 1-4 or 0,2,5; if not given,
            all, or those that a shipped array knows of its device's files.
        json: file for what was found, for other programs to read.
    """
    from msdet.diagnostics.check import check_array
    from msdet.inference.listing import opened
    from msdet.inference.listing import recordings as listed
    from msdet.io.files import write_json

    geometry = load_array(array)
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(r, sys.stdin.buffer)) for r in listed(recordings, distinct=False)]
        numbers = None if channels is None else parse_channels(channels)
        chosen = [choose(source.name, source.channels, geometry, numbers) for source in sources]
        taken = [source.taking(of.numbers) for source, of in zip(sources, chosen, strict=True)]
        if chosen and chosen[0].words:
            print(f"array '{geometry.name}', {chosen[0].words}")
        report = check_array(taken, chosen[0].array if chosen else geometry)
    for finding in report.findings:
        print(finding.text)
    _tell(report)
    if json is not None:
        write_json(json, _as_json(report))
    if not report.findings and not report.enough:
        raise MsdetError(f"{', '.join(source.name for source in sources)}: not enough speech to tell anything sure")
    return EXIT_FAULT if report.findings else 0


def _tell(report: ArrayReport) -> None:
    """Print what was looked at, and what it cannot tell."""
    heard = f"{report.seconds:.1f} s, {report.array.microphones} channels as '{report.array.name}'"
    if report.azimuths_deg:
        places = ", ".join(f"{a:.0f}°" for a in report.azimuths_deg[:8])
        more = ", ..." if len(report.azimuths_deg) > 8 else ""
        heard += f": sound from {places}{more} at {report.moments} moments"
    result = f"faults: {len(report.findings)}" if report.findings else "no fault found"
    print(f"{result if report.findings or report.enough else 'not enough to tell'}  ({heard})")
    for text in report.doubts:
        print_wrapped(f"cannot tell: {text}")


def _as_json(report: ArrayReport) -> dict[str, Any]:
    hidden = report.hidden
    return {
        "array": report.array.name,
        "seconds": round(report.seconds, 3),
        "moments": report.moments,
        "azimuths_deg": list(report.azimuths_deg),
        "fit": None if report.fit is None else round(report.fit, 4),
        "enough_speech": report.enough,
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "hidden": None if hidden is None else dataclasses.asdict(hidden),
        "symmetric": report.symmetric,
        "doubts": list(report.doubts),
    }


ROWS = (13, 17, 21, 27, 35)  # heights to try, from small to large, until no two labels touch
COLUMNS = 61
FINEST_ROW_M = 1e-4  # also where all points are at one place, as a vertical line is from above


def draw_points(points_m: Array) -> tuple[list[str], float]:
    """Points ``(point, 2)`` numbered from 0 on a grid of characters, with a ``+`` at the origin if it is near and free.

    Points at one place share a label, such as ``1,2``. A row is as high as two columns are wide, as in
    most terminals, so that a circle looks round. Gives the lines, top first, and the height of a row in meters.

    >>> for line in draw_points(np.array([[-0.1, 0.0], [0.1, 0.0], [0.1, 0.0]]))[0]:
    ...     print(line)
       0                             +                            1,2
    """
    near = bool(np.abs(points_m.mean(axis=0)).max() <= np.ptp(points_m, axis=0).max())
    shown = np.vstack([points_m, np.zeros((int(near), 2))])
    low, high = shown.min(axis=0), shown.max(axis=0)
    for rows in ROWS:
        row_m = max((high[1] - low[1]) / (rows - 1), (high[0] - low[0]) / ((COLUMNS - 1) / 2), FINEST_ROW_M)
        row = np.rint((high[1] - shown[:, 1]) / row_m).astype(int).tolist()
        column = np.rint((shown[:, 0] - low[0]) / (row_m / 2)).astype(int).tolist()
        cells = list(zip(row, column, strict=True))
        lines, touching = _write(cells[: len(points_m)], cells[len(points_m) :])
        if not touching:
            break
    return lines, float(row_m)


def _write(cells: list[tuple[int, int]], marks: list[tuple[int, int]]) -> tuple[list[str], bool]:
    """Numbers written at their ``(row, column)``, and whether some had to move right for want of room."""
    labels: dict[tuple[int, int], str] = {}
    for number, cell in enumerate(cells):
        labels[cell] = f"{labels[cell]},{number}" if cell in labels else str(number)
    margin = max(map(len, labels.values()))
    lines = [""] * (1 + max(row for row, _ in [*cells, *marks]))
    touching = False
    for (row, column), label in sorted(labels.items()):
        start = margin + column - (len(label) - 1) // 2
        if lines[row] and start <= len(lines[row]):
            touching = True
            start = len(lines[row]) + 1
        lines[row] = lines[row].ljust(start) + label
    for row, column in marks:
        at = margin + column
        line = lines[row].ljust(at + 1)
        if line[at] == " ":
            lines[row] = f"{line[:at]}+{line[at + 1 :]}"
    return lines, touching


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
        print(
            "  models that look around the full circle refuse it; methods and universal_16k give the angle to its line"
        )
    for layout in array.recorded_as:
        print_wrapped(f"its files of {len(layout)} channels: {choose(array.name, len(layout), array).words}")
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


def print_wrapped(text: str) -> None:
    """Print a text in lines that fit, indented."""
    print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ", break_long_words=False))
