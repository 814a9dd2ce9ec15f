"""Torch data sets: mixtures made on the fly from an RIR bank, and rendered sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.corpora import Corpus
from msdet.data.example import Example, TalkerPosition, make_example
from msdet.data.partial_labels import FULLY, LabelAvailability
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import MAX_SILENT_DRAWS, Sounds
from msdet.scenes.mismatch import draw_mismatch
from msdet.scenes.noise import read_noise_folder
from msdet.scenes.rendering import Mixture, mix, noise_signals, reverberate_sources
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.rir.room_response import RoomResponse
from msdet.scenes.sampling import Material, Turn, sample_count, sample_noises, sample_turns

CACHE_SAMPLES = 150_000_000
"""Speech kept in memory by each worker, in samples of 2 bytes."""


class DynamicMixingDataset(Dataset[Example]):
    """Mixtures made on the fly: item ``i`` depends on the seed and ``i`` alone, on any worker.

    The index never repeats: epoch ``e`` of ``n`` mixtures asks for items ``e n`` to ``(e + 1) n - 1``
    (`EpochSampler`), so training sees new mixtures all the time.

    Attributes:
        population: None, as there is no end of items.
    """

    population: int | None = None

    def __init__(
        self,
        bank: RirBank,
        corpus: Corpus,
        split: str,
        distribution: SceneDistribution,
        seed: int,
        noise: Path | None = None,
        slots: int | None = None,
    ) -> None:
        """Check that bank and distribution belong together.

        Args:
            bank: of impulse responses.
            corpus: of speech.
            split: of the corpus.
            distribution: what is drawn.
            seed: of everything random.
            noise: folder of noise recordings.
            slots: that examples are padded to; as many as the most talkers if not given.

        Raises:
            MsdetError: they differ in sample rate or rooms, or there are more talkers than slots.
        """
        distribution.check()
        bank.check_for(distribution)
        most = distribution.most_talkers
        self.slots = most if slots is None else slots
        if most > self.slots:
            raise MsdetError(f"talkers is {distribution.talkers}, the model has {self.slots} output slots")
        self.bank = bank
        self.distribution = distribution
        self.seed = seed
        recordings = tuple(r for r in read_noise_folder(noise) if r.split == split) if noise else ()
        self.material = Material(corpus.by_speaker(split), bank.array.microphones, recordings, bank)
        self.sounds = Sounds(corpus.root, distribution.sample_rate, noise, CACHE_SAMPLES)

    def __getitem__(self, index: int) -> Example:
        """Mix item `index`."""
        d = self.distribution
        rng = np.random.default_rng([self.seed, index])
        talkers = sample_count(d, rng)
        room, positions = self.bank.draw_positions(d, talkers, rng)
        response = self.bank.room(room, positions)
        mixture = self._mix(response, talkers, rng)
        table = self.bank.table[room]
        places = [
            TalkerPosition(table.azimuths_deg[p], table.elevations_deg[p], table.distances_m[p])
            for p in positions[:talkers]
        ]
        t60_s = table.t60_measured_s
        return make_example(
            mixture.mixture, mixture.references, places, self.slots, d.sample_rate, t60_s, room, index
        )

    def labeling(self, index: int) -> LabelAvailability:
        """What item `index` has labels of: everything."""
        return FULLY

    def _mix(self, response: RoomResponse, talkers: int, rng: np.random.Generator) -> Mixture:
        """A mixture through responses from talkers and then point noises."""
        d, array = self.distribution, self.bank.array
        turns, speech = self._draw_speech(talkers, rng)
        errors = (d.gain_error_db, d.phase_error_deg, 0.0)
        mismatch = draw_mismatch(array.microphones, *errors, rng) if any(errors) else None
        heard = reverberate_sources(
            speech,
            [turn.duration_s for turn in turns],
            response,
            [(np.array([k]), np.zeros(1)) for k in range(talkers)],
            d.target,
            array.reference,
            d.sample_rate,
            mismatch,
        )
        noises = noise_signals(
            sample_noises(d, self.material, [turn.utterance.speaker for turn in turns], rng),
            self.sounds,
            array.positions,
            len(speech[0]),
            SPEED_OF_SOUND,
            iter(response.rirs[talkers:]),
            mismatch,
            rng,
        )
        levels_db = rng.uniform(*d.level_db, size=talkers)
        return mix(heard, levels_db, noises, array.reference, d.sample_rate)

    def _draw_speech(self, talkers: int, rng: np.random.Generator) -> tuple[list[Turn], list[Array]]:
        """Turns and what is heard in them ``(time,)``, no talker silent throughout."""
        d = self.distribution
        samples = round(d.duration_s * d.sample_rate)
        for _ in range(MAX_SILENT_DRAWS):
            turns = sample_turns(self.material.speech, talkers, d, rng)
            speech = [
                self.sounds.turn(t.utterance.path, t.offset_s, t.onset_s, t.duration_s, samples)
                for t in turns
            ]
            if all(dry.any() for dry in speech):
                return turns, speech
        raise MsdetError(f"{self.sounds.corpus}: speech is silent in {MAX_SILENT_DRAWS} draws in a row")


class RenderedDataset(Dataset[Example]):
    """A rendered data set as training or validation examples.

    Attributes:
        scene_set: the set.
        scenes: those that are examples, in order.
        slots: that examples are padded to.
        population: number of examples.
    """

    def __init__(
        self,
        scene_set: SceneSet,
        limit: int | None = None,
        slots: int | None = None,
        mixed_lengths: bool = False,
    ) -> None:
        """Check that the scenes can stand in one batch.

        Args:
            scene_set: the set.
            limit: only the first scenes.
            slots: that examples are padded to; as many as the most talkers if not given.
            mixed_lengths: whether scenes may differ in length; batches are then padded
                (`msdet.data.batching`).

        Raises:
            MsdetError: scenes differ in length, or have more talkers than there are slots.
        """
        self.scene_set = scene_set
        self.scenes = scene_set.scenes[:limit]
        if len({scene.samples for scene in self.scenes}) > 1 and not mixed_lengths:
            raise MsdetError(f"{scene_set.root}: scenes differ in length; data.batch_seconds trains on them")
        most = max(len(scene.sources) for scene in self.scenes)
        self.slots = most if slots is None else slots
        if most > self.slots:
            raise MsdetError(f"{scene_set.root}: has {most} talkers, the model has {self.slots} output slots")

    @property
    def population(self) -> int:
        """Number of examples."""
        return len(self.scenes)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scenes)

    def labeling(self, index: int) -> LabelAvailability:
        """What scene `index` has labels of, without reading it."""
        return LabelAvailability(self.scenes[index].referenced, self.scenes[index].located)

    def __getitem__(self, index: int) -> Example:
        """Read scene `index`."""
        scene = self.scenes[index]
        places = [
            TalkerPosition(
                source.azimuth_deg,
                source.elevation_deg,
                source.distance_m,
                np.array([d.azimuth_deg for d in source.track]) if source.track else None,
            )
            for source in scene.sources
        ]
        return make_example(
            self.scene_set.mixture(scene),
            self.scene_set.references(scene) if scene.referenced else None,
            places,
            self.slots,
            scene.sample_rate,
            scene.t60_s,
            -1 if scene.rir_room is None else scene.rir_room,
            index,
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
        return len(range(*rank_slice(self.size)))

    def __iter__(self) -> Iterator[int]:
        """Indices of this epoch, this process's share where several train together."""
        stream = range(self.epoch * self.size, (self.epoch + 1) * self.size)
        stream = stream[slice(*rank_slice(self.size))]
        if self.population is None:
            yield from stream
            return
        shuffles: dict[int, Array] = {}
        for place in stream:
            number, within = divmod(place, self.population)
            if number not in shuffles:
                shuffles = {number: np.random.default_rng([self.seed, number]).permutation(self.population)}
            yield int(shuffles[number][within])


def rank_slice(size: int) -> tuple[int, int, int]:
    """Start, stop and step of this process's items among those of all that train together."""
    if not torch.distributed.is_initialized():
        return 0, size, 1
    processes = torch.distributed.get_world_size()
    return torch.distributed.get_rank(), size - size % processes, processes
