"""What is written of a recording: a file a talker, ``doa.json``, and who speaks when as RTTM.

Voices are kept at full precision in an unnamed temporary file beside the output until all are known: so the
one gain that keeps the loudest from clipping is common to all and exact, the files are in the talkers' final
order, and none appears before all are complete.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.inference.offline import OfflineSeparation
from msdet.inference.sources import resampled
from msdet.io import audio
from msdet.io.files import write_text
from msdet.methods.base import Separation

DOA_FILE, RTTM_FILE, PAGE_FILE = "doa.json", "talkers.rttm", "index.html"
"""`DOA_FILE` is written last and removed first: where it is, it and the voices beside it belong together."""

CONVENTION = "degrees in [0, 360), 0 on the array's +x axis, counter-clockwise from above"
MAX_PEAK = 0.99  # of full scale; voices are scaled down together where one would pass it, in formats that clip
MIN_PAUSE_S, MIN_SEGMENT_S = 0.3, 0.2  # in RTTM, a shorter pause is none, and then a shorter segment is left out
_PIECE = 1 << 18  # samples
_FLAT_LIST = re.compile(r"\[[^\[\]{}\"]*\]")


class Scratch:
    """Voices as they come, at full precision, in an unnamed file: nothing of it is left after a kill."""

    def __init__(self, file: IO[bytes], origin: Path) -> None:
        self._file, self._origin, self._slots = file, origin, 0
        self.samples = 0
        self.peak: Array = np.zeros(0)

    def append(self, voices: Array) -> None:
        """Keep the next piece ``(slot, time)``."""
        if not self._slots:
            self._slots, self.peak = len(voices), np.zeros(len(voices))
        if not np.isfinite(voices).all():
            raise MsdetError(f"{self._origin}: refused to write NaN or infinite samples")
        self.peak = np.maximum(self.peak, np.abs(voices).max(axis=1, initial=0.0))
        try:
            self._file.write(np.ascontiguousarray(voices.T, dtype=np.float32).tobytes())
            self._file.flush()
        except OSError as error:
            raise MsdetError(f"{self._origin}: cannot be written ({error.strerror})") from error
        self.samples += voices.shape[1]

    @property
    def bytes(self) -> int:
        """What it takes on disk; files of it, in any sample format, take as much at most."""
        return 4 * self._slots * self.samples

    def pieces(self) -> Iterator[Array]:
        """What was kept, from the start, ``(slot, time)``."""
        self._file.seek(0)
        left = self.bytes  # without what was cut off by a full disk
        while content := self._file.read(min(left, 4 * self._slots * _PIECE)):
            left -= len(content)
            yield np.frombuffer(content, dtype=np.float32).reshape(-1, self._slots).T


@contextmanager
def scratch(out: Path) -> Iterator[Scratch]:
    """A place for voices until they are complete, on the disk of `out`, which is made if missing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=out)  # noqa: SIM115  # closed below
    except OSError as error:
        raise MsdetError(f"{out}: cannot be written ({error.strerror})") from error
    with file:
        yield Scratch(file, out)


def write_separation(
    out: Path,
    offline: OfflineSeparation,
    name: str,
    file: str,
    keep_rate: bool = False,
    subtype: str = "PCM_16",
    beamform: str | None = None,
    pieces: Iterable[Separation] | None = None,
    page: Callable[[dict[str, Any]], str] | None = None,
) -> dict[str, Any]:
    """Separate a recording into a folder, as ``msdet separate`` does; gives what ``doa.json`` says.

    The recording is called `name` in RTTM and `file` in ``doa.json``, which also notes `beamform`. With `keep_rate`,
    voices are at the recording's sample rate, not at the system's. `pieces` are those of `offline`, if they are
    watched; `page` makes ``index.html`` of what ``doa.json`` says.
    """
    system, scan = offline.system, offline.scan
    rate = scan.sample_rate if keep_rate else system.sample_rate
    samples = -(-scan.samples * rate // scan.sample_rate)
    with scratch(out) as kept:
        voices = (p.estimates for p in pieces or offline.pieces() if p.estimates is not None)
        for piece in resampled(voices, system.sample_rate, rate):
            kept.append(piece[:, : samples - kept.samples])
        slots, talkers = offline.talkers()
        files, gain = write_voices(out, kept, slots, rate, subtype)
    notes = {
        "sample_rate": rate,
        "gain": round(gain, 6),
        "recording": file,
        "separated_by": system.name,
        "beamform": beamform,
        "blocks": dataclasses.asdict(offline.options),
        "warnings": list(talkers.warnings),
    }
    described = description(talkers, system.array, notes, files)
    if page is not None:
        write_text(out / PAGE_FILE, page(described))
    write_tables(out, described, talkers, name)
    return described


def write_voices(out: Path, kept: Scratch, slots: Array, sample_rate: int, subtype: str) -> tuple[list[str], float]:
    """Write the voices of slots as ``talker1.wav`` and so on; gives names of the files, and the gain that all have.

    Nothing stays of an earlier result. If the disk is full, no voice is written.
    """
    slots = slots if kept.samples else slots[:0]
    peak = float(kept.peak[slots].max(initial=0.0)) if kept.samples else 0.0
    clips = audio.limited_to_full_scale(subtype) and peak > MAX_PEAK
    gain = np.float32(MAX_PEAK / peak if clips else 1.0)
    paths = [out / f"talker{n + 1}.wav" for n in range(len(slots))]
    with ExitStack() as stack:
        append = [stack.enter_context(audio.writer(p, sample_rate, kept.samples, subtype)) for p in paths]
        for piece in kept.pieces() if paths else ():
            for write, slot in zip(append, slots, strict=True):
                write(piece[slot] * gain)
        earlier = (out / DOA_FILE).is_file()
        if earlier:
            for name in (DOA_FILE, RTTM_FILE, PAGE_FILE):
                (out / name).unlink(missing_ok=True)
    if earlier:  # maybe into more talkers
        for stale in set(out.glob("talker*.wav")) - set(paths):
            stale.unlink()
    return [path.name for path in paths], float(gain)


def description(
    talkers: Separation, array: MicrophoneArray, notes: dict[str, Any], files: Sequence[str] = ()
) -> dict[str, Any]:
    """What ``doa.json`` says: a talker's overall direction, and directions and activity over time.

    ``track`` is as in a line of ``doa.jsonl``, which scoring reads. Null is silence, or not known. `notes` are more
    entries, `files` those of the voices in the talkers' order, none of a system that gives directions alone.
    """
    t = talkers
    active = np.zeros((t.count, 0)) if t.activity is None else t.activity >= 0.5
    columns: dict[str, Sequence[Any]] = {"file": files} if files else {}
    for name, decimals in (("azimuth_deg", 2), ("elevation_deg", 2), ("confidence", 4)):
        if (values := getattr(t, name)) is not None:
            columns[name] = _numbers(values, decimals)
    columns["active_s"] = _numbers(active.sum(axis=1) * t.frame_s, 2)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    described: dict[str, Any] = {"convention": CONVENTION, "array": array.to_dict(), **notes}
    described |= {"talkers": rows, "frame_s": t.frame_s}
    if t.azimuth_deg is not None:
        described["track"] = {"time_s": _numbers(t.time_s, 3), "azimuth_deg": number_rows(t.track_deg, 1)}
        if t.elevation_deg is not None:
            described["track"]["elevation_deg"] = number_rows(t.track_elevation_deg, 1)
        if t.confidence is not None:
            described["track_confidence"] = number_rows(t.track_confidence, 3)
    return described | {"activity": number_rows(t.activity, 2)}


def write_tables(out: Path, described: dict[str, Any], talkers: Separation, name: str) -> None:
    """Write ``talkers.rttm`` and what ``doa.json`` says, lists of numbers each on a line."""
    write_text(out / RTTM_FILE, rttm(talkers, name))
    text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / DOA_FILE, _FLAT_LIST.sub(_on_one_line, text) + "\n")


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{', '.join(item.strip() for item in found[0][1:-1].split(','))}]"


def segments(activity: Array, frame_s: float) -> list[tuple[float, float]]:
    """Onset and length in seconds of each stretch of speech of a talker, from activity ``(frame,)``.

    >>> segments(np.array([0, 1, 1, 0, 1, 0, 0, 0, 1, 0]), 0.1)
    [(0.1, 0.4)]
    """
    speaks = np.concatenate([[0], activity >= 0.5, [0]]).astype(np.int8)
    starts, ends = (np.flatnonzero(np.diff(speaks) == step) for step in (1, -1))
    merged: list[list[int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if merged and (start - merged[-1][1]) * frame_s < MIN_PAUSE_S - 1e-9:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    return [
        (round(start * frame_s, 3), round((end - start) * frame_s, 3))
        for start, end in merged
        if (end - start) * frame_s >= MIN_SEGMENT_S - 1e-9
    ]


def rttm(talkers: Separation, name: str) -> str:
    """Who speaks when, in NIST's RTTM: a line a segment, a speaker a direction, ``talker1_053deg``."""
    recording = "_".join(name.split()) or "recording"  # RTTM allows no spaces
    lines = []
    for number, activity in enumerate(() if talkers.activity is None else talkers.activity):
        speaker = f"talker{number + 1}"
        if talkers.azimuth_deg is not None and np.isfinite(talkers.azimuth_deg[number]):
            speaker += f"_{round(float(talkers.azimuth_deg[number])) % 360:03d}deg"
        lines += [
            (onset_s, f"SPEAKER {recording} 1 {onset_s:.3f} {long_s:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
            for onset_s, long_s in segments(activity, talkers.frame_s)
        ]
    return "".join(line for _, line in sorted(lines))


def _numbers(values: Array | None, decimals: int) -> list[float | None]:
    """Rounded values ``(any,)``, None for what is not known."""
    if values is None:
        return []
    rounded = np.round(values.astype(np.float64), decimals).tolist()
    return [value if math.isfinite(value) else None for value in rounded]


def number_rows(values: Array | None, decimals: int) -> list[list[float | None]]:
    """The same of ``(row, any)``, row by row."""
    return [] if values is None else [_numbers(row, decimals) for row in values]
