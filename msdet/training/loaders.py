"""What a run learns from: data opened and checked, and loaders of batches."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import DataLoader, Dataset

from msdet.arrays import MicrophoneArray
from msdet.corpora import load_corpus
from msdet.data.dataset import (
    STREAM_BLOCK,
    ConcatSceneDataset,
    DynamicMixingDataset,
    LabelSubset,
    MixedArraysDataset,
    RenderedDataset,
)
from msdet.data.device_mixing import collate_dry
from msdet.data.example import Example, LabeledData
from msdet.data.samplers import (
    BalancedSampler,
    EpochSampler,
    LengthBatches,
    SharedBatches,
    balance_labels,
    balance_sets,
    collate_padded,
    cut,
)
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import settings_hash
from msdet.io.jobs import end_with_parent
from msdet.models.config import ModelConfig
from msdet.models.heads import TASKS
from msdet.scenes.rir.bank import HEADER, ROOM_FIELDS, RirBank
from msdet.training.config import DataConfig, ObjectiveConfig, TrainConfig
from msdet.training.objective import AUXILIARY_WEIGHT


@dataclass(frozen=True)
class TrainingData:
    """Training and validation examples of one geometry and sample rate."""

    train: LabeledData  # without end where examples are mixed
    rendered: ConcatSceneDataset | None  # the same as rendered sets, nothing withheld; None where examples are mixed
    dev: RenderedDataset
    array: MicrophoneArray  # of validation
    sample_rate: int
    identity: dict[str, str]  # hashes of everything read
    arrays: tuple[MicrophoneArray, ...] = ()  # of training by number, where there are several
    rooms: dict[str, Any] = field(default_factory=dict)  # what banks decide of the scenes that are mixed

    def name(self, item: int) -> str:
        """What to call a training example."""
        return self.rendered.scenes[item].id if self.rendered else f"mixture {item}"


def load_data(config: DataConfig, model: ModelConfig, seed: int) -> TrainingData:
    """Open everything a run reads, and refuse data of different arrays, sample rates or talker counts.

    A bank may be a folder of banks, each of its own array: a batch, over all devices, is of one.
    """
    mixed_lengths = config.batch_seconds is not None
    dev_set = SceneSet.open(config.dev)
    dev = RenderedDataset(dev_set, slots=model.talkers, mixed_lengths=mixed_lengths)
    identity = {"dev": dev_set.identity}
    train: LabeledData
    rendered, rooms = None, dict[str, Any]()
    arrays: tuple[MicrophoneArray, ...] = ()
    if config.train is not None:
        sets = [_within(SceneSet.open(root), config.t60_s) for root in (config.train, *config.extra_train)]
        train = rendered = ConcatSceneDataset(sets, slots=model.talkers, mixed_lengths=mixed_lengths)
        array, rate, identity["train"] = sets[0].array, sets[0].sample_rate, sets[0].identity
        identity |= {f"also_{n}": other.identity for n, other in enumerate(sets[1:], start=1)}
        counts = {len(s.sources) for s in rendered.scenes + dev_set.scenes}
    else:
        assert config.bank is not None and config.speech is not None  # by `check`
        banks = [bank.within(config.t60_s) if config.t60_s else bank for bank in open_banks(config.bank)]
        corpus = load_corpus(config.corpus, config.speech)
        how = (corpus, "train", config.scenes, seed, config.noise, model.talkers)
        if len(banks) == 1:
            train = mixing = DynamicMixingDataset(banks[0], *how, epoch_size=None)
            array, identity["bank"] = banks[0].array, banks[0].identity
        else:
            train = mixed = MixedArraysDataset(banks, *how)
            mixing, array = mixed.parts[0], dev_set.array
            identity["bank"] = settings_hash([bank.identity for bank in banks])
            arrays = tuple(bank.array for bank in banks)
        rate, rooms = banks[0].sample_rate, rooms_of(banks)
        identity["speech"] = settings_hash([(u.path, u.seconds, u.split) for u in corpus.utterances])
        identity["noise"] = settings_hash([dataclasses.astuple(r) for r in mixing.material.recordings])
        counts = set(config.scenes.weights) | {len(s.sources) for s in dev_set.scenes}
    _check_together(config, model, dev_set, counts, rate, array)
    if (config.reference_fraction, config.doa_fraction) != (1.0, 1.0):
        train = LabelSubset(train, config.reference_fraction, config.doa_fraction, seed)
    return TrainingData(train, rendered, dev, array, rate, identity, arrays, rooms)


def rooms_of(banks: Sequence[RirBank]) -> dict[str, Any]:
    """Fields of a scene distribution that banks decide: values that all have, or intervals that hold all of theirs."""
    found: dict[str, Any] = {"array": f"{len(banks)} arrays"} if len(banks) > 1 else {}
    for name in ROOM_FIELDS:
        values = [bank.settings[name] for bank in banks if bank.settings.get(name) is not None]
        if name == "array" or not values:
            continue
        if all(isinstance(value, list | tuple) for value in values):
            found[name] = [min(value[0] for value in values), max(value[1] for value in values)]
        elif len(values) == len(banks) and all(value == values[0] for value in values):
            found[name] = values[0]
    return found


def open_banks(folder: Path) -> list[RirBank]:
    """The bank in a folder, or the banks of a folder of them, by name."""
    if (folder / HEADER).is_file():
        return [RirBank.open(folder)]
    inside = sorted(path.parent for path in folder.glob(f"*/{HEADER}"))
    return [RirBank.open(path) for path in inside or [folder]]


def _within(scene_set: SceneSet, t60_s: tuple[float, float] | None) -> SceneSet:
    """The scenes of a set whose T60 is in an interval."""
    if t60_s is None:
        return scene_set
    low, high = t60_s
    chosen = tuple(s for s in scene_set.scenes if s.t60_s is not None and low <= s.t60_s <= high)
    if not chosen:
        raise MsdetError(f"{scene_set.root}: no scene has a T60 of {low} to {high} s")
    return dataclasses.replace(scene_set, scenes=chosen)


def _check_together(
    config: DataConfig, model: ModelConfig, dev_set: SceneSet, counts: set[int], rate: int, array: MicrophoneArray
) -> None:
    if counts != {model.talkers} and not model.variable_num_speakers:
        problem = f"the model has {model.talkers} output slots, the data have {sorted(counts)} talkers"
        raise MsdetError(f"{problem}; model.variable_num_speakers lets slots stay empty")
    targets = {scene.target for scene in dev_set.scenes}
    if config.train is None and targets != {config.scenes.target}:
        there = f"the scenes of {config.dev} have {sorted(targets)}"
        raise MsdetError(f"data.scenes.target is '{config.scenes.target}', {there}")
    if rate != dev_set.sample_rate:
        raise MsdetError(f"{config.dev}: is at {dev_set.sample_rate} Hz, training data at {rate} Hz")
    if array.positions_m != dev_set.array.positions_m or array.reference != dev_set.array.reference:
        raise MsdetError(f"{config.dev}: array is '{dev_set.array.name}', training data have '{array.name}'")


def check_labels(data: TrainingData, objective: ObjectiveConfig, model: ModelConfig | None = None) -> None:
    """Refuse data without a single label of a task, of the model's as well, that the objective weighs above zero."""
    root = "data.reference_fraction, data.doa_fraction"  # which alone take labels from what is mixed
    if data.rendered is not None:
        root = " and ".join(str(part.scene_set.root) for part in data.rendered.sets)
    labelings = [data.train.labeling(item) for item in range(data.train.population or STREAM_BLOCK)]
    available = {"references": any(x.referenced for x in labelings), "directions": any(x.located for x in labelings)}
    if objective.doa_weight < 1.0 and not available["references"]:
        raise MsdetError(f"{root}: no scene has references; objective.doa_weight 1 trains the DoA alone")
    if objective.doa_weight > 0.0 and not available["directions"]:
        raise MsdetError(f"{root}: no scene has azimuths; objective.doa_weight 0 trains separation alone")
    scenes = data.rendered.scenes if data.rendered else ()
    distances = any(math.isfinite(talker.distance_m) for scene in scenes for talker in scene.sources)
    available["distances"] = available["directions"] or distances
    for name in model.tasks if model else ():
        needed = getattr(TASKS.find(name), "NEEDS", None)
        if objective.task_weights.get(name, AUXILIARY_WEIGHT) > 0.0 and not available.get(str(needed), True):
            advice = "leave it out of model.tasks, or weigh it 0 in objective.task_weights"
            raise MsdetError(f"{root}: no scene has {needed}, which task '{name}' learns from; {advice}")


class Done(NamedTuple):
    """How far a run is: epochs, and batches of the next one."""

    epochs: int
    batches: int


NOTHING_DONE = Done(0, 0)


def loaders(
    data: TrainingData, config: TrainConfig, done: Done = NOTHING_DONE, processes: int = 1
) -> tuple[DataLoader[Example], DataLoader[Example]]:
    """Loaders of one process; an epoch of training is the steps between two validations."""
    batch, batches = _batch(config), config.optimizer.accumulate * config.interval
    mixing = data.train.dataset if isinstance(data.train, LabelSubset) else data.train
    collate = None
    if isinstance(mixing, MixedArraysDataset):
        mixing.batch = batch * processes
    if isinstance(mixing, DynamicMixingDataset | MixedArraysDataset):
        able = _on_gpu(config) and not config.data.scenes.moving
        mixing.dry = able if config.data.mix_on_device is None else config.data.mix_on_device
        collate = collate_dry if mixing.dry else None
    if data.rendered and config.data.batch_seconds:
        lengths_s = [s.samples / s.sample_rate for s in data.rendered.scenes]
        of_all_s = config.data.batch_seconds * processes
        by_length = LengthBatches(lengths_s, of_all_s, batches, config.trainer.seed)
        by_length.go_on(done.epochs, done.batches)
        train = _loader(data.train, config, batch_sampler=by_length, collate_fn=collate_padded)
    else:
        sampler = _sampler(data, config, batch * processes, batches)
        sampler.go_on(done.epochs, done.batches * batch)  # Lightning starts workers before it says which epoch it is
        train = _loader(data.train, config, batch_size=batch, sampler=sampler, drop_last=True, collate_fn=collate)
    lengths_s = [s.samples / s.sample_rate for s in data.dev.scenes]
    order = sorted(range(len(lengths_s)), key=lengths_s.__getitem__)  # as they are if all are of one length
    batch_seconds = config.data.batch_seconds or max(lengths_s) * batch + 1e-9
    dev = SharedBatches(cut(order, lengths_s, batch_seconds))
    return train, _loader(data.dev, config, batch_sampler=dev, collate_fn=collate_padded)


def _sampler(data: TrainingData, config: TrainConfig, batch: int, batches: int) -> EpochSampler | BalancedSampler:
    """Which examples make an epoch: as they come, or with a share of each label or set in each batch."""
    c, seed = config.data, config.trainer.seed
    if c.set_weights and data.rendered:
        return balance_sets(data.rendered, batch * batches, batch, c.set_weights, seed)
    if c.batch_references is None and c.batch_directions is None:
        return EpochSampler(batch * batches, data.train.population, seed)
    return balance_labels(data.train, batch * batches, batch, c.batch_references, c.batch_directions, seed)


def _loader(data: LabeledData, config: TrainConfig, **how: Any) -> DataLoader[Example]:
    workers = config.data.workers
    return DataLoader(
        cast(Dataset[Example], data),
        num_workers=workers,
        persistent_workers=workers > 0,  # what they mix follows from the items that they are sent alone
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_end_with_training if workers else None,
        pin_memory=_on_gpu(config),
        **how,
    )


def _on_gpu(config: TrainConfig) -> bool:
    return config.trainer.accelerator != "cpu" and torch.cuda.is_available()


def _end_with_training(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole group, it is the training process that decides
    end_with_parent()  # even if the training process is killed


def _batch(config: TrainConfig) -> int:
    """Mixtures a batch of one process."""
    batch_seconds, duration_s = config.data.batch_seconds, config.data.scenes.duration_s
    if batch_seconds is None:
        return config.optimizer.batch
    fitting = int(batch_seconds / duration_s + 1e-9)
    if config.data.train is None and not fitting:
        raise MsdetError(f"data.batch_seconds is {batch_seconds:g}, a mixture has {duration_s:g} s")
    return max(fitting, 1)
