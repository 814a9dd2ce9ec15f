"""Several rendered sets as one: for example recordings beside simulated scenes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch.utils.data import Dataset

from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.partial_labels import LabelAvailability
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError


class ConcatSceneDataset(Dataset[Example]):
    """The scenes of rendered sets, one set after the other; of several, `Example.domain` is the set's number.

    Attributes:
        sets: as examples.
        scenes: of all of them, in the order of the examples.
        slots: that examples are padded to.
        population: number of examples.
        starts: number of the first example of each set, and of all examples.
    """

    def __init__(
        self, scene_sets: Sequence[SceneSet], slots: int | None = None, mixed_lengths: bool = False
    ) -> None:
        """Check that the sets belong together.

        Args:
            scene_sets: at least one; their talkers, rooms and labels may differ.
            slots: that examples are padded to; as many as the most talkers of all sets if not given.
            mixed_lengths: whether scenes may differ in length (`RenderedDataset`).

        Raises:
            MsdetError: they differ in array, sample rate, length or what references hold, or there are more
                talkers than slots.
        """
        if not scene_sets:
            raise MsdetError("no data sets to join, expected at least one")
        for other in scene_sets[1:]:
            _check_together(scene_sets[0], other, mixed_lengths)
        most = max(len(scene.sources) for data in scene_sets for scene in data.scenes)
        self.slots = most if slots is None else slots
        self.sets = tuple(
            RenderedDataset(data, slots=self.slots, mixed_lengths=mixed_lengths) for data in scene_sets
        )
        self.scenes = tuple(scene for data in self.sets for scene in data.scenes)
        self.starts = (0, *accumulate(len(data) for data in self.sets))

    @property
    def population(self) -> int:
        """Number of examples."""
        return len(self.scenes)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scenes)

    def __getitem__(self, index: int) -> Example:
        """Read scene `index`."""
        number, within = self._find(index)
        example = self.sets[number][within]
        example["item"] = torch.tensor(index)
        if len(self.sets) > 1:
            example["domain"] = torch.tensor(number)
        return example

    def labeling(self, index: int) -> LabelAvailability:
        """What scene `index` has labels of, without reading it."""
        number, within = self._find(index)
        return self.sets[number].labeling(within)

    def _find(self, index: int) -> tuple[int, int]:
        """The set of an example, and its place there."""
        if not 0 <= index < len(self.scenes):
            raise IndexError(index)
        number = bisect_right(self.starts, index) - 1
        return number, index - self.starts[number]


def _check_together(first: SceneSet, other: SceneSet, mixed_lengths: bool) -> None:
    """Refuse a set that does not fit the first."""
    if other.sample_rate != first.sample_rate:
        raise MsdetError(
            f"{other.root}: is at {other.sample_rate} Hz, {first.root} at {first.sample_rate} Hz"
        )
    if other.array.positions_m != first.array.positions_m or other.array.reference != first.array.reference:
        raise MsdetError(
            f"{other.root}: array is '{other.array.name}', that of {first.root} is '{first.array.name}'"
        )
    targets = [sorted({s.target for s in data.scenes if s.referenced}) for data in (first, other)]
    if all(targets) and targets[0] != targets[1]:
        found, expected = (" and ".join(names) for names in reversed(targets))
        raise MsdetError(f"{other.root}: references are {found}, those of {first.root} are {expected}")
    lengths = [data.scenes[0].samples for data in (first, other)]
    if lengths[0] != lengths[1] and not mixed_lengths:
        raise MsdetError(
            f"{other.root}: scenes have {lengths[1]} samples, those of {first.root} {lengths[0]}; "
            "data.batch_seconds trains on them"
        )
