"""Batches in which each task, or each data set, has its share: sampling as the weight of examples.

An example that is drawn twice as often weighs twice as much, in every loss and without a weight in any of
them; and no batch is without labels for a task, whose mean would then be of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from msdet.conventions import Array
from msdet.data.concat import ConcatSceneDataset
from msdet.data.dataset import rank_slice
from msdet.data.partial_labels import FULLY, KINDS, LabelAvailability, LabeledData, LabelSubset
from msdet.errors import MsdetError

_NAMES = ("references and directions", "references alone", "directions alone", "no labels")  # of `KINDS`


class Pool(Protocol):
    """Items that are alike, in an order without end."""

    def item(self, place: int) -> int:
        """The item at a place of that order."""
        ...


class Shuffles:
    """Shuffle after shuffle of items.

    Args:
        items: numbers ``(item,)`` of the items, at least one.
        seed: of the shuffles.
    """

    def __init__(self, items: Sequence[int] | Array, seed: Sequence[int]) -> None:
        self.items = np.asarray(items)
        self.seed = list(seed)
        self._known: tuple[int, Array] = (-1, self.items)

    def item(self, place: int) -> int:
        """The item at a place."""
        number, within = divmod(place, len(self.items))
        if self._known[0] != number:
            self._known = (number, np.random.default_rng([*self.seed, number]).permutation(self.items))
        return int(self._known[1][within])


class Stream:
    """Items without end that keep labels of some kinds, counting up.

    Args:
        dataset: data without end.
        kinds: what the items may keep; at least one item of each block does.
    """

    def __init__(self, dataset: LabelSubset, kinds: Sequence[LabelAvailability]) -> None:
        self.dataset = dataset
        self.kinds = tuple(kinds)
        self.size = sum(dataset.kept[KINDS.index(kind)] for kind in kinds)

    def item(self, place: int) -> int:
        """The item at a place."""
        block, within = divmod(place, self.size)
        return int(self.dataset.places(self.kinds, block)[within])


class Everything:
    """All items of data without end, counting up."""

    def item(self, place: int) -> int:
        """The item at a place."""
        return place


class BalancedSampler(Sampler[int]):
    """Epochs of batches that each hold so many items of each pool.

    As with `msdet.data.dataset.EpochSampler`, an epoch depends on the pools and its number alone and goes on
    in their order where the one before ended. Processes that train together take turns within a batch:
    together they have the batch that one alone would have.

    Args:
        size: items an epoch, over all processes; only whole batches of it are drawn.
        pools: where items come from.
        counts: number of items of each pool in a batch of all processes.
    """

    def __init__(self, size: int, pools: Sequence[Pool], counts: Sequence[int]) -> None:
        self.pools = tuple(pools)
        self.counts = tuple(counts)
        self.batch = sum(counts)
        self.batches = size // self.batch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Items an epoch of this process."""
        return len(range(*rank_slice(self.batches * self.batch)))

    def __iter__(self) -> Iterator[int]:
        """Items of this epoch, batch after batch, this process's share where several train together."""
        for place in range(*rank_slice(self.batches * self.batch)):
            number, within = divmod(place, self.batch)
            number += self.epoch * self.batches
            for pool, count in zip(self.pools, self.counts, strict=True):
                if within < count:
                    yield pool.item(number * count + within)
                    break
                within -= count


def balance_labels(
    dataset: LabeledData,
    size: int,
    batch: int,
    references: float | None,
    directions: float | None,
    seed: int = 0,
) -> BalancedSampler:
    """A sampler by labels: in each batch a share has references and a share directions, exactly.

    Examples with both count for both; there are as few of them as the shares allow, so that nothing is left
    without labels if that can be. Where one share is not given, those labels come as they come.

    Args:
        dataset: what is sampled.
        size: items an epoch, over all processes.
        batch: items a batch, over all processes.
        references: share of a batch that has references, if any is asked for.
        directions: share of a batch whose directions are known, if any is asked for.
        seed: of the shuffles.

    Raises:
        MsdetError: shares that are no whole number of examples, or examples that the data do not have.
    """
    if references is None or directions is None:
        return _balance_one(dataset, size, batch, references, directions, seed)
    referenced, located = (
        _whole(f"share of {name}", share * batch, batch)
        for name, share in (("references", references), ("directions", directions))
    )
    pools = label_pools(dataset, seed)
    for both in range(max(0, referenced + located - batch), min(referenced, located) + 1):
        counts = (both, referenced - both, located - both, batch - referenced - located + both)
        if all(kind in pools for kind, count in zip(KINDS, counts, strict=True) if count):
            used = [(pools[kind], count) for kind, count in zip(KINDS, counts, strict=True) if count]
            return BalancedSampler(size, *zip(*used, strict=True))
    found = ", ".join(name for name, kind in zip(_NAMES, KINDS, strict=True) if kind in pools)
    raise MsdetError(
        f"a batch of {batch} cannot have {referenced} with references and {located} with directions: the "
        f"data have examples with {found}"
    )


def _balance_one(
    dataset: LabeledData,
    size: int,
    batch: int,
    references: float | None,
    directions: float | None,
    seed: int,
) -> BalancedSampler:
    """A sampler by one kind of label; the other comes as it comes."""
    name, share = ("references", references) if directions is None else ("directions", directions)
    count = batch if share is None else _whole(f"share of {name}", share * batch, batch)
    place = int(directions is not None)
    groups = [[kind for kind in KINDS if kind[place] is there] for there in (True, False)]
    wanted = [(group, n) for group, n in zip(groups, (count, batch - count), strict=True) if n]
    pools = [(_pool(dataset, group, seed), n) for group, n in wanted]
    used = [(pool, n) for pool, n in pools if pool is not None]
    if len(used) < len(pools):
        raise MsdetError(
            f"a batch of {batch} cannot have {count} with {name}: the data have no examples "
            f"{'with' if pools[0][0] is None and count else 'without'} {name}"
        )
    return BalancedSampler(size, *zip(*used, strict=True))


def _pool(dataset: LabeledData, kinds: Sequence[LabelAvailability], seed: int) -> Pool | None:
    """Examples with labels of some kinds; None if there are none."""
    if dataset.population is not None:
        items = [index for index in range(dataset.population) if dataset.labeling(index) in kinds]
        return Shuffles(items, (seed, KINDS.index(kinds[0]))) if items else None
    if isinstance(dataset, LabelSubset):
        stream = Stream(dataset, kinds)
        return stream if stream.size else None
    return Everything() if FULLY in kinds else None


def balance_sets(
    dataset: ConcatSceneDataset, size: int, batch: int, weights: Sequence[float], seed: int = 0
) -> BalancedSampler:
    """A sampler by data set: in each batch every set has the share of its weight, exactly.

    Args:
        dataset: what is sampled.
        size: items an epoch, over all processes.
        batch: items a batch, over all processes.
        weights: of each set, in any unit; a set of weight 0 is left out.
        seed: of the shuffles.

    Raises:
        MsdetError: not a weight for each set, or shares that are no whole number of examples.
    """
    if len(weights) != len(dataset.sets) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise MsdetError(f"weights of data sets are {list(weights)}, expected {len(dataset.sets)}, 0 or more")
    used = []
    for number, weight in enumerate(weights):
        share = weight / sum(weights) * batch
        count = _whole(f"share of {dataset.sets[number].scene_set.root}", share, batch)
        items = range(*dataset.starts[number : number + 2])
        used += [(Shuffles(items, (seed, number)), count)] if count else []
    return BalancedSampler(size, *zip(*used, strict=True))


def label_pools(dataset: LabeledData, seed: int) -> dict[LabelAvailability, Pool]:
    """Examples by what they have labels of; what there is none of is left out."""
    if dataset.population is not None:
        items: dict[LabelAvailability, list[int]] = {}
        for index in range(dataset.population):
            items.setdefault(dataset.labeling(index), []).append(index)
        return {kind: Shuffles(of_kind, (seed, KINDS.index(kind))) for kind, of_kind in items.items()}
    if isinstance(dataset, LabelSubset):
        return {kind: Stream(dataset, [kind]) for kind, n in zip(KINDS, dataset.kept, strict=True) if n}
    return {FULLY: Everything()}


def _whole(name: str, share: float, batch: int) -> int:
    """A number of examples of a batch."""
    count = round(share)
    if not 0 <= count <= batch or abs(share - count) > 1e-6:
        raise MsdetError(f"{name} is {share:g} of a batch of {batch}, expected a whole number of examples")
    return count
