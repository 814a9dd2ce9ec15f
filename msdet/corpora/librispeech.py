"""LibriSpeech (Panayotov et al., ICASSP 2015; openslr.org/12) as distributed: FLAC, read speech, 16 kHz.

Files are ``train-clean-100/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac``. Whatever subsets are there are
used; their names' first words are the splits, which share no talker. ``SPEAKERS.TXT`` tells the talkers' gender.
"""

from __future__ import annotations

from pathlib import Path

from msdet.corpora import CORPORA, SPLITS, Corpus
from msdet.corpora.reading import find_home, folders, homes_in, is_audio, lines_of, parse_gender, tabulate
from msdet.errors import MsdetError

LAYOUT = "subsets train-*, dev-*, test-* with files like 19/198/19-198-0000.flac"


def recognizes(root: Path) -> bool:
    """Whether `root`, or a folder in it, has subsets named as LibriSpeech's with speaker/chapter/audio."""
    return bool(homes_in(root, _subsets))


@CORPORA.register("librispeech", recognizes=recognizes)
def read_librispeech(root: Path) -> Corpus:
    """Read the folder ``LibriSpeech``, or the one it lies in; opens headers only."""
    home = find_home(root, _subsets, "librispeech", LAYOUT)
    files = []
    for subset, split in _subsets(home):
        unique: dict[Path, Path] = {}
        for path in sorted(filter(is_audio, subset.glob("*/*/*"))):
            unique.setdefault(path.with_suffix(""), path)  # a FLAC file before its copy as WAV
        files += [(path.parent.parent.name, split, path) for path in unique.values()]
    if not files:
        raise MsdetError(f"{home}: no audio in its subsets, expected files like 19/198/19-198-0000.flac")
    return tabulate(root, files, _read_genders(home))


def _subsets(home: Path) -> list[tuple[Path, str]]:
    """Folders of subsets, each with its split."""
    return [(folder, split) for folder in folders(home) for split in SPLITS if folder.name.startswith(f"{split}-")]


def _read_genders(home: Path) -> dict[str, str]:
    """Gender of each talker, from lines like ``19   | F | train-clean-100  | 25.19 | Kara Shallenberg``."""
    tables = home.glob("[Ss][Pp][Ee][Aa][Kk][Ee][Rr][Ss].[Tt][Xx][Tt]")
    lines = (line for table in tables for line in lines_of(table) if not line.startswith(";"))
    rows = (line.split("|") for line in lines)
    return {cells[0].strip(): parse_gender(cells[1]) for cells in rows if len(cells) > 1}
