"""How fast is training? Steps by model, precision and device, beside others' in one run; and the data for them.

A row is a process of its own that takes whole training steps (objective, gradients, clipping, Adam), the processes
taking turns: ``default`` and its form with GRUs, which was the default before, encoders as published, asteroid's
networks and, from a checkout of its authors' code, SpatialNet. Then batches are mixed on the device and compared with
scenes that are mixed one by one, and a device that is so many items fast is simulated by a step that sleeps, to see
how long it waits for data.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from _common import report, run, write_corpus
from torch.utils.data import DataLoader, default_collate

from msdet.commands._progress import progress_bar, usable_cores
from msdet.corpora import load_corpus
from msdet.data.dataset import DynamicMixingDataset
from msdet.data.device_mixing import collate_dry, mix_batch
from msdet.data.example import Example
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import make_bank

PUBLISHED = {
    "window_s": 0.032, "front_end": "stft", "doa_head": "pooled", "separation_head": "complex_mapping",
}  # fmt: skip
SEPARATED = {"objective": {"assignment": "pit", "separation_loss": "si_sdr", "doa_weight": 0.1}}
ROOMS, POSITIONS, BANK_SEED = 40, 5, 1
STEPS_FILE = Path(__file__).with_name("_training_steps.py")


def training(
    quick: bool = False,
    device: str = "cpu",
    threads: int = 1,
    batch: int = 4,
    seconds: float = 4.0,
    rounds: int = 5,
    before: Path | None = None,
    nbss: Path | None = None,
    items_per_s: float = 500.0,
    workers: int | None = None,
) -> None:
    """Measure training steps and the data for them.

    Args:
        quick: the default and its form with GRUs alone, three rounds.
        device: cpu or cuda.
        threads: of each process on a CPU.
        batch: mixtures of a step.
        seconds: length of a mixture.
        rounds: steps of each row that count; the median does.
        before: checkout of an earlier msdet, whose default is a row as well.
        nbss: checkout of the code of SpatialNet's authors.
        items_per_s: of the device that is simulated.
        workers: processes that prepare its batches; the usable cores if not given.
    """
    if device not in ("cpu", "cuda"):
        raise MsdetError(f"device is '{device}', expected cpu or cuda")
    for folder, inside in ((before, "msdet"), (nbss, "models")):
        if folder and not (folder / inside).is_dir():
            raise MsdetError(f"{folder}: holds no {inside}, expected a checkout that does")
    common = {"threads": threads, "batch": batch, "seconds": seconds, "device": device, "precision": "32-true"}
    asked = {name: common | row for name, row in rows_of(quick, device, before, nbss).items()}
    with progress_bar("training") as progress:
        rows = measured(asked, 3 if quick else rounds, progress)
        with tempfile.TemporaryDirectory() as folder:
            data = data_figures(Path(folder), device, items_per_s, workers or usable_cores(), 2 if quick else 10)
    ours, base = (rows[name]["items_per_s"] for name in ("default", "before" if before else "default, GRU"))
    figures = {"default_items_per_s": ours, "default_items_per_s_ratio_before": ours / base} | data
    report(list(rows.values()), device=device, threads=threads, batch=batch, seconds=seconds, **figures)


def rows_of(quick: bool, device: str, before: Path | None, nbss: Path | None) -> dict[str, dict[str, Any]]:
    """What each row trains."""
    default: dict[str, Any] = {"kind": "msdet", "model": {}, "objective": {"assignment": "azimuth"}}
    rows = {"default": default, "default, GRU": default | {"model": {"encoder": "ft_gru"}}}
    if before:
        rows["before"] = default | {"checkout": str(before)}
    if not quick:
        filters = {"separation_head": "recording_filter", "separation_options": {"refiner": "band_mingru"}}
        rows["recording_filter"] = default | {"model": filters}
        for name in ("spatialnet", "tfgridnet"):
            model = PUBLISHED | {"encoder": name, "encoder_options": {"size": "small"}}
            rows[f"{name}, small"] = {"kind": "msdet", "model": model} | SEPARATED
        for name in ("ConvTasNet", "FasNetTAC"):
            rows[f"asteroid {name}"] = {"kind": "asteroid", "model": name}
    if nbss:
        rows["NBSS SpatialNet, small"] = {"kind": "nbss", "folder": str(nbss)}
    if device == "cuda":
        rows |= {f"{name}, bf16": row | {"precision": "bf16-mixed"} for name, row in list(rows.items())}
    return rows


def measured(asked: dict[str, dict[str, Any]], rounds: int, progress: Any) -> dict[str, dict[str, Any]]:
    """Median items a second and peak memory of each row, whose processes take turns."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(STEPS_FILE), json.dumps(row)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, row in asked.items()
    }
    try:
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
        for turn in range(rounds + 1):
            for name, process in processes.items():
                taken[name].append(_step(name, process))
            progress(turn + 1, rounds + 1)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {
        name: {
            "model": name,
            "items_per_s": asked[name]["batch"] / statistics.median(step["seconds"] for step in steps[1:]),
            "peak_mb": steps[-1]["peak_mb"],
        }
        for name, steps in taken.items()
    }


def _step(name: str, process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin and process.stdout
    try:
        process.stdin.write("\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    line = process.stdout.readline()
    if not line:
        raise MsdetError(f"{name}: its process ended; what it says stands above")
    return cast(dict[str, float], json.loads(line))


def data_figures(root: Path, device: str, items_per_s: float, workers: int, rounds: int) -> dict[str, float]:
    """How fast and how exactly mixtures are made, and how long a device of so many items a second waits for them."""
    d = SceneDistribution()
    write_corpus(root / "speech", 20, 3, 6.0, d.sample_rate)
    bank = make_bank(root / "bank", d, ROOMS, POSITIONS, BANK_SEED, usable_cores())
    assert bank
    noisy = dataclasses.replace(d, diffuse="spherical", point_noises=1, gain_error_db=1.0, phase_error_deg=3.0)
    corpus = load_corpus("folder", root / "speech")

    def mixing(distribution: SceneDistribution, dry: bool) -> DynamicMixingDataset:
        return DynamicMixingDataset(bank, corpus, "train", distribution, 0, None, None, None, dry)

    errors = []
    for distribution in (d, noisy):
        alone = default_collate([mixing(distribution, False)[n] for n in range(8)])
        together = mix_batch(_moved(collate_dry([mixing(distribution, True)[n] for n in range(8)]), device))
        errors += [float((alone[n] - together[n].cpu()).abs().max()) for n in ("mixture", "references")]  # type: ignore[literal-required]
    rates = {}
    for name, dry in (("worker_items_per_s_mixed", False), ("worker_items_per_s_dry", True)):
        dataset = mixing(d, dry)
        items = 20 * rounds
        _ = [dataset[n] for n in range(40)]  # the speech is read
        start = time.perf_counter()
        _ = [dataset[n] for n in range(40, 40 + items)]
        rates[name] = items / (time.perf_counter() - start)
    waiting = waiting_share(mixing(d, True), items_per_s, workers, rounds)
    return {"device_mixing_error": max(errors), **rates, "workers": workers, "waiting_share": waiting}


def _moved(batch: Example, device: str) -> Example:
    parts = {name: part.to(device) for name, part in batch["dry"].items()}
    whole: dict[str, Any] = {name: part.to(device) for name, part in batch.items() if isinstance(part, torch.Tensor)}
    return cast(Example, whole | {"dry": parts})


def waiting_share(
    dataset: DynamicMixingDataset, items_per_s: float, workers: int, rounds: int, batch: int = 16
) -> float:
    """Share of its time that a device waits which learns from `items_per_s`, by a step that sleeps."""
    batches = round(rounds * items_per_s / 2 / batch)

    def numbers() -> Iterator[int]:
        yield from range((batches + 8 * workers) * batch)

    loader: DataLoader[Example] = DataLoader(
        dataset, batch, sampler=cast(Any, numbers()), num_workers=workers, collate_fn=collate_dry, prefetch_factor=4
    )
    source = iter(loader)
    for _ in range(4 * workers):  # every worker has read the speech
        next(source)
    waited, started = 0.0, time.perf_counter()
    for _ in range(batches):
        asked = time.perf_counter()
        next(source)
        waited += time.perf_counter() - asked
        time.sleep(batch / items_per_s)
    return waited / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(run(training))
