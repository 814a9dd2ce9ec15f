"""``msdet localize``."""

from __future__ import annotations

import dataclasses
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.errors import MsdetError
from msdet.inference.blocks import BlockOptions, Match

if TYPE_CHECKING:
    from msdet.inference.listing import Recording
    from msdet.inference.offline import SystemFactory
    from msdet.methods.base import Separation


def localize(
    recordings: list[str],
    out: Path | None = None,
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
    json: bool = False,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Find where the talkers of recordings are, and who speaks when; no audio is written.

    Prints a line a talker; warnings go to standard error. Ends with 1 if some of several recordings failed.

    Args:
        recordings: multichannel audio files, channels in the array's order; Kaldi tables (.scp) of them; or -
            for a WAV file on standard input. May come first, unnamed.
        out: folder for doa.json and talkers.rttm; with several recordings or a table, for a folder of each.
        model: checkpoint directory, package (.tar) or name of a shipped model; without model and method,
            the shipped model for the recording's sample rate (`msdet info` lists them).
        method: a baseline instead of a model, for example norm_music or srp_beam.
        array: name of a shipped array or path of a TOML file: with a method, the recording's; with a model,
            another one than it was trained on, if its parts allow that.
        channels: those of the recording that are the array's microphones, in their order, counted from 0, for
            example 1-4 or 0,2,5; if not given, all, or those that a shipped array knows of its device's files.
        talkers: with a method, number of talkers (2 if not given).
        block_s: length of the blocks that a long recording is cut into.
        overlap_s: what two blocks share, up to half a block.
        match: what keeps talkers in their slots from block to block: overlap and direction, or one of them.
        gate: give no directions of a slot in blocks in which nobody speaks there.
        highpass_hz: first take away what is below: rumble, wind, most of a mains hum; 0 for nothing.
        json: print what `msdet separate` writes as doa.json, a line of JSON a recording, for other programs.
        device: to compute on: cpu, cuda or, for one of several GPUs, cuda:1.
        threads: cores to compute on. Small models gain little from more, and lose much where others use them
            too: the default one took 0.04 s a second on one, and six times as long on two shared ones.
    """
    from msdet.commands import _inference
    from msdet.inference.results import write_tables

    options = BlockOptions(block_s, overlap_s, match, gate, highpass_hz)
    systems = _inference.systems(model, method, array, talkers, device, channels=channels)

    def work(recording: Recording, alone: bool) -> None:
        described, talkers = _localized(recording, systems, options)
        if out is not None:
            write_tables(out if alone else out / recording.name, described, talkers, recording.name)
        if json:
            print(dumps(described, ensure_ascii=False, allow_nan=False), flush=True)
        else:
            _tell(described, "" if alone else f"{recording.name}: ")

    return _inference.each(recordings, threads, work)


def _localized(
    recording: Recording, systems: SystemFactory, options: BlockOptions
) -> tuple[dict[str, Any], Separation]:
    """What ``doa.json`` says of a recording, and who was found."""
    from msdet.commands._inference import separating, tell_doubts
    from msdet.inference.results import description

    with separating(recording, systems, options) as (offline, pieces):
        for _ in pieces:
            pass
    (_, talkers), system = offline.talkers(), offline.system
    if talkers.azimuth_deg is None:
        raise MsdetError(f"'{system.name}' finds voices, no directions; choose another method")
    notes = {
        "recording": recording.file,
        "localized_by": system.name,
        "blocks": dataclasses.asdict(offline.options),
        "warnings": list(talkers.warnings),
    }
    described = description(talkers, system.array, notes)
    tell_doubts(described, offline)
    return described, talkers


def _tell(described: dict[str, Any], prefix: str) -> None:
    for number, talker in enumerate(described["talkers"], start=1):
        azimuth_deg = talker["azimuth_deg"]
        azimuth = "" if azimuth_deg is None else f"  azimuth {azimuth_deg:5.1f}°"
        print(f"{prefix}talker {number}{azimuth}  speaks {talker['active_s']:.1f} s", flush=True)
