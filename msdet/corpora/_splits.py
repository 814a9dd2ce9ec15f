"""Splits for corpora that bring none: the hash of a talker's name decides."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from msdet.corpora import SPLITS
from msdet.errors import MsdetError

MINIMUM_SPEAKERS = 6
"""Fewest talkers that can be split, two in each split."""


def split_by_name(root: Path, speakers: Collection[str], remedy: str = "") -> dict[str, str]:
    """The split of each talker, about 80/10/10 and at least two talkers each.

    A talker's place depends on its own name alone, unless a split would get too few or too many.

    Args:
        root: the corpus' folder, named in the error.
        speakers: names of the talkers.
        remedy: end of the error message, on what else can be done.

    Raises:
        MsdetError: fewer than six talkers.
    """
    if len(speakers) < MINIMUM_SPEAKERS:
        raise MsdetError(
            f"{root}: has {len(speakers)} speaker(s), expected at least {MINIMUM_SPEAKERS} to split them "
            f"into {', '.join(SPLITS)}{remedy}"
        )
    position = {name: _hash_fraction(name) for name in speakers}
    order = sorted(speakers, key=lambda name: (position[name], name))
    most = len(speakers) // 3
    tenth, fifth = (sum(p < edge for p in position.values()) for edge in (0.1, 0.2))
    test = min(max(tenth, 2), most)
    dev = min(max(fifth - tenth, 2), most)
    return {
        name: "test" if rank < test else "dev" if rank < test + dev else "train"
        for rank, name in enumerate(order)
    }


def _hash_fraction(name: str) -> float:
    """A number in [0, 1) that depends on `name` only."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
