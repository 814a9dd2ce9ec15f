"""Meetings against a reference, by meeteval: who speaks when (DER), and what was said (cpWER, tcpWER).

Segments are meeteval's: dicts with ``session_id``, ``speaker``, ``start_time`` and ``end_time`` in seconds, and
``words`` of a transcript. Times are decimal, as meeteval's own command line reads them, so that results are the same.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, DecimalException
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NamedTuple

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, check_known
from msdet.io.reading import parse_json, read_text
from msdet.scoring.words import WordErrors

Segment = dict[str, Any]

MD_EVAL = "md-eval-22.pl"
MD_EVAL_URL = "https://github.com/nryant/dscore/raw/master/scorelib/md-eval-22.pl"
_TIMES = ("start_time", "end_time")


class DiarizationErrors(NamedTuple):
    """Seconds of reference speech that are scored, missed and confused, and of false alarms, all speakers added."""

    scored_s: float
    missed_s: float
    false_alarm_s: float
    confusion_s: float

    @property
    def rate(self) -> float:
        """Diarization error rate (DER)."""
        return (self.missed_s + self.false_alarm_s + self.confusion_s) / self.scored_s

    def __str__(self) -> str:
        parts = {"missed": self.missed_s, "false alarm": self.false_alarm_s, "confusion": self.confusion_s}
        return f"{', '.join(f'{name} {value:.2f} s' for name, value in parts.items())}, of {self.scored_s:.2f} s"


def read_segments(paths: Iterable[Path]) -> list[Segment]:
    """Segments of RTTM (``.rttm``), STM (``.stm``), SegLST (``.json``), or the turns of a data set by its folder.

    An `MsdetError` names the file and line that is malformed, or that has words where others have none.
    """
    segments: list[Segment] = []
    for path in paths:
        if path.is_dir():
            found = _turns(SceneSet.open(path))
        elif path.suffix == ".json":
            found = _seglst(path)
        elif path.suffix in (".rttm", ".stm"):
            found = _lines(path)
        else:
            raise MsdetError(f"{path}: expected .rttm, .stm, .json (SegLST), or the folder of a data set")
        for key in ("words", *_TIMES):
            if len({key in segment for segment in segments + found}) > 1:
                raise MsdetError(f"{path}: some segments have {key}, some have not, in it or the files before")
        segments += found
    return segments


def diarization_errors(
    reference: Sequence[Segment], hypothesis: Sequence[Segment], collar_s: float = 0.0
) -> dict[str, DiarizationErrors]:
    """Diarization errors by recording, as ``meeteval-der dscore``: NIST's md-eval, from the first turn to the last.

    Around the ends of reference turns, `collar_s` to each side is not scored. Of a recording without hypothesis all is
    missed; one without reference is an `UnknownNameError`.
    """
    meeteval = _meeteval("io", "io.uem", "der")
    if not all(key in segment for segment in (*reference, *hypothesis) for key in _TIMES):
        raise MsdetError("neither words in all files nor times: nothing to score")
    if shutil.which("perl") is None:
        raise MsdetError("perl is not installed; meeteval computes DER by NIST's md-eval, a Perl script")
    if shutil.which(MD_EVAL) is None and not (Path(meeteval.der.__file__).parent / MD_EVAL).is_file():
        raise MsdetError(f"{MD_EVAL}, NIST's scorer that meeteval runs, is not on the PATH; get it from {MD_EVAL_URL}")
    errors = {}
    for name, spoken, found in _by_recording(reference, hypothesis):
        start, end = (extreme(s[key] for s in spoken + found) for extreme, key in zip((min, max), _TIMES, strict=True))
        # md-eval wants a turn, which may be where nothing is scored
        nobody = {"speaker": "nobody", "start_time": end, "end_time": end + 1}
        tables = [meeteval.io.SegLST([s | {"session_id": "it"} for s in of]) for of in (spoken, found or [nobody])]
        ends = sorted({s[key] for s in spoken for key in _TIMES})
        kept = [pair for pair in itertools.pairwise(ends) if pair[1] - pair[0] > 2 * collar_s]
        if not any(s["start_time"] <= low and high <= s["end_time"] for low, high in kept for s in spoken):
            raise MsdetError(f"recording '{name}': a collar of {collar_s:g} s leaves no speech to score")
        region = meeteval.io.uem.UEM([meeteval.io.uem.UEMLine("it", "1", start, end)])
        try:
            scored = meeteval.der.dscore(*tables, collar_s, uem=region)["it"]
        except (CalledProcessError, ValueError, RuntimeError) as error:
            raise MsdetError(f"recording '{name}': md-eval does not score it ({error})") from error
        fields = ("scored_speaker_time", "missed_speaker_time", "falarm_speaker_time", "speaker_error_time")
        errors[name] = DiarizationErrors(*(float(getattr(scored, field)) for field in fields))
    return errors


def transcript_errors(
    reference: Sequence[Segment],
    hypothesis: Sequence[Segment],
    collar_s: float | None = None,
    normalizer: str | None = None,
) -> dict[str, WordErrors]:
    """Word errors by recording under the permutation of speakers with the fewest, as ``meeteval-wer cpwer``.

    With `collar_s`, as ``tcpwer``: words match only if their times, to which it is added, overlap. The `normalizer` is
    one of meeteval's. Words of a recording without hypothesis are deleted; one without reference is an
    `UnknownNameError`.
    """
    meeteval = _meeteval("io", "wer", "wer.normalizer")
    logging.getLogger("preprocess").setLevel(logging.ERROR)  # what it remarks goes into no result
    errors = {}
    for name, said, found in _by_recording(reference, hypothesis):
        tables = [meeteval.io.SegLST([s | {"session_id": "it"} for s in of]) for of in (said, found)]
        try:
            if normalizer is not None:
                tables = [meeteval.wer.normalizer.normalize(table, normalizer=normalizer) for table in tables]
            if collar_s is None:
                scored = meeteval.wer.cp_word_error_rate(*tables)
            else:
                timed = meeteval.wer.time_constrained_minimum_permutation_word_error_rate
                scored = timed(*tables, collar=Decimal(str(collar_s)))
        except (ValueError, RuntimeError, AssertionError, KeyError) as error:
            raise MsdetError(f"recording '{name}': meeteval does not score it ({error})") from error
        errors[name] = WordErrors(scored.errors, scored.length)
    return errors


def _by_recording(
    reference: Sequence[Segment], hypothesis: Sequence[Segment]
) -> Iterator[tuple[str, list[Segment], list[Segment]]]:
    """Each recording of the reference with its segments there and in the hypothesis."""
    names = list(dict.fromkeys(segment["session_id"] for segment in reference))
    if not names:
        raise MsdetError("the reference has no segments")
    check_known("recording of the hypothesis", names, *(segment["session_id"] for segment in hypothesis))
    for name in names:
        spoken, found = ([s for s in of if s["session_id"] == name] for of in (reference, hypothesis))
        yield name, spoken, found


def _turns(scene_set: SceneSet) -> list[Segment]:
    """A data set's turns; a scene is a recording."""
    untimed = [scene.id for scene in scene_set.scenes if not scene.timed]
    if untimed:
        raise MsdetError(f"{scene_set.root}: scene '{untimed[0]}' does not say who talks when")
    return [
        _segment(scene.id, f"talker{n}", source.onset_s, source.onset_s + source.duration_s)
        for scene in scene_set.scenes
        for n, source in enumerate(scene.sources, start=1)
    ]


def _lines(path: Path) -> list[Segment]:
    """Turns of an RTTM or STM file, those of no length left out, as md-eval does."""
    is_rttm = path.suffix == ".rttm"
    expected = "SPEAKER <recording> <channel> <onset> <duration> <NA> <NA> <speaker> ..."
    if not is_rttm:
        expected = "<recording> <channel> <speaker> <start> <end> <words>"
    segments = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        cells = line.split(maxsplit=-1 if is_rttm else 5)
        if not cells or cells[0].startswith(";") or (is_rttm and cells[0] != "SPEAKER"):
            continue
        try:
            if is_rttm:
                onset = Decimal(cells[3])
                segment = _segment(cells[1], cells[7], onset, onset + Decimal(cells[4]))
            else:
                segment = _segment(cells[0], cells[2], cells[3], cells[4], "".join(cells[5:]))
        except (IndexError, ValueError, DecimalException) as error:
            raise MsdetError(f"{path}, line {number}: found '{line.strip():.60}', expected '{expected}'") from error
        if not is_rttm or segment["start_time"] < segment["end_time"]:
            segments.append(segment)
    return segments


def _seglst(path: Path) -> list[Segment]:
    content = parse_json(read_text(path), path)
    segments = []
    for number, found in enumerate(content if isinstance(content, list) else [None], start=1):
        try:
            times = [found[key] for key in _TIMES if key in found]
            start, end = times or (0, 0)
            segment = _segment(found["session_id"], found["speaker"], start, end, found["words"])
        except (TypeError, KeyError, ValueError, DecimalException) as error:
            expected = "expected session_id, speaker and words, and maybe start_time and end_time"
            raise MsdetError(f"{path}: segment {number} is no segment of SegLST, {expected}") from error
        segments.append(segment if times else {k: v for k, v in segment.items() if k not in _TIMES})
    return segments


def _segment(recording: Any, speaker: Any, start: Any, end: Any, words: Any = None) -> Segment:
    """A segment of checked types; a `ValueError` or an error of `Decimal` if something is of another."""
    times = [Decimal(str(value)) for value in (start, end)]
    if not (all(time.is_finite() for time in times) and 0 <= times[0] <= times[1]):
        raise ValueError("times")
    if not isinstance(words, str | None):
        raise TypeError("words")
    segment = {"session_id": str(recording), "speaker": str(speaker), **dict(zip(_TIMES, times, strict=True))}
    return segment if words is None else segment | {"words": words}


def _meeteval(*modules: str) -> Any:
    """The package meeteval with some of its modules."""
    try:
        for module in modules:
            importlib.import_module(f"meeteval.{module}")
        return importlib.import_module("meeteval")
    except ImportError as error:
        raise MsdetError("meeteval is not installed (pip install 'msdet[wer]')") from error
