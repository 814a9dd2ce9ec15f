"""How fast are mixtures made? The usual loop around pyroomacoustics, `msdet simulate`, and an RIR bank."""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyroomacoustics as pra
import soundfile
from _common import report, run, write_corpus

from msdet.arrays import MicrophoneArray, load_array
from msdet.commands._progress import progress_bar, usable_cores
from msdet.conventions import Array
from msdet.corpora import load_corpus
from msdet.data.simulate import simulate
from msdet.io.jobs import worker_pool
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.rendering import render
from msdet.scenes.rir.bank import RirBank, make_bank
from msdet.scenes.rir.reverberation import absorption_for_t60, highpass
from msdet.scenes.rir.room_response import room_response
from msdet.scenes.scene import Scene

T = TypeVar("T")
SPLIT, SEED = "train", 0
BANK_ROOMS, BANK_POSITIONS = 20, 6


def simulation(quick: bool = False, count: int = 100, many: int = 0, mixtures: int = 1500) -> None:
    """Count mixtures per second of three ways to make the same kind of data, on all cores.

    Args:
        quick: 6 scenes and 60 mixtures.
        count: scenes to render, one room each.
        many: scenes of a second, larger set, to see whether the cost per scene is flat.
        mixtures: to mix on the fly from a bank.
    """
    count, mixtures = (6, 60) if quick else (count, mixtures)
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder, progress_bar("simulation") as progress:
        root = Path(folder)
        write_corpus(root / "speech", 12, 4, 6.0, SceneDistribution().sample_rate)
        rendered, seconds = timed(lambda: make_set(root, count))
        progress(1, 5)
        rate = {"msdet simulate": count / seconds}
        if many:
            rate[f"msdet simulate, {many} scenes"] = many / timed(lambda: make_set(root, many))[1]
        progress(2, 5)
        plain_scenes = rendered[: max(count // 4, 3)]
        rate["pyroomacoustics loop"] = len(plain_scenes) / timed(lambda: plain_loop(plain_scenes, root))[1]
        progress(3, 5)
        rate["RIR bank, on the fly"] = mixing_rate(root, mixtures, cores)
        waiting = data_wait_share(root, 4 if quick else 30)
        progress(4, 5)
        differences, discarded = zip(*(compare_responses(s) for s in rendered[:10]), strict=True)
        memory_mb = worker_memory_mb(root, rendered[:4])
        progress(5, 5)
    base = rate["pyroomacoustics loop"]
    rows = [{"way": way, "mixtures_per_s": r, "ratio": r / base} for way, r in rate.items()]
    report(
        rows,
        render_ratio=rate["msdet simulate"] / base,
        bank_ratio=rate["RIR bank, on the fly"] / base,
        rir_error_db=max(*differences, *discarded),
        rir_difference_db=max(differences),
        rir_discarded_db=max(discarded),
        worker_mb=memory_mb,
        data_wait_share=waiting,
        cores=cores,
    )


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a function returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def make_set(root: Path, scenes: int) -> tuple[Scene, ...]:
    """`msdet simulate` with one process a core, workers' start included."""
    made = simulate(
        root / f"set{scenes}", root / "speech", "folder", SPLIT, SceneDistribution(), scenes, SEED, usable_cores()
    )
    assert made is not None
    return made.scenes


def plain_loop(scenes: tuple[Scene, ...], root: Path) -> None:
    """The same scenes as everybody writes them: a room and its `simulate`, and once more for direct paths."""
    array = load_array(scenes[0].array)
    for scene in scenes:
        speech = [cut_speech(scene, s, root / "speech") for s in range(len(scene.sources))]
        wet, dry = (plain_room(scene, array, order, speech) for order in (reflections(scene), 0))
        wet.simulate()
        images = dry.simulate(return_premix=True)
        mixture = wet.mic_array.signals
        noise = np.random.default_rng(scene.seed).standard_normal(mixture.shape)
        mixture = mixture + noise * mixture.std() / noise.std() * 10 ** (-scene.snr_db / 20)
        scale = 0.9 / np.abs(mixture).max()
        folder = root / "plain" / scene.id
        folder.mkdir(parents=True)
        soundfile.write(folder / "mixture.wav", (scale * mixture).T, scene.sample_rate)
        for s, image in enumerate(images):
            soundfile.write(folder / f"talker{s + 1}.wav", scale * image[0], scene.sample_rate)


def plain_room(scene: Scene, array: MicrophoneArray, order: int, speech: list[Array]) -> pra.ShoeBox:
    """A scene in pyroomacoustics, with msdet's absorption."""
    assert scene.room_m is not None and scene.t60_target_s is not None
    absorption = absorption_for_t60(scene.room_m, scene.t60_target_s)
    room = pra.ShoeBox(scene.room_m, fs=scene.sample_rate, materials=pra.Material(absorption), max_order=order)
    room.set_sound_speed(scene.speed_of_sound)
    for source, signal in zip(scene.sources, speech, strict=True):
        room.add_source(source.position_m, signal=signal)
    room.add_microphone_array(scene.microphones_m(array.positions).T)
    return room


def reflections(scene: Scene) -> int:
    """The order of reflection that pyroomacoustics advises for a T60 (`inverse_sabine`)."""
    return int(pra.inverse_sabine(scene.t60_target_s, scene.room_m, c=scene.speed_of_sound)[1])


def cut_speech(scene: Scene, talker: int, corpus: Path) -> Array:
    """What a talker says in a scene ``(time,)``."""
    source = scene.sources[talker]
    start, frames = (round(s * scene.sample_rate) for s in (source.offset_s, source.duration_s))
    return soundfile.read(corpus / source.path, start=start, frames=frames)[0]


def data_wait_share(root: Path, steps: int) -> float:
    """Share of the default model's training steps that is spent waiting for one loading process."""
    import torch
    from torch.utils.data import DataLoader

    from msdet.data.dataset import DynamicMixingDataset
    from msdet.data.samplers import EpochSampler
    from msdet.models.config import ModelConfig
    from msdet.models.joint import JointModel
    from msdet.training.config import ObjectiveConfig, OptimizerConfig
    from msdet.training.module import JointModule
    from msdet.training.objective import Objective

    bank = RirBank.open(root / "bank")
    data = DynamicMixingDataset(
        bank, load_corpus("folder", root / "speech"), SPLIT, SceneDistribution(), SEED, epoch_size=None
    )
    settings = OptimizerConfig()
    model = JointModel(ModelConfig(), bank.array, bank.sample_rate)
    system = JointModule(model, Objective(ObjectiveConfig()), settings)
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    batches = iter(
        DataLoader(
            data,
            batch_size=settings.batch,
            sampler=EpochSampler((steps + 2) * settings.batch),
            num_workers=1,
            multiprocessing_context="forkserver",
        )
    )
    next(batches), next(batches)  # the process starts
    waiting = 0.0
    start = time.perf_counter()
    for _ in range(steps):
        batch, seconds = timed(lambda: next(batches))
        waiting += seconds
        optimizer.zero_grad()
        system.terms(batch)[0].total.backward()
        optimizer.step()
    return waiting / (time.perf_counter() - start)


def mixing_rate(root: Path, mixtures: int, cores: int) -> float:
    """Mixtures per second from an RIR bank, one loading process a core, once these have started."""
    from torch.utils.data import DataLoader  # not above: workers of the other parts import this module

    from msdet.data.dataset import DynamicMixingDataset
    from msdet.data.samplers import EpochSampler

    bank = make_bank(root / "bank", SceneDistribution(), BANK_ROOMS, BANK_POSITIONS, seed=1, jobs=cores)
    assert bank is not None
    data = DynamicMixingDataset(
        bank, load_corpus("folder", root / "speech"), SPLIT, SceneDistribution(), SEED, epoch_size=None
    )
    loader = iter(
        DataLoader(
            data,
            batch_size=4,
            sampler=EpochSampler(mixtures + 40),
            num_workers=cores,
            multiprocessing_context="forkserver",
        )
    )
    for _ in range(10):
        next(loader)
    return mixtures / timed(lambda: sum(1 for _ in loader))[1]


def compare_responses(scene: Scene) -> tuple[float, float]:
    """Energy of the difference to pyroomacoustics' responses up to the T60, and after our last tap, in dB.

    Both go through the same low cut; pyroomacoustics' own is switched off, and its delay removed.
    """
    assert scene.room_m is not None and scene.t60_target_s is not None
    array = load_array(scene.array)
    enabled = pra.constants.get("rir_hpf_enable")
    pra.constants.set("rir_hpf_enable", False)
    room = plain_room(scene, array, reflections(scene), [np.zeros(1)] * len(scene.sources))
    room.compute_rir()
    pra.constants.set("rir_hpf_enable", enabled)
    microphones_m = scene.microphones_m(array.positions)
    sources_m = np.array([s.position_m for s in scene.sources])
    ours = room_response(scene.room_m, scene.t60_target_s, microphones_m, sources_m, scene.sample_rate).rirs
    delay = pra.constants.get("frac_delay_length") // 2
    end = round(scene.t60_target_s * scene.sample_rate)
    difference = discarded = total = 0.0
    for m, row in enumerate(room.rir):
        for s, response in enumerate(row):
            plain = highpass(response[delay:], scene.sample_rate).astype(np.float64)
            total += np.sum(plain**2)
            difference += np.sum((plain[:end] - ours[s, m, :end]) ** 2)
            discarded += np.sum(plain[ours.shape[-1] :] ** 2)
    return tuple(10 * math.log10(max(e / total, 1e-12)) for e in (difference, discarded))


def worker_memory_mb(root: Path, scenes: tuple[Scene, ...]) -> float:
    """Peak resident memory of a worker that renders scenes of T60 0.6 s."""
    with worker_pool(1) as pool:
        return pool.submit(_render_longest, scenes, root / "speech").result()


def _render_longest(scenes: tuple[Scene, ...], speech: Path) -> float:
    for scene in scenes:
        longest = dataclasses.replace(scene, t60_target_s=0.6)
        render(longest, load_array(scene.array), Sounds(speech, scene.sample_rate))
    # not getrusage: its peak is the larger one of this process and of the one it was started from
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(run(simulation))
