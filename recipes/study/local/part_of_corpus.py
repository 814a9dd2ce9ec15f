"""A part of a corpus, as a corpus: ``part_of_corpus:tenth`` and ``part_of_corpus:third`` take some of its talkers.

The kind of the whole corpus is in the environment variable ``WHOLE_CORPUS``.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from list_runs import PARTS

from msdet.corpora import SPLITS, Corpus, load_corpus


def _part(root: Path, name: str) -> Corpus:
    """Every so-manieth talker of each split, in the order of their names, and at least four."""
    corpus = load_corpus(os.environ["WHOLE_CORPUS"], root)
    kept: set[str] = set()
    for split in SPLITS:
        speakers = sorted({u.speaker for u in corpus.utterances if u.split == split})
        kept |= {*speakers[:: min(PARTS[name], max(1, len(speakers) // 4))]}
    return dataclasses.replace(corpus, utterances=tuple(u for u in corpus.utterances if u.speaker in kept))


def tenth(root: Path) -> Corpus:
    """One talker of ten."""
    return _part(root, "tenth")


def third(root: Path) -> Corpus:
    """One talker of three."""
    return _part(root, "third")
