"""Batches of examples of different lengths: those of about one length together, padded to the longest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Sampler, default_collate

from msdet.data.example import Example
from msdet.errors import MsdetError

_JITTER = 0.1
"""Lengths are compared with an error of up to this share, so that batches differ from shuffle to shuffle."""


def padded(examples: Sequence[Example]) -> Example:
    """A batch of examples, mixtures and references padded with zeros and tracks with their last azimuth."""
    samples = max(e["mixture"].shape[-1] for e in examples)
    labels = max(e["track_deg"].shape[-1] for e in examples)
    rows: list[dict[str, Any]] = []
    for example in examples:
        row = cast(dict[str, Any], dict(example))
        for name in ("mixture", "references"):
            row[name] = pad(row[name], (0, samples - row[name].shape[-1]))
        track = row["track_deg"]
        row["track_deg"] = torch.cat(
            [track, track[..., -1:].expand(*track.shape[:-1], labels - track.shape[-1])], -1
        )
        rows.append(row)
    return cast(Example, default_collate(rows))


class LengthBatches(Sampler[list[int]]):
    """Epochs of a number of batches of about one length each, from an endless stream of shuffles.

    Each shuffle of the examples sorts them by length, roughly, cuts batches, and shuffles the batches. Epoch
    ``e`` of ``n`` batches is numbers ``e n`` to ``(e + 1) n - 1`` of the stream, so a run that goes on sees
    what it would have seen. Processes that train together share each batch evenly; what is over is left out.

    Args:
        lengths_s: of each example ``(example,)``.
        batch_seconds: seconds of audio a batch, padding counted, over all processes.
        batches: an epoch.
        seed: of the shuffles.

    Raises:
        MsdetError: an example is longer than a batch may be.
    """

    def __init__(self, lengths_s: Sequence[float], batch_seconds: float, batches: int, seed: int = 0) -> None:
        if max(lengths_s) > batch_seconds:
            raise MsdetError(
                f"data.batch_seconds is {batch_seconds:g}, the longest scene has {max(lengths_s):g} s"
            )
        self.lengths_s = np.asarray(lengths_s, dtype=np.float64)
        self.batch_seconds = batch_seconds
        self.batches = batches
        self.seed = seed
        self.epoch = 0

    @property
    def sampler(self) -> LengthBatches:
        """Itself: where the trainer looks for what to tell the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of this epoch, this process's share of each."""
        first, number, shuffle = self.epoch * self.batches, 0, 0
        rank, processes = rank_and_world_size()
        while number < first + self.batches:
            cut = self.shuffled(shuffle)
            for batch in cut[max(first - number, 0) : first + self.batches - number]:
                even = len(batch) - len(batch) % processes
                yield batch[rank:even:processes] or [batch[rank % len(batch)]]
            number += len(cut)
            shuffle += 1

    def shuffled(self, shuffle: int) -> list[list[int]]:
        """All batches of one shuffle."""
        rng = np.random.default_rng([self.seed, shuffle])
        order = np.argsort(self.lengths_s * (1.0 + _JITTER * rng.random(len(self.lengths_s))))
        batches = cut(order.tolist(), self.lengths_s.tolist(), self.batch_seconds)
        return [batches[n] for n in rng.permutation(len(batches))]


class SharedBatches(Sampler[list[int]]):
    """Given batches, dealt out to the processes that work together; all to each if they are too few.

    Means over processes are then right either way, and nobody is without.
    """

    def __init__(self, batches: list[list[int]]) -> None:
        self.all = batches

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self._mine())

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of this process."""
        return iter(self._mine())

    def _mine(self) -> list[list[int]]:
        rank, processes = rank_and_world_size()
        return self.all[rank::processes] if len(self.all) >= processes else self.all


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
