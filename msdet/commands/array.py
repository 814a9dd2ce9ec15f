"""``msdet array show`` and ``msdet array check``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
    from msdet.arrays import array_names, load_array
    from msdet.commands._arrays import describe_array, list_arrays
    from msdet.errors import MsdetError
    from msdet.io.files import atomic_path

    if array is None:
        if out is not None:
            raise MsdetError("out needs an array to draw: msdet array show NAME --out PICTURE")
        list_arrays(array_names())
        return
    if out is not None and out.suffix not in (".png", ".svg"):
        raise MsdetError(f"{out}: the picture's name must end in .png or .svg")
    found = load_array(array)
    describe_array(found)
    if out is None:
        return
    from msdet.plots.array import array_sheet
    from msdet.plots.theme import drawing

    with atomic_path(out) as temporary, drawing():
        array_sheet(found).savefig(temporary, format=out.suffix[1:], dpi=150, facecolor="white")
    print(f"\n{out}")


def array_check(recordings: list[str], array: str, json: Path | None = None) -> int:
    """Find swapped, dead, inverted or delayed channels of an array from recordings of speech.

    Also clipped, offset and weak channels, and copies. Walk around the array and talk, for half a minute or
    so: with a talker in one place alone, some swaps do not show, which is told. What no recording can tell is
    whether the order of all channels of a symmetric array is rotated or mirrored.

    Exit code 0 if nothing is wrong, 1 if something is, 2 for input that cannot be checked.

    Args:
        recordings: audio files of the array, of any length, rate and format, taken together; Kaldi tables
            (.scp) of them; or - for a WAV file on standard input. May come unnamed.
        array: name of a shipped array, or path of a TOML file.
        json: file for what was found, for other programs to read.
    """
    from msdet.arrays import load_array
    from msdet.diagnostics.check import check_array
    from msdet.inference.listing import opened
    from msdet.inference.listing import recordings as listed
    from msdet.io.files import write_json

    geometry = load_array(array)
    with ExitStack() as stack:
        sources = [
            stack.enter_context(opened(r, sys.stdin.buffer)) for r in listed(recordings, distinct=False)
        ]
        report = check_array(sources, geometry)
    for finding in report.findings:
        print(finding.text)
    _tell(report)
    if json is not None:
        write_json(json, _as_json(report))
    return EXIT_FAULT if report.findings else 0


def _tell(report: ArrayReport) -> None:
    """Print what was looked at, and what it cannot tell."""
    from msdet.commands._arrays import print_wrapped

    heard = f"{report.seconds:.1f} s, {report.array.microphones} channels as '{report.array.name}'"
    if report.azimuths_deg:
        places = ", ".join(f"{a:.0f}°" for a in report.azimuths_deg[:8])
        more = ", ..." if len(report.azimuths_deg) > 8 else ""
        heard += f": sound from {places}{more} at {report.moments} moments"
    print(f"{'faults: ' + str(len(report.findings)) if report.findings else 'no fault found'}  ({heard})")
    for text in report.doubts:
        print_wrapped(f"cannot tell: {text}")


def _as_json(report: ArrayReport) -> dict[str, Any]:
    """The report as JSON can express it."""
    import dataclasses

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
