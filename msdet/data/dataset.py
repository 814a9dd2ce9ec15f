"""Torch data sets: mixtures made on the fly from an RIR bank, and rendered sets."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from msdet import audio
from msdet.conventions import Array, angular_distance_deg
from msdet.corpora import Corpus
from msdet.data.manifest import SceneSet
from msdet.errors import MsdetError
from msdet.simulation.bank import ROOM_FIELDS, BankRoom, RirBank
from msdet.simulation.rendering import mix, place_speech
from msdet.simulation.sampling import MAX_DRAWS, SceneDistribution, sample_talkers

CACHE_SAMPLES = 150_000_000
"""Speech kept in memory by each worker, in samples of 2 bytes."""

MAX_SILENT_DRAWS = 20


class Example(TypedDict):
    """One mixture and its labels; a batch has one more axis in front.

    ``mixture (mic, time)``, ``references (talker, time)``, ``azimuth_deg (talker,)`` and
    ``distance_m (talker,)``.
    """

    mixture: Tensor
    references: Tensor
    azimuth_deg: Tensor
    distance_m: Tensor


class SpeechCache:
    """Speech of a corpus at one sample rate, the files used last kept in memory as 16-bit samples."""

    def __init__(self, root: Path, sample_rate: int) -> None:
        self.root = root
        self.sample_rate = sample_rate
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._samples = 0

    def get(self, path: str) -> Array:
        """Speech ``(time,)`` float32 of a file, path relative to the corpus."""
        if path in self._kept:
            self._kept.move_to_end(path)
        else:
            speech = audio.read_mono(self.root / path, self.sample_rate)
            quantised = np.clip(np.round(speech * 32767.0), -32768, 32767).astype(np.int16)
            self._kept[path] = quantised
            self._samples += len(quantised)
            while self._samples > CACHE_SAMPLES:
                self._samples -= len(self._kept.popitem(last=False)[1])
        return self._kept[path].astype(np.float32) / 32767.0


class MixingDataset(Dataset[Example]):
    """Mixtures made on the fly: item ``i`` depends on the seed and ``i`` alone, on any worker.

    The index never repeats: epoch ``e`` of ``n`` mixtures asks for items ``e n`` to ``(e + 1) n - 1``
    (`EpochSampler`), so training sees new mixtures all the time.
    """

    def __init__(
        self, bank: RirBank, corpus: Corpus, split: str, distribution: SceneDistribution, seed: int
    ) -> None:
        """Check that bank and distribution belong together.

        Raises:
            MsdetError: they differ in sample rate, or the bank has too few positions.
        """
        if bank.sample_rate != distribution.sample_rate:
            raise MsdetError(
                f"{bank.root}: RIR bank is at {bank.sample_rate} Hz, the distribution asks for "
                f"{distribution.sample_rate} Hz"
            )
        if bank.positions < distribution.talkers:
            raise MsdetError(
                f"{bank.root}: RIR bank has {bank.positions} positions a room, "
                f"{distribution.talkers} talkers need as many"
            )
        asked, default = dataclasses.asdict(distribution), dataclasses.asdict(SceneDistribution())
        for name in ROOM_FIELDS:  # what is not asked for comes with the bank
            made = bank.settings[name]
            if isinstance(asked[name], tuple) and asked[name] != default[name] and list(asked[name]) != made:
                raise MsdetError(f"{bank.root}: RIR bank has {name} {made}, {list(asked[name])} is asked for")
        self.bank = bank
        self.distribution = distribution
        self.seed = seed
        self.speech = corpus.by_speaker(split)
        self.cache = SpeechCache(corpus.root, distribution.sample_rate)

    def __getitem__(self, index: int) -> Example:
        """Mix item `index`."""
        d = self.distribution
        rng = np.random.default_rng([self.seed, index])
        room = self._draw_room(rng)
        speech = self._draw_speech(rng)
        mixture = mix(
            speech,
            room.response,
            rng.uniform(*d.level_db, size=d.talkers),
            float(rng.uniform(*d.snr_db)),
            d.target,
            self.bank.array.reference,
            d.sample_rate,
            rng,
        )
        return _example(mixture.mixture, mixture.references, room.azimuths_deg, room.distances_m)

    def _draw_speech(self, rng: np.random.Generator) -> Array:
        """Dry speech ``(talker, time)``, no talker silent throughout."""
        d = self.distribution
        for _ in range(MAX_SILENT_DRAWS):
            speech = np.zeros((d.talkers, round(d.duration_s * d.sample_rate)), dtype=np.float32)
            drawn = sample_talkers(self.speech, d.talkers, d.duration_s, rng)
            for row, (utterance, offset_s, onset_s) in zip(speech, drawn, strict=True):
                place_speech(row, self.cache.get(utterance.path), offset_s, onset_s, d.sample_rate)
            if speech.any(axis=-1).all():
                return speech
        raise MsdetError(f"{self.cache.root}: speech is silent in {MAX_SILENT_DRAWS} draws in a row")

    def _draw_room(self, rng: np.random.Generator) -> BankRoom:
        """A room with as many positions as talkers, at least the smallest gap apart."""
        for _ in range(MAX_DRAWS):
            room = self.bank.room(int(rng.integers(self.bank.rooms)))
            positions = rng.choice(self.bank.positions, self.distribution.talkers, replace=False)
            azimuths = room.azimuths_deg[positions]
            gaps = angular_distance_deg(azimuths[:, None], azimuths[None])
            if (
                gaps[np.triu_indices(len(azimuths), 1)].min(initial=360.0)
                >= self.distribution.minimum_gap_deg
            ):
                return room.select(positions)
        raise MsdetError(
            f"{self.bank.root}: no positions with minimum_gap_deg {self.distribution.minimum_gap_deg}"
        )


class RenderedDataset(Dataset[Example]):
    """A rendered data set as training or validation examples."""

    def __init__(self, scene_set: SceneSet, limit: int | None = None) -> None:
        self.scene_set = scene_set
        self.scenes = scene_set.scenes[:limit]
        lengths = {(scene.samples, len(scene.sources)) for scene in self.scenes}
        if len(lengths) > 1:
            raise MsdetError(f"{scene_set.root}: scenes differ in length or number of talkers")

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scenes)

    def __getitem__(self, index: int) -> Example:
        """Read scene `index`."""
        scene = self.scenes[index]
        distances = np.array([s.distance_m for s in scene.sources])
        return _example(
            self.scene_set.mixture(scene), self.scene_set.references(scene), scene.azimuths_deg, distances
        )


class EpochSampler(Sampler[int]):
    """Epochs of any size from a stream of items.

    The stream counts up for ever, so that mixing never repeats; with a `population` it is shuffle after
    shuffle of that many items.

    Args:
        size: items an epoch, over all processes that train together.
        population: number of items there are; None if there is no end of them.
        seed: of the shuffles.
    """

    def __init__(self, size: int, population: int | None = None, seed: int = 0) -> None:
        self.size = size
        self.population = population
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Items an epoch of this process."""
        return len(range(*self._share()))

    def __iter__(self) -> Iterator[int]:
        """Indices of this epoch, this process's share where several train together."""
        stream = range(self.epoch * self.size, (self.epoch + 1) * self.size)[slice(*self._share())]
        if self.population is None:
            yield from stream
            return
        shuffles: dict[int, Array] = {}
        for place in stream:
            number, within = divmod(place, self.population)
            if number not in shuffles:
                shuffles = {number: np.random.default_rng([self.seed, number]).permutation(self.population)}
            yield int(shuffles[number][within])

    def _share(self) -> tuple[int, int, int]:
        """Start, stop and step of this process's items."""
        if not torch.distributed.is_initialized():
            return 0, self.size, 1
        processes = torch.distributed.get_world_size()
        return torch.distributed.get_rank(), self.size - self.size % processes, processes


def _example(mixture: Array, references: Array, azimuths_deg: Array, distances_m: Array) -> Example:
    return Example(
        mixture=torch.from_numpy(np.ascontiguousarray(mixture, dtype=np.float32)),
        references=torch.from_numpy(np.ascontiguousarray(references, dtype=np.float32)),
        azimuth_deg=torch.tensor(azimuths_deg, dtype=torch.float32),
        distance_m=torch.tensor(distances_m, dtype=torch.float32),
    )
