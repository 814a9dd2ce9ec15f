"""WSJ0, the first part of the Wall Street Journal corpus (CSR-I; LDC93S6A, LDC93S6B), 16 kHz.

Files are ``si_tr_s/<talker>/<utterance>.wv1`` (for example ``si_tr_s/011/011a0101.wv1``) in folders like
``11-1.1/wsj0`` or ``wsj0``, in upper or lower case; ``.wv2``, the second microphone, is not read. On the
discs these NIST SPHERE files are compressed with shorten, which has to be undone first; trees of the same
layout converted to WAV or FLAC read as well. ``*spkrinfo.txt`` tells the talkers' gender, where it is there.

Splits are si_tr_s (train), si_dt_05 (dev) and si_et_05 (test), which share no talker. wsj0-2mix (Hershey et
al., ICASSP 2016) takes both train and validation from si_tr_s, and its test from the others; SMS-WSJ separates
train, dev and eval talkers like this, with the larger sets of WSJ0 and WSJ1 together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msdet.corpora import CORPORA, Corpus
from msdet.corpora.reading import is_audio, layout_error, lines_of, parse_gender, tabulate
from msdet.errors import MsdetError

LAYOUT = "folders si_tr_s, si_dt_05, si_et_05 with files like 011/011a0101.wv1 (or .wav, .flac)"
SPLIT_OF_SET = {"si_tr_s": "train", "si_dt_05": "dev", "si_et_05": "test"}
_DEEPEST = 4  # levels of folders searched below the root: corpus, disc, "wsj0", "doc"
_SPEECH_SET = re.compile(r"s[di]_(tr|dt|et)_")
_UTTERANCE = re.compile(r"([0-9a-z]{3}[a-z][0-9a-z]{4})([._-]wv1)?")  # talker, session, sentence


def recognizes(root: Path) -> bool:
    """Whether one of the three sets is in `root`, in ``wsj0`` or in ``disc/wsj0``."""
    return any(path.is_dir() for path in _sets_and_tables(root, deepest=2))


@CORPORA.register("wsj0", recognizes=recognizes)
def read_wsj0(root: Path) -> Corpus:
    """Read the sets below `root`, on however many discs; opens headers only."""
    paths = list(_sets_and_tables(root, _DEEPEST))
    sets = [path for path in paths if path.is_dir()]
    if not sets:
        raise layout_error(root, "wsj0", LAYOUT, is_part=root.absolute().name.lower() in SPLIT_OF_SET)
    files: dict[str, tuple[str, Path]] = {}  # by utterance; .flac and .wav sort before the original .wv1
    for folder in sets:
        for path in sorted(folder.glob("*/*"), key=lambda path: (path.suffix.lower(), path)):
            name = _UTTERANCE.fullmatch(path.stem.lower())
            if name and (is_audio(path) or path.suffix.lower() == ".wv1"):
                files.setdefault(name[1], (SPLIT_OF_SET[folder.name.lower()], path))
    if not files:
        raise MsdetError(f"{sets[0]}: no speech, expected files like 011/011a0101.wv1 (or .wav, .flac)")
    rows = [(name[:3], split, path) for name, (split, path) in sorted(files.items())]
    return tabulate(root, rows, _read_genders([path for path in paths if not path.is_dir()]))


def _sets_and_tables(root: Path, deepest: int) -> Iterator[Path]:
    """Folders of the three sets, and speaker tables, in sorted order; WSJ1 and other sets are left out."""
    for folder, names, files in os.walk(root, followlinks=True):
        here = Path(folder)
        names.sort()
        yield from (here / name for name in names if name.lower() in SPLIT_OF_SET)
        yield from (here / name for name in sorted(files) if name.lower().endswith("spkrinfo.txt"))
        names[:] = [
            name
            for name in names
            if len(here.relative_to(root).parts) < deepest
            and not (name.startswith(".") or name.lower() == "wsj1" or _SPEECH_SET.match(name.lower()))
        ]


def _read_genders(tables: list[Path]) -> dict[str, str]:
    """Gender of each talker, from lines like ``01L   F   ...``; comments begin with a semicolon."""
    gender_of: dict[str, str] = {}
    for table in tables:
        for line in lines_of(table):
            cells = line.lower().split()
            if len(cells) > 1 and parse_gender(cells[1]):
                gender_of.setdefault(cells[0], parse_gender(cells[1]))
    return gender_of
