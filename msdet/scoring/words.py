"""Word error rate with a recognizer of one's own: lists for it to read, and its errors by meeteval.

Lists are in Kaldi's style, a line ``<utterance> ...`` each; an utterance is ``<scene id>-talkerN``, N from 1
in the order of the scene's talkers, not of the estimates' files: the permutation of the scores is applied.
Words are separated by spaces, in any case; punctuation is the user's to remove, from both sides alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, did_you_mean
from msdet.io import audio
from msdet.io.files import write_json, write_text
from msdet.io.reading import read_keyed
from msdet.scenes.scene import Source
from msdet.scoring.metrics import Row
from msdet.scoring.submission import DATA_FILE, check_made_for, made_for, talker_files

SCP, TEXT, SPEAKERS = "wav.scp", "text", "utt2spk"
_CUT_S = 0.02  # an utterance may lose this much and still be whole


class WordErrors(NamedTuple):
    """Words that were substituted, deleted or inserted, and the number of reference words."""

    errors: int
    words: int

    @property
    def rate(self) -> float | None:
        """Errors per word, to 6 decimals; None without words."""
        return round(self.errors / self.words, 6) if self.words else None

    def __str__(self) -> str:
        return f"{self.errors} errors in {self.words} words"


def utterance_id(scene_id: str, talker: int) -> str:
    """The name of talker `talker` (from 0) of a scene in the lists."""
    return f"{scene_id}-talker{talker + 1}"


def write_lists(
    scene_set: SceneSet, rows: list[Row], estimates: Path, transcripts: Path, speech: Path, out: Path
) -> dict[str, int]:
    """Write ``wav.scp`` (estimates), ``text`` (transcripts) and ``utt2spk`` (speakers) for a recognizer.

    ``data.json`` beside them names the data set, for `check_lists`. The permutation of the rows of scores says whose
    file is whose. Transcripts are a file of lines ``<utterance> <words>``; an utterance is a speech file's path in the
    corpus `speech` without suffix, or its name alone. Returned is how many talkers were left out for which reason.
    """
    check_made_for(estimates, scene_set)
    references = read_table(transcripts)
    by_id = {row["id"]: row for row in rows}
    lists: dict[str, list[str]] = {SCP: [], TEXT: [], SPEAKERS: []}
    left_out: Counter[str] = Counter()
    for scene in sorted(scene_set.scenes, key=lambda scene: scene.id):
        row = by_id.get(scene.id, {})
        files = talker_files(estimates, scene) if row.get("permutation_from") == "si_sdr" else []
        for talker, source in enumerate(scene.sources):
            path = Path(source.path).with_suffix("")
            words = references.get(path.as_posix(), references.get(path.name))
            if not files:
                left_out["its estimate was not scored"] += 1
            elif max(row["permutation"]) >= len(files):  # nobody knows which of them is whose
                left_out["an estimate of its scene is gone"] += 1
            elif words is None:
                left_out[f"no transcript in {transcripts.name}"] += 1
            elif not _is_whole(source, audio.info(speech / source.path).seconds):
                left_out["only a part of the utterance is in the scene"] += 1
            else:
                name = utterance_id(scene.id, talker)
                lists[SCP].append(f"{name} {files[row['permutation'][talker]].absolute()}")
                lists[TEXT].append(f"{name} {words}")
                lists[SPEAKERS].append(f"{name} {source.speaker}")
    if not lists[SCP]:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in left_out.items())
        raise MsdetError(f"no talker has a scored estimate and a transcript ({reasons})")
    for name, lines in lists.items():
        write_text(out / name, "".join(f"{line}\n" for line in lines))
    write_json(out / DATA_FILE, {"hash": scene_set.identity})
    return dict(left_out)


def count_word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> dict[str, WordErrors | None]:
    """Word errors by utterance of the references; None for one without hypothesis (which may be an empty line)."""
    meeteval = _meeteval()
    for name in hypotheses:
        if name not in references:
            raise MsdetError(f"hypotheses: unknown utterance '{name}'{did_you_mean(name, references)}")
    counted: dict[str, WordErrors | None] = dict.fromkeys(references)
    for name, hypothesis in hypotheses.items():
        rate = meeteval.siso_word_error_rate(references[name].casefold(), hypothesis.casefold())
        counted[name] = WordErrors(rate.errors, rate.length)
    return counted


def count_cp_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> WordErrors:
    """Errors of the concatenated minimum-permutation word error rate (cpWER), over all scenes.

    The permutation of a scene's hypotheses is the one with the fewest errors, instead of that of the scores;
    a scene counts if each of its utterances has a hypothesis.
    """
    meeteval = _meeteval()
    scenes = defaultdict(list)
    for name in references:
        scenes[name.rpartition("-talker")[0]].append(name)
    errors = words = 0
    for names in scenes.values():
        if all(name in hypotheses for name in names):
            texts = ([of[name].casefold() for name in names] for of in (references, hypotheses))
            rate = meeteval.cp_word_error_rate(*texts, reference_sort=False, hypothesis_sort=False)
            errors, words = errors + rate.errors, words + rate.length
    return WordErrors(errors, words)


def check_lists(rows: list[Row], lists: Path, references: Mapping[str, str], data: str | None) -> None:
    """Refuse, by an `MsdetError`, lists that are not of the scenes that were scored.

    `references` is the ``text`` in the folder `lists`, `data` the hash of the set that was scored, if known.
    """
    of_lists = made_for(lists)
    if None not in (of_lists, data) and of_lists != data:
        raise MsdetError(f"{lists}: is of a data set with hash {of_lists}, the scores of one with {data}")
    if not any(name in references for row in rows for name in _utterances(row)):
        first, scored = next(iter(references)), rows[0]["id"] if rows else "none"
        raise MsdetError(f"{lists}: '{first}' and all others are of no scene of the scores ('{scored}', ...)")


def add_word_errors(rows: list[Row], counted: Mapping[str, WordErrors | None]) -> None:
    """Put ``word_errors`` and ``words`` into rows of scores, null with the reason where there are none.

    A scene of which no talker is counted keeps what it has.
    """
    for row in rows:
        names = _utterances(row)
        if "word_errors" in row and not any(name in counted for name in names):
            continue
        of_talkers = [counted.get(name) for name in names]
        row["word_errors"] = [None if e is None else e.errors for e in of_talkers]
        row["words"] = [None if e is None else e.words for e in of_talkers]
        row["undefined"] = {k: v for k, v in row.get("undefined", {}).items() if k != "word_errors"}
        if None in of_talkers:
            missing = any(name in counted and counted[name] is None for name in names)
            row["undefined"]["word_errors"] = "no hypothesis" if missing else "not in the lists"


def read_table(path: Path) -> dict[str, str]:
    """Lines ``<key> <text>`` of a file, separated by spaces or a tab; the text may be empty."""
    table: dict[str, str] = {}
    for place, key, text in read_keyed(path):
        if key in table:
            raise MsdetError(f"{place}: '{key}' was in an earlier line")
        if key:
            table[key] = text
    if not table:
        raise MsdetError(f"{path}: is empty, expected lines of an utterance and its words")
    return table


def _meeteval() -> Any:
    try:
        import meeteval.wer
    except ImportError as error:
        raise MsdetError("meeteval is not installed (pip install msdet[wer])") from error
    return meeteval.wer


def _utterances(row: Row) -> list[str]:
    return [utterance_id(row["id"], n) for n in range(len(row["azimuth_deg"]))]


def _is_whole(source: Source, seconds: float) -> bool:
    return source.offset_s <= _CUT_S and source.offset_s + source.duration_s >= seconds - _CUT_S
