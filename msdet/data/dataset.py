"""Torch data sets of examples: mixed on the fly from an RIR bank, rendered, joined, with labels withheld."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from msdet.conventions import Array
from msdet.corpora import Corpus
from msdet.data.device_mixing import dry_example
from msdet.data.example import FULLY, KINDS, Example, LabelAvailability, LabeledData, example_of
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import MAX_SILENT_DRAWS, SilentSpeechError, Sounds
from msdet.scenes.noise import read_noise_folder
from msdet.scenes.rendering import dry_scene, render
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.sampling import Material, sample_scene

CACHE_SAMPLES = 150_000_000  # speech kept in memory by each worker, in samples of 2 bytes
STREAM_BLOCK = 1000  # the fractions of labels in an endless data set are exact in every block of so many items
_SALT = 0x6C61_6265  # so that a sampler of the same seed shuffles independently


class _Counted(Dataset[Example]):
    """Examples of a known number, `population`; None where there is no end of them."""

    population: int | None

    def __len__(self) -> int:
        """Number of examples; a `TypeError` where there is no end of them."""
        if self.population is None:
            raise TypeError("an endless data set has no length; give epoch_size")
        return self.population


class DynamicMixingDataset(_Counted):
    """Mixtures made on the fly from an RIR bank: new ones in every epoch.

    Mixture `n` depends on the seed and `n` alone, on any worker. To a plain `DataLoader` the data set has
    `epoch_size` items: item `i` is mixture `i` the first time, ``epoch_size + i`` the second time, and so on;
    worker processes count together. With `epoch_size` None it is endless and item `n` is always mixture `n`,
    for a sampler that counts on from epoch to epoch (`msdet.data.samplers.EpochSampler`).
    """

    def __init__(
        self,
        bank: RirBank | str | Path,
        corpus: Corpus,
        split: str = "train",
        distribution: SceneDistribution | None = None,
        seed: int = 0,
        noise: str | Path | None = None,
        slots: int | None = None,
        epoch_size: int | None = 1000,
        dry: bool = False,
    ) -> None:
        """Check that bank and distribution belong together, and that there are slots enough (`MsdetError`).

        The bank may be given by its folder, `noise` is one of recordings. Without a distribution scenes are drawn from
        its defaults at the bank's sample rate; examples are padded to `slots`, or to the most talkers. `dry` ones are
        mixed later: batches of `msdet.data.device_mixing.collate_dry` by `mix_batch`, on any device.
        """
        self.bank = bank if isinstance(bank, RirBank) else RirBank.open(bank)
        self.distribution = distribution or SceneDistribution(sample_rate=self.bank.sample_rate)
        self.distribution.check()
        self.bank.check_for(self.distribution)
        self.slots = self.distribution.most_talkers if slots is None else slots
        if self.distribution.most_talkers > self.slots:
            raise MsdetError(f"talkers is {self.distribution.talkers}, the model has {self.slots} output slots")
        self.seed, self.dry = seed, dry
        recordings = tuple(r for r in read_noise_folder(noise) if r.split == split) if noise else ()
        self.material = Material(corpus.by_speaker(split), self.bank.array.microphones, recordings, self.bank)
        self.sounds = Sounds(corpus.root, self.distribution.sample_rate, noise, CACHE_SAMPLES)
        self.population = epoch_size
        self._epochs = torch.zeros(epoch_size or 0, dtype=torch.int64).share_memory_()  # of each item

    def __getitem__(self, index: int) -> Example:
        """Mix item `index`; see the class for which mixture that is."""
        if self.population is None:
            return self.mixture(index)
        epoch = int(self._epochs[index])
        self._epochs[index] += 1
        return self.mixture(epoch * self.population + index)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next items: to resume, or where a sampler deals items to processes."""
        self._epochs.fill_(epoch)

    def mixture(self, number: int) -> Example:
        """Draw and render mixture `number`; a scene with a silent talker is drawn again."""
        for attempt in range(MAX_SILENT_DRAWS):
            scene = sample_scene(f"mixture-{number}", self.distribution, self.material, self.seed, attempt)
            try:
                if self.dry:
                    parts = dry_scene(scene, self.bank.array, self.sounds, self.bank)
                    scene = dataclasses.replace(scene, t60_measured_s=parts.response.t60_measured_s)
                    return dry_example(scene, parts, self.slots, number, self.bank.array)
                mixture, scene = render(scene, self.bank.array, self.sounds, self.bank)
            except SilentSpeechError:
                continue
            return example_of(scene, mixture.mixture, mixture.references, self.slots, number, self.bank.array)
        raise MsdetError(f"{self.sounds.corpus}: speech is silent in {MAX_SILENT_DRAWS} draws in a row")

    def labeling(self, index: int) -> LabelAvailability:
        """Which labels item `index` has: all."""
        return FULLY


class MixedArraysDataset(_Counted):
    """Mixtures without end of many arrays, mixed on the fly from a bank for each; `Example.array` is the bank's number.

    So many items in a row as are in a `batch` are of one array, which is drawn at random; mixture `n` depends on the
    seed, the batch's size and `n` alone.
    """

    def __init__(
        self,
        banks: Sequence[RirBank],
        corpus: Corpus,
        split: str,
        distribution: SceneDistribution,
        seed: int,
        noise: str | Path | None,
        slots: int,
        batch: int = 1,
    ) -> None:
        """As for `DynamicMixingDataset`; banks of different sample rates are refused with the distribution's.

        Where some banks have paths for talkers who move, those of the others stand.
        """
        self.population = None
        self.seed, self.batch = seed, batch  # of all processes that train together
        fixed = dataclasses.replace(distribution, moving=0.0)
        paths = any(bank.places > 1 for bank in banks)
        of_banks = [fixed if paths and bank.places == 1 else distribution for bank in banks]
        self.parts = [
            DynamicMixingDataset(bank, corpus, split, scenes, seed, noise, slots, None)
            for bank, scenes in zip(banks, of_banks, strict=True)
        ]
        for part in self.parts:
            part.sounds = self.parts[0].sounds  # one cache

    @property
    def dry(self) -> bool:
        """Whether examples are mixed later, as those of `DynamicMixingDataset`."""
        return self.parts[0].dry

    @dry.setter
    def dry(self, dry: bool) -> None:
        for part in self.parts:
            part.dry = dry

    def __getitem__(self, index: int) -> Example:
        """Mix item `index`."""
        rng = np.random.default_rng([self.seed, index // self.batch, _SALT])
        number = int(rng.integers(len(self.parts)))
        example = self.parts[number].mixture(index)
        example["array"] = torch.tensor(number)
        return example

    def labeling(self, index: int) -> LabelAvailability:
        """Which labels item `index` has: all."""
        return FULLY


class RenderedDataset(_Counted):
    """A rendered data set as training or validation examples, padded to a number of slots."""

    def __init__(
        self,
        scene_set: SceneSet | str | Path,
        limit: int | None = None,
        slots: int | None = None,
        mixed_lengths: bool = False,
    ) -> None:
        """Check that the scenes can stand in one batch, and that there are slots enough (`MsdetError`).

        The set may be given by its folder; `limit` takes only the first scenes. Examples are padded to `slots`, or to
        the most talkers; scenes of `mixed_lengths` are padded in batches (`msdet.data.samplers.collate_padded`).
        """
        self.scene_set = scene_set if isinstance(scene_set, SceneSet) else SceneSet.open(scene_set)
        self.scenes = self.scene_set.scenes[:limit]
        self.population = len(self.scenes)
        root = self.scene_set.root
        if len({scene.samples for scene in self.scenes}) > 1 and not mixed_lengths:
            raise MsdetError(f"{root}: scenes differ in length; data.batch_seconds trains on them")
        most = max(len(scene.sources) for scene in self.scenes)
        self.slots = most if slots is None else slots
        if most > self.slots:
            raise MsdetError(f"{root}: has {most} talkers, the model has {self.slots} output slots")

    def labeling(self, index: int) -> LabelAvailability:
        """Which labels scene `index` has, without reading it."""
        return LabelAvailability(self.scenes[index].referenced, self.scenes[index].located)

    def __getitem__(self, index: int) -> Example:
        """Read scene `index`."""
        scene = self.scenes[index]
        references = self.scene_set.references(scene) if scene.referenced else None
        return example_of(scene, self.scene_set.mixture(scene), references, self.slots, index, self.scene_set.array)


class ConcatSceneDataset(_Counted):
    """The scenes of rendered sets, one set after the other; of several, `Example.domain` is the set's number.

    `starts` are the numbers of the first example of each set, and of all examples.
    """

    def __init__(self, scene_sets: Sequence[SceneSet], slots: int | None = None, mixed_lengths: bool = False) -> None:
        """Check that the sets agree in array, sample rate, length, and what references hold (`MsdetError`).

        Their talkers, rooms and labels may differ; `slots` and `mixed_lengths` as for `RenderedDataset`.
        """
        if not scene_sets:
            raise MsdetError("no data sets to join, expected at least one")
        for other in scene_sets[1:]:
            _check_together(scene_sets[0], other, mixed_lengths)
        most = max(len(scene.sources) for data in scene_sets for scene in data.scenes)
        self.slots = most if slots is None else slots
        self.sets = tuple(RenderedDataset(data, slots=self.slots, mixed_lengths=mixed_lengths) for data in scene_sets)
        self.scenes = tuple(scene for data in self.sets for scene in data.scenes)
        self.starts = (0, *accumulate(len(data) for data in self.sets))
        self.population = self.starts[-1]

    def __getitem__(self, index: int) -> Example:
        """Read scene `index`."""
        number, within = self._find(index)
        example = self.sets[number][within]
        example["item"] = torch.tensor(index)
        if len(self.sets) > 1:
            example["domain"] = torch.tensor(number)
        return example

    def labeling(self, index: int) -> LabelAvailability:
        """Which labels scene `index` has, without reading it."""
        number, within = self._find(index)
        return self.sets[number].labeling(within)

    def _find(self, index: int) -> tuple[int, int]:
        """The set of an example, and its place there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self.starts, index) - 1
        return number, index - self.starts[number]


def _check_together(first: SceneSet, other: SceneSet, mixed_lengths: bool) -> None:
    """Refuse a set that does not fit the first."""
    if other.sample_rate != first.sample_rate:
        raise MsdetError(f"{other.root}: is at {other.sample_rate} Hz, {first.root} at {first.sample_rate} Hz")
    if other.array.positions_m != first.array.positions_m or other.array.reference != first.array.reference:
        raise MsdetError(f"{other.root}: array is '{other.array.name}', that of {first.root} is '{first.array.name}'")
    targets = [sorted({s.target for s in data.scenes if s.referenced}) for data in (first, other)]
    if all(targets) and targets[0] != targets[1]:
        actual, expected = (" and ".join(names) for names in reversed(targets))
        raise MsdetError(f"{other.root}: references are {actual}, those of {first.root} are {expected}")
    lengths = [data.scenes[0].samples for data in (first, other)]
    if lengths[0] != lengths[1] and not mixed_lengths:
        differ = f"scenes have {lengths[1]} samples, those of {first.root} {lengths[0]}"
        raise MsdetError(f"{other.root}: {differ}; data.batch_seconds trains on them")


class LabelSubset(_Counted):
    """Examples of which a fraction keeps its references and a fraction its directions.

    A hash of seed and item decides, for both kinds of label independently, so it is the same on any worker and in any
    order. The fractions are exact in each block of items: the whole data set, or `STREAM_BLOCK` items of an endless
    one. Labels that the data lack are not counted. `kept` is the number of items in a block of each of `KINDS`.
    """

    def __init__(
        self, dataset: LabeledData, reference_fraction: float, doa_fraction: float, seed: int, block: int | None = None
    ) -> None:
        """Choose the items that keep their references, and those that keep azimuth, elevation, distance and track."""
        self.dataset, self.seed = dataset, seed
        self.population = dataset.population
        self.block = block or dataset.population or STREAM_BLOCK
        with_references = self._count("references", reference_fraction)
        with_directions = self._count("directions", doa_fraction)
        both = round(with_references * with_directions / self.block)
        neither = self.block - with_references - with_directions + both
        self.kept = (both, with_references - both, with_directions - both, neither)
        self._cached: tuple[int, Array] = (-1, np.zeros(0))

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
        """Which labels example `index` has and keeps."""
        there, kept = self.dataset.labeling(index), self._kept(index)
        return LabelAvailability(there.referenced and kept.referenced, there.located and kept.located)

    def items(self, kinds: Sequence[LabelAvailability], block: int) -> Array:
        """Items ``(item,)`` of a block, ascending, that keep just one of these."""
        wanted = [KINDS.index(kind) for kind in kinds]
        return np.flatnonzero(np.isin(self._kinds(block), wanted)) + block * self.block

    def _kept(self, index: int) -> LabelAvailability:
        block, within = divmod(index, self.block)
        return KINDS[int(self._kinds(block)[within])]

    def _kinds(self, block: int) -> Array:
        """Which of `KINDS` each item ``(item,)`` of a block is."""
        if self._cached[0] != block:
            kinds = np.repeat(np.arange(len(KINDS)), self.kept)
            self._cached = (block, np.random.default_rng([self.seed, block, _SALT]).permutation(kinds))
        return self._cached[1]

    def _count(self, name: str, fraction: float) -> int:
        """Items of a block that keep a kind of label."""
        if not 0.0 <= fraction <= 1.0:
            raise MsdetError(f"share of {name} is {fraction}, expected 0 to 1")
        count = round(fraction * self.block)
        if fraction and not count:
            raise MsdetError(f"share of {name} is {fraction}, which is no item of {self.block}")
        return count
