"""Partial labels: what an example has labels of, and data from which some are withheld.

A task learns from the examples that are labeled for it (`msdet.tasks.labels.LabeledLoss`). Recordings whose
directions were measured have no clean speech, corpora for separation often have no geometry; from data that
have everything, labels may be withheld to learn what such data are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from msdet.conventions import Array
from msdet.data.example import Example
from msdet.errors import MsdetError

STREAM_BLOCK = 1000
"""In so many items of data without end the shares of labels are kept exactly."""

_SALT = 0x6C61_6265  # so that a sampler of the same seed shuffles independently


class LabelAvailability(NamedTuple):
    """What an example has labels of.

    Attributes:
        referenced: each talker's reference.
        located: where each talker is.
    """

    referenced: bool
    located: bool


FULLY = LabelAvailability(True, True)

KINDS = (
    FULLY,
    LabelAvailability(True, False),
    LabelAvailability(False, True),
    LabelAvailability(False, False),
)
"""What there is to be labeled of: both, references alone, directions alone, neither."""


class LabeledData(Protocol):
    """Examples whose labeling is known before they are read or mixed.

    Attributes:
        population: number of examples; None where there is no end of them.
    """

    @property
    def population(self) -> int | None:
        """See above."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Example `index`."""
        ...

    def labeling(self, index: int) -> LabelAvailability:
        """What example `index` has labels of."""
        ...


class LabelSubset(Dataset[Example]):
    """Examples of which a share keeps its references and a share its directions.

    Which ones is decided by a hash of seed and item, for both kinds of label independently, so it is the same
    on any worker and in any order. The shares are exact in each block of items: the whole data set, or
    `STREAM_BLOCK` items of data without end. Labels that the data lack are not counted.

    Attributes:
        dataset: the examples.
        block: items in which the shares are exact.
        kept: number of items in a block of each of `KINDS`.
    """

    def __init__(
        self, dataset: LabeledData, references: float, directions: float, seed: int, block: int | None = None
    ) -> None:
        """Withhold labels.

        Args:
            dataset: examples.
            references: share of the items that keep their references.
            directions: share of the items that keep azimuth, elevation, distance and track.
            seed: of the choice.
            block: items in which the shares are exact, instead of those above.

        Raises:
            MsdetError: no share, or one of less than an item in a block.
        """
        self.dataset = dataset
        self.seed = seed
        self.block = block or dataset.population or STREAM_BLOCK
        counts = [
            self._count(name, s) for name, s in (("references", references), ("directions", directions))
        ]
        both = round(counts[0] * counts[1] / self.block)
        referenced, located = counts[0] - both, counts[1] - both
        self.kept = (both, referenced, located, self.block - both - referenced - located)
        self._known: tuple[int, Array] = (-1, np.zeros(0))

    @property
    def population(self) -> int | None:
        """Number of examples; None where there is no end of them."""
        return self.dataset.population

    def __len__(self) -> int:
        """Number of examples.

        Raises:
            TypeError: there is no end of them.
        """
        if self.population is None:
            raise TypeError("data without end have no length")
        return self.population

    def __getitem__(self, index: int) -> Example:
        """Example `index`, NaN and not referenced where labels are withheld."""
        example, kept = Example(**self.dataset[index]), self._kept(index)
        if not kept.referenced:
            example["references"] = torch.zeros_like(example["references"])
            example["referenced"] = torch.tensor(False)
        if not kept.located:
            for name in ("azimuth_deg", "elevation_deg", "distance_m", "track_deg"):
                example[name] = torch.full_like(example[name], torch.nan)
        return example

    def labeling(self, index: int) -> LabelAvailability:
        """What example `index` has labels of and keeps them."""
        there, kept = self.dataset.labeling(index), self._kept(index)
        return LabelAvailability(there.referenced and kept.referenced, there.located and kept.located)

    def places(self, kinds: Sequence[LabelAvailability], block: int) -> Array:
        """Items ``(item,)`` of a block, ascending, that keep just one of these."""
        wanted = [KINDS.index(kind) for kind in kinds]
        return np.flatnonzero(np.isin(self._kinds(block), wanted)) + block * self.block

    def _kept(self, index: int) -> LabelAvailability:
        block, within = divmod(index, self.block)
        return KINDS[self._kinds(block)[within]]

    def _kinds(self, block: int) -> Array:
        """Which of `KINDS` each item ``(item,)`` of a block is."""
        if self._known[0] != block:
            kinds = np.repeat(np.arange(len(KINDS)), self.kept)
            self._known = (block, np.random.default_rng([self.seed, block, _SALT]).permutation(kinds))
        return self._known[1]

    def _count(self, name: str, share: float) -> int:
        """Items of a block that keep a kind of label."""
        if not 0.0 <= share <= 1.0:
            raise MsdetError(f"share of {name} is {share}, expected 0 to 1")
        count = round(share * self.block)
        if share and not count:
            raise MsdetError(f"share of {name} is {share}, which is no item of {self.block}")
        return count
