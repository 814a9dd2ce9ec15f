"""``msdet separate``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.errors import MsdetError
from msdet.inference.blocks import Beamformer, BlockOptions, Match

if TYPE_CHECKING:
    from msdet.inference.listing import Recording
    from msdet.inference.offline import OfflineSeparation, SystemFactory


def separate(
    recordings: list[str],
    out: Path,
    model: Path | None = None,
    method: str | None = None,
    array: str | None = None,
    channels: str | None = None,
    talkers: int | None = None,
    block_s: float = 12.0,
    overlap_s: float = 2.0,
    match: Match = "both",
    gate: bool = True,
    highpass_hz: float = 60.0,
    beamform: Beamformer | None = None,
    keep_rate: bool = False,
    subtype: str = "PCM_16",
    page: bool = False,
    dnsmos: bool = False,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Separate recordings of any length into talkers and their directions.

    By a model, which knows its array and number of talkers, or a method without training; some methods give
    directions or voices alone (norm_music, auxiva). Memory does not grow with length.

    Writes a WAV file a talker (ascending in azimuth), doa.json (directions and activity, overall and over
    time) and talkers.rttm (who speaks when). Ends with 1 if some of several recordings failed.

    Args:
        recordings: multichannel audio, channels in the array's order; Kaldi tables (.scp); - for standard input.
        out: folder for talker1.wav and so on; with several recordings or a table, for a folder of each.
        model: checkpoint directory, package (.tar) or name of a shipped model (`msdet info` lists them); without
            model and method, the shipped one for the array and the recording's sample rate.
        method: a baseline instead of a model, for example srp_beam, or with options auxiva,iterations=100.
        array: name of a shipped array or path of a TOML file, if not the one that the model was trained on.
        channels: the array's microphones, from 0, as 1-4 or 0,2,5; else all, or those of a shipped array's device.
        talkers: with a method, number of talkers (2 if not given).
        block_s: length of the blocks that a long recording is cut into.
        overlap_s: what two blocks share, up to half a block; they are cross-faded there.
        match: what keeps talkers in their slots from block to block: overlap and direction, or one of them.
        gate: silence a slot in blocks in which nobody speaks.
        highpass_hz: first take away what is below: rumble, wind, most of a mains hum; 0 for nothing.
        beamform: mvdr estimates each voice once more by a linear filter, with fewer artifacts.
        keep_rate: write voices at the recording's sample rate, not at the model's.
        subtype: sample format, such as PCM_24 or FLOAT. Voices that would clip are scaled down together.
        page: also write index.html, a page to look at and listen to, which opens offline.
        dnsmos: on the page, also the quality that DNSMOS predicts (pip install msdet[dnsmos]).
        device: to compute on: cpu, cuda or, for one of several GPUs, cuda:1.
        threads: cores to compute on; small models gain little from more, and lose much where cores are shared.
    """
    from msdet.commands import _inference
    from msdet.inference.results import write_separation

    options = BlockOptions(block_s, overlap_s, match, gate, highpass_hz)
    _check_written(subtype, dnsmos, page)
    systems = _inference.systems(model, method, array, talkers, device, beamform, channels)
    write = partial(write_separation, keep_rate=keep_rate, subtype=subtype, beamform=beamform)
    return _inference.each(recordings, threads, partial(_separate, out, systems, options, write, page, dnsmos))


def _check_written(subtype: str, dnsmos: bool, page: bool) -> None:
    from msdet.io.audio import check_subtype

    check_subtype(subtype)
    if dnsmos and not (page and find_spec("speechmos")):
        raise MsdetError("--dnsmos is for the page (--page), and needs speechmos (pip install msdet[dnsmos])")


def _separate(
    out: Path,
    systems: SystemFactory,
    options: BlockOptions,
    write: Callable[..., dict[str, Any]],
    page: bool,
    rated: bool,
    recording: Recording,
    alone: bool,
) -> None:
    """Separate a recording into the folder, or, of several, into one of its name there."""
    from msdet.commands._inference import separating, tell_doubts

    start_s = time.perf_counter()
    folder, name = out if alone else out / recording.name, recording.name
    with separating(recording, systems, options) as (offline, pieces):
        draw = partial(_page, folder, offline, name, rated) if page else None
        described = write(folder, offline, name, recording.file, pieces=pieces, page=draw)
    tell_doubts(described, offline)
    _tell(described, folder, offline.scan.seconds, time.perf_counter() - start_s)


def _page(out: Path, offline: OfflineSeparation, name: str, rated: bool, described: dict[str, Any]) -> str:
    """The page of a recording whose voices are written."""
    from msdet.report.recording_page import estimate_overview, overview, recording_page

    reference = described["array"]["reference"]
    pieces = (piece[reference] for piece in offline.source.pieces())
    mixture = overview(pieces, offline.scan.samples, offline.scan.sample_rate)
    estimates = [estimate_overview(out / t["file"]) for t in described["talkers"] if "file" in t]
    return recording_page(name, described, mixture, estimates, rated)


def _tell(described: dict[str, Any], out: Path, seconds: float, took_s: float) -> None:
    """Print a line a talker, of what there is, and how fast it was."""
    for number, found in enumerate(described["talkers"], start=1):
        shown = [str(out / found["file"]) if "file" in found else f"talker {number}"]
        if found.get("azimuth_deg") is not None:
            shown.append(f"azimuth {found['azimuth_deg']:5.1f}°")
        if found.get("confidence") is not None:
            shown.append(f"confidence {found['confidence']:.2f}")
        shown.append(f"speaks {found['active_s']:.1f} of {seconds:.1f} s")
        print("  ".join(shown))
    print(f"{seconds:.1f} s in {took_s:.1f} s: real-time factor {took_s / seconds:.2f}")
