"""Any tree ``speaker/utterance.wav`` (or ``.flac``) of single-channel files, one folder a talker.

Utterances may lie deeper in the talker's folder, as in LibriSpeech's ``speaker/chapter/``.

An optional ``speakers.tsv`` (tab-separated, with a header) assigns talkers to splits; only its columns
``speaker``, ``split`` and, if it has one, ``gender`` (f, female, m or male) are used, and talkers it does
not list are left out. Without it, the hash of a talker's name decides.
"""

from __future__ import annotations

from pathlib import Path

from msdet.corpora import CORPORA, SPLITS, Corpus
from msdet.corpora.reading import folders, is_audio, parse_gender, split_by_name, tabulate
from msdet.errors import MsdetError, did_you_mean
from msdet.io.reading import read_tsv

TABLE = "speakers.tsv"  # name of the table of talkers in a corpus' folder


def recognizes(root: Path) -> bool:
    """Whether a folder in `root` has audio directly in it."""
    return any(is_audio(path) for folder in folders(root) for path in folder.glob("*"))


@CORPORA.register("folder", recognizes=recognizes)
def read_folder(root: Path) -> Corpus:
    """Read the utterances below `root`; opens headers only."""
    audio_of = {folder.name: sorted(filter(is_audio, folder.rglob("*"))) for folder in folders(root)}
    files = {speaker: paths for speaker, paths in audio_of.items() if paths}
    if not files:
        raise MsdetError(f"{root}: no audio found, expected files like speaker/utterance.wav or .flac")
    table = root / TABLE
    if table.is_file():
        split_of, gender_of = _read_table(table)
    else:
        remedy = f"; a {TABLE} with columns 'speaker' and 'split' overrides this"
        split_of, gender_of = split_by_name(root, files.keys(), remedy), {}
    speakers = sorted(files.keys() & split_of.keys())
    rows = [(speaker, split_of[speaker], path) for speaker in speakers for path in files[speaker]]
    if not rows:
        raise MsdetError(f"{table}: lists none of the {len(files)} speaker folders beside it")
    return tabulate(root, rows, gender_of)


def _read_table(table: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The split and the gender of each talker in a ``speakers.tsv``; the genders may be missing."""
    header, rows = read_tsv(table)
    for column in ("speaker", "split"):
        if column not in header:
            raise MsdetError(f"{table}: no column '{column}' in its header{did_you_mean(column, header)}")
    split_of: dict[str, str] = {}
    gender_of: dict[str, str] = {}
    for place, row in rows:
        speaker, split = row["speaker"], row["split"]
        if split not in SPLITS:
            raise MsdetError(f"{place}: unknown split '{split}'{did_you_mean(split, SPLITS)}")
        if split_of.setdefault(speaker, split) != split:
            raise MsdetError(f"{place}: speaker '{speaker}' is in '{split_of[speaker]}' and in '{split}'")
        gender_of[speaker] = parse_gender(row.get("gender", ""))
    return split_of, gender_of
