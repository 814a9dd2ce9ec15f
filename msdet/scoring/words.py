"""Word error rate with a recognizer of one's own: lists for it to read, and its hypotheses counted.

Lists are in Kaldi's style, a line ``<utterance> ...`` each; an utterance is ``<scene id>-talkerN``, N from 1
in the order of the scene's talkers, not of the estimates' files: the permutation of the scores is applied.
Words are what spaces part, in any case; punctuation is the user's to remove, from both sides alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, did_you_mean
from msdet.io import audio
from msdet.io.files import write_json, write_text
from msdet.scenes.scene import Source
from msdet.scoring.submission import DATA_FILE, check_made_for, made_for, talker_files
from msdet.scoring.values import Row

SCP, TEXT, SPEAKERS = "wav.scp", "text", "utt2spk"

_CUT_S = 0.02  # an utterance may lose this much and still be whole


class WordErrors(NamedTuple):
    """Words of an utterance that were substituted, deleted or inserted, and how many it has."""

    errors: int
    words: int


def utterance_id(scene_id: str, talker: int) -> str:
    """The name of talker `talker` (from 0) of a scene in the lists."""
    return f"{scene_id}-talker{talker + 1}"


def write_lists(
    scene_set: SceneSet, rows: list[Row], estimates: Path, transcripts: Path, speech: Path, out: Path
) -> dict[str, int]:
    """Write ``wav.scp`` (estimates), ``text`` (what was said) and ``utt2spk`` (by whom) for a recognizer.

    ``data.json`` beside them names the data set, for `check_lists`.

    A talker is left out whose estimates were not scored, who is heard saying only a part of an utterance, or
    whose utterance has no transcript.

    Args:
        scene_set: the set.
        rows: scores of the estimates; their permutation says whose file is whose.
        estimates: the estimates folder.
        transcripts: file of lines ``<utterance> <words>``; an utterance is a speech file's path in the corpus
            without suffix, or its name alone.
        speech: root of the corpus, to see which utterances are whole.
        out: folder for the lists.

    Returns:
        How many talkers were left out for which reason.

    Raises:
        MsdetError: no such folder of estimates, or of another set's; a malformed file, a missing speech file,
            or nothing to write.
    """
    check_made_for(estimates, scene_set)
    said = read_table(transcripts)
    by_id = {row["id"]: row for row in rows}
    lists: dict[str, list[str]] = {SCP: [], TEXT: [], SPEAKERS: []}
    left_out: Counter[str] = Counter()
    for scene in sorted(scene_set.scenes, key=lambda scene: scene.id):
        row = by_id.get(scene.id, {})
        files = talker_files(estimates, scene) if row.get("permutation_from") == "si_sdr" else []
        for talker, source in enumerate(scene.sources):
            words = _transcript(source, said)
            if not files:
                left_out["its estimate was not scored"] += 1
            elif words is None:
                left_out[f"no transcript in {transcripts.name}"] += 1
            elif not _is_whole(source, speech):
                left_out["only a part of the utterance is heard"] += 1
            else:
                name = utterance_id(scene.id, talker)
                lists[SCP].append(f"{name} {files[row['permutation'][talker]].resolve()}")
                lists[TEXT].append(f"{name} {words}")
                lists[SPEAKERS].append(f"{name} {source.speaker}")
    if not lists[SCP]:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in left_out.items())
        raise MsdetError(f"no talker has a scored estimate and a transcript ({reasons})")
    for name, lines in lists.items():
        write_text(out / name, "".join(f"{line}\n" for line in lines))
    write_json(out / DATA_FILE, {"hash": scene_set.identity})
    return dict(left_out)


def count_word_errors(said: Mapping[str, str], heard: Mapping[str, str]) -> dict[str, WordErrors | None]:
    """Word errors by utterance; None for one that was not heard (one heard as silence has an empty line).

    Raises:
        MsdetError: an utterance was heard that nobody said.
    """
    for name in heard:
        if name not in said:
            raise MsdetError(f"hypotheses: unknown utterance '{name}'{did_you_mean(name, said)}")
    return {name: _word_errors(words, heard[name]) if name in heard else None for name, words in said.items()}


def check_lists(rows: list[Row], lists: Path, said: Mapping[str, str], data: str | None) -> None:
    """Refuse lists that are not of the scenes that were scored.

    Args:
        rows: scores.
        lists: folder that `write_lists` wrote.
        said: its ``text``.
        data: hash of the data set that was scored; None where nobody knows.

    Raises:
        MsdetError: of another data set, or no utterance is of a scene of the scores.
    """
    listed = made_for(lists)
    if None not in (listed, data) and listed != data:
        raise MsdetError(f"{lists}: is of a data set with hash {listed}, the scores of one with {data}")
    if not any(name in said for row in rows for name in _utterances(row)):
        first, scored = next(iter(said)), rows[0]["id"] if rows else "none"
        raise MsdetError(f"{lists}: '{first}' and all others are of no scene of the scores ('{scored}', ...)")


def add_word_errors(rows: list[Row], counted: Mapping[str, WordErrors | None]) -> None:
    """Put ``word_errors`` and ``words`` into rows of scores, null with the reason where there are none.

    A scene of which no talker is counted keeps what it has.
    """
    for row in rows:
        names = _utterances(row)
        if "word_errors" in row and not any(name in counted for name in names):
            continue
        found = [counted.get(name) for name in names]
        row["word_errors"] = [None if f is None else f.errors for f in found]
        row["words"] = [None if f is None else f.words for f in found]
        row["undefined"] = {k: v for k, v in row.get("undefined", {}).items() if k != "word_errors"}
        if None in found:
            unheard = any(name in counted and counted[name] is None for name in names)
            row["undefined"]["word_errors"] = "no hypothesis" if unheard else "not in the lists"


def _utterances(row: Row) -> list[str]:
    return [utterance_id(row["id"], n) for n in range(len(row["azimuth_deg"]))]


def read_table(path: Path) -> dict[str, str]:
    """Lines ``<key> <text>`` of a file, parted by spaces or a tab; the text may be empty.

    Raises:
        MsdetError: no such file, not UTF-8, or a key twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MsdetError(f"{path}: no such file, expected lines of an utterance and its words") from error
    except UnicodeDecodeError as error:
        raise MsdetError(f"{path}: cannot be read (not UTF-8, at byte {error.start})") from error
    except OSError as error:
        raise MsdetError(f"{path}: cannot be read ({error.strerror})") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        key, *text = line.split(maxsplit=1) or [""]
        if key in table:
            raise MsdetError(f"{path}, line {number}: '{key}' was in an earlier line")
        if key:
            table[key] = text[0].strip() if text else ""
    if not table:
        raise MsdetError(f"{path}: is empty, expected lines of an utterance and its words")
    return table


def _transcript(source: Source, said: Mapping[str, str]) -> str | None:
    path = Path(source.path).with_suffix("")
    return said.get(path.as_posix(), said.get(path.name))


def _is_whole(source: Source, speech: Path) -> bool:
    seconds = audio.info(speech / source.path).seconds
    return source.offset_s <= _CUT_S and source.offset_s + source.duration_s >= seconds - _CUT_S


def _word_errors(said: str, heard: str) -> WordErrors:
    from torchaudio.functional import edit_distance

    words = said.casefold().split()
    return WordErrors(int(edit_distance(words, heard.casefold().split())), len(words))
