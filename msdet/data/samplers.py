"""Which examples make an epoch, and which stand in a batch together.

`EpochSampler` takes them as they come, `BalancedSampler` gives each kind of label or each data set a fraction
of every batch, `LengthBatches` puts those of about one length together for `collate_padded`. An epoch depends on
the seed and its number alone and goes on where the one before ended, so a resumed run sees what it would have
seen. Processes that train together share each epoch (`rank_slice`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Sampler, default_collate

from msdet.conventions import Array
from msdet.data.dataset import ConcatSceneDataset, LabelSubset
from msdet.data.example import FULLY, KINDS, Example, LabelAvailability, LabeledData
from msdet.errors import MsdetError

Stream = Callable[[int], int]
"""An endless order of items: the item at a place in it, counted from 0."""

_NAMES = ("references and directions", "references alone", "directions alone", "no labels")  # of `KINDS`
_JITTER = 0.1  # lengths are compared with an error of up to this fraction, so that batches differ between shuffles


class Shuffles:
    """A `Stream` of shuffle after shuffle of at least one item, given by numbers ``(item,)``."""

    def __init__(self, items: Sequence[int] | Array, seed: Sequence[int]) -> None:
        self.items = np.asarray(items)
        self.seed = list(seed)
        self._cached: tuple[int, Array] = (-1, self.items)

    def __call__(self, place: int) -> int:
        """The item at a place."""
        number, within = divmod(place, len(self.items))
        if self._cached[0] != number:
            self._cached = (number, np.random.default_rng([*self.seed, number]).permutation(self.items))
        return int(self._cached[1][within])


class BalancedSampler(Sampler[int]):
    """Epochs of batches that each hold a fixed number of items of each stream.

    An example that is drawn twice as often weighs twice as much in every loss, and no batch is without labels
    for a task. Processes that train together take turns within a batch: together they have the batch that one
    alone would have. `size` is items an epoch, over all processes, of which only whole batches are drawn; `counts` are
    those of each stream in a batch of all processes.
    """

    def __init__(self, size: int, streams: Sequence[Stream], counts: Sequence[int]) -> None:
        self.streams = tuple(streams)
        self.counts = tuple(counts)
        self.batch = sum(counts)
        self.size = size - size % self.batch
        self.epoch = self.skipped = 0

    def go_on(self, epoch: int, items: int) -> None:
        """Start in an epoch after so many items of this process, which a run before this one has seen."""
        self.epoch, self.skipped = epoch, items

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Items an epoch of this process."""
        return len(range(*rank_slice(self.size)))

    def __iter__(self) -> Iterator[int]:
        """Items of this epoch, batch after batch; of several processes, this one's."""
        skipped, self.skipped = self.skipped, 0
        for place in range(*rank_slice(self.size))[skipped:]:
            batch, within = divmod(self.epoch * self.size + place, self.batch)
            for stream, count in zip(self.streams, self.counts, strict=True):
                if within < count:
                    yield stream(batch * count + within)
                    break
                within -= count


class EpochSampler(BalancedSampler):
    """Epochs of any size, over all processes, from one stream of items.

    A population of items is taken shuffle after shuffle; those of an endless data set, of which it is None, are
    counted up, so that mixing never repeats.
    """

    def __init__(self, size: int, population: int | None = None, seed: int = 0) -> None:
        stream = operator.index if population is None else Shuffles(range(population), [seed])
        super().__init__(size, [stream], [1])


def balance_labels(
    dataset: LabeledData, size: int, batch: int,
    reference_fraction: float | None, doa_fraction: float | None, seed: int = 0,
) -> BalancedSampler:  # fmt: skip
    """A sampler by labels: in each batch a fraction has references and a fraction directions, exactly.

    Examples with both count for both; there are as few of them as the fractions allow, so that, if possible,
    no example is without labels. Where one fraction is not given, those labels come as they come.

    `size` and `batch` are items an epoch and a batch, over all processes. An `MsdetError` says that fractions are
    no whole number of examples, or that the data have no such examples.
    """
    if reference_fraction is None or doa_fraction is None:
        return _balance_one(dataset, size, batch, reference_fraction, doa_fraction, seed)
    referenced = _whole("share of references", reference_fraction * batch, batch)
    located = _whole("share of directions", doa_fraction * batch, batch)
    streams = [_stream(dataset, [kind], seed) for kind in KINDS]
    for both in range(max(0, referenced + located - batch), min(referenced, located) + 1):
        counts = (both, referenced - both, located - both, batch - referenced - located + both)
        used = [(stream, count) for stream, count in zip(streams, counts, strict=True) if count]
        if all(stream for stream, _ in used):
            return BalancedSampler(size, *zip(*used, strict=True))
    available = ", ".join(name for name, stream in zip(_NAMES, streams, strict=True) if stream)
    wanted = f"{referenced} with references and {located} with directions"
    raise MsdetError(f"a batch of {batch} cannot have {wanted}: the data have examples with {available}")


def _balance_one(
    dataset: LabeledData, size: int, batch: int, reference_fraction: float | None, doa_fraction: float | None, seed: int
) -> BalancedSampler:
    """A sampler by one kind of label; the other comes as it comes."""
    place = int(doa_fraction is not None)
    name, fraction = ("directions", doa_fraction) if place else ("references", reference_fraction)
    count = batch if fraction is None else _whole(f"share of {name}", fraction * batch, batch)
    used: list[tuple[Stream, int]] = []
    for there, wanted in ((True, count), (False, batch - count)):
        stream = _stream(dataset, [kind for kind in KINDS if kind[place] is there], seed)
        if wanted and stream is None:
            missing = f"{'with' if there else 'without'} {name}"
            raise MsdetError(f"a batch of {batch} cannot have {count} with {name}: the data have no examples {missing}")
        used += [(stream, wanted)] if wanted and stream else []
    return BalancedSampler(size, *zip(*used, strict=True))


def _stream(dataset: LabeledData, kinds: Sequence[LabelAvailability], seed: int) -> Stream | None:
    """Examples with labels of some kinds, each shuffle or block after the other; None if there are none."""
    if dataset.population is not None:
        items = [index for index in range(dataset.population) if dataset.labeling(index) in kinds]
        return Shuffles(items, (seed, KINDS.index(kinds[0]))) if items else None
    if not isinstance(dataset, LabelSubset):
        return operator.index if FULLY in kinds else None
    size = sum(dataset.kept[KINDS.index(kind)] for kind in kinds)

    def item(place: int) -> int:
        block, within = divmod(place, size)
        return int(dataset.items(kinds, block)[within])

    return item if size else None


def balance_sets(
    dataset: ConcatSceneDataset, size: int, batch: int, weights: Sequence[float], seed: int = 0
) -> BalancedSampler:
    """A sampler by data set: in each batch every set has the fraction of its weight, exactly; none of weight 0.

    `size` and `batch` are items an epoch and a batch, over all processes. An `MsdetError` says that fractions are
    no whole number of examples.
    """
    if len(weights) != len(dataset.sets) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise MsdetError(f"weights of data sets are {list(weights)}, expected {len(dataset.sets)}, 0 or more")
    used = []
    for number, weight in enumerate(weights):
        name = f"share of {dataset.sets[number].scene_set.root}"
        count = _whole(name, weight / sum(weights) * batch, batch)
        items = range(*dataset.starts[number : number + 2])
        used += [(Shuffles(items, (seed, number)), count)] if count else []
    return BalancedSampler(size, *zip(*used, strict=True))


def _whole(name: str, share: float, batch: int) -> int:
    """A number of examples of a batch."""
    count = round(share)
    if not 0 <= count <= batch or abs(share - count) > 1e-6:
        raise MsdetError(f"{name} is {share:g} of a batch of {batch}, expected a whole number of examples")
    return count


def collate_padded(examples: Sequence[Example]) -> Example:
    """A batch of examples, mixtures and references padded with zeros and tracks with their last azimuth."""
    samples = max(e["mixture"].shape[-1] for e in examples)
    labels = max(e["track_deg"].shape[-1] for e in examples)
    rows: list[dict[str, Any]] = []
    for example in examples:
        row = cast(dict[str, Any], dict(example))
        for name in ("mixture", "references"):
            row[name] = pad(row[name], (0, samples - row[name].shape[-1]))
        row["track_deg"] = pad(row["track_deg"], (0, labels - row["track_deg"].shape[-1]), mode="replicate")
        rows.append(row)
    return cast(Example, default_collate(rows))


class LengthBatches(Sampler[list[int]]):
    """Epochs of a number of batches of about one length each, from an endless stream of shuffles.

    Each shuffle of the examples sorts them by length, roughly, cuts batches, and shuffles the batches.
    Processes that train together share each batch evenly; the rest of the division is left out.
    `batch_seconds` counts padding, is of all processes together, and must not be less than the longest example.
    """

    def __init__(self, lengths_s: Sequence[float], batch_seconds: float, batches: int, seed: int = 0) -> None:
        if max(lengths_s) > batch_seconds:
            raise MsdetError(f"data.batch_seconds is {batch_seconds:g}, the longest scene has {max(lengths_s):g} s")
        self.lengths_s = np.asarray(lengths_s, dtype=np.float64)
        self.batch_seconds, self.batches, self.seed = batch_seconds, batches, seed
        self.epoch = self.skipped = 0

    def go_on(self, epoch: int, batches: int) -> None:
        """Start in an epoch after so many batches, which a run before this one has seen."""
        self.epoch, self.skipped = epoch, batches

    @property
    def sampler(self) -> LengthBatches:
        """This object: Lightning calls `set_epoch` of a batch sampler's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of this epoch; of several processes, this one's part of each."""
        end, number, shuffle = (self.epoch + 1) * self.batches, 0, 0
        first, self.skipped = self.epoch * self.batches + self.skipped, 0
        rank, processes = rank_and_world_size()
        while number < end:
            batches = self.shuffled(shuffle)
            for batch in batches[max(first - number, 0) : max(end - number, 0)]:
                even = len(batch) - len(batch) % processes
                yield batch[rank:even:processes] or [batch[rank % len(batch)]]
            number += len(batches)
            shuffle += 1

    def shuffled(self, shuffle: int) -> list[list[int]]:
        """All batches of one shuffle."""
        rng = np.random.default_rng([self.seed, shuffle])
        order = np.argsort(self.lengths_s * (1.0 + _JITTER * rng.random(len(self.lengths_s))))
        batches = cut(order.tolist(), self.lengths_s.tolist(), self.batch_seconds)
        return [batches[n] for n in rng.permutation(len(batches))]


class SharedBatches(Sampler[list[int]]):
    """Given batches, dealt out to the processes that work together; all to each if they are too few.

    Means over processes are right either way, and no process is without a batch.
    """

    def __init__(self, batches: list[list[int]]) -> None:
        self.all = batches

    def __len__(self) -> int:
        """Batches of this process."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of this process."""
        rank, processes = rank_and_world_size()
        return iter(self.all[rank::processes] if len(self.all) >= processes else self.all)


def cut(order: Iterable[int], lengths_s: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """Cut examples in a given order into batches of so many seconds, padding counted; one example at least.

    >>> cut([0, 2, 1], [1.0, 3.0, 2.0], batch_seconds=4.0)
    [[0, 2], [1]]
    """
    batches: list[list[int]] = []
    longest = 0.0
    for item in order:
        longest = max(longest, lengths_s[item])
        if batches and longest * (len(batches[-1]) + 1) <= batch_seconds:
            batches[-1].append(item)
        else:
            batches.append([item])
            longest = lengths_s[item]
    return batches


def rank_and_world_size() -> tuple[int, int]:
    """This process's number among those that train together, and how many they are."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def rank_slice(size: int) -> tuple[int, int, int]:
    """Start, stop and step of this process's items among those of all that train together."""
    rank, processes = rank_and_world_size()
    return rank, size - size % processes, processes
