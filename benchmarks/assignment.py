"""What does assigning references to slots cost, by location and by permutation, for two to eight talkers?

Timed is the whole objective on random estimates, forwards and backwards: location-based training asks for N
losses, permutation invariant training for N² to choose among and N more. Memory is what the backward pass
needs, the tensors that are kept for it. The share of a step is the assignment by azimuth alone against a
training step of the default model with two talkers. One core; all take turns, and the fastest turn counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from _common import K, report, run, take_turns
from torch import Tensor

from msdet.arrays import load_array
from msdet.commands._progress import progress_bar
from msdet.data.example import Example, TalkerPosition, make_example
from msdet.dsp.stft import SeparationPasses, Signals
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.tasks.labels import BatchLabels, batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective

RATE, BATCH, SECONDS = 8000, 4, 4.0
RULES = ("azimuth", "pit", "pit_joint")
TALKERS = (2, 3, 4, 6, 8)


def assignment(quick: bool = False, rounds: int = 15) -> None:
    """Time the objective under each rule, for each number of talkers.

    Args:
        quick: mixtures of half a second, three rounds.
        rounds: how often each is timed; the fastest counts.
    """
    torch.set_num_threads(1)
    seconds, rounds = (0.5, 3) if quick else (SECONDS, rounds)
    rows: list[dict[str, Any]] = []
    with progress_bar("assignment") as progress:
        batches = {talkers: examples(talkers, seconds) for talkers in TALKERS}
        ways = {(rule, n): judging(rule, n, batch) for n, batch in batches.items() for rule in RULES}
        times = fastest_s(ways, rounds)
        progress(1, 2)
        share = share_of_step(batches[2], rounds)
        progress(2, 2)
    for (rule, talkers), way in ways.items():
        kept = kept_mb(way)
        rows.append({"rule": rule, "talkers": talkers, "ms": 1e3 * times[rule, talkers], "kept_mb": kept})
    growth = {f"{rule}_8_over_2": round(times[rule, 8] / times[rule, 2], 3) for rule in RULES}
    report(rows, batch=BATCH, seconds=seconds, **growth, azimuth_share_of_step=round(share, 5))


def examples(talkers: int, seconds: float) -> Example:
    """A batch of random mixtures and references."""
    rng = torch.Generator().manual_seed(talkers)
    samples = round(seconds * RATE)
    items = []
    for n in range(BATCH):
        references = torch.randn(talkers, samples, generator=rng)
        azimuths = 360 * torch.rand(talkers, generator=rng)
        places = [TalkerPosition(float(azimuth), 0.0, 1.5) for azimuth in azimuths]
        mixture = references.sum(0) + torch.randn(6, samples, generator=rng)
        items.append(make_example(mixture.numpy(), references.numpy(), places, talkers, RATE, 0.3, -1, n))
    batch: Example = torch.utils.data.default_collate(items)
    return batch


def default_model(talkers: int) -> JointModel:
    """The default model, untrained."""
    torch.manual_seed(0)
    return JointModel(ModelConfig(talkers=talkers), load_array("circular6_10cm"), RATE)


def labels(model: JointModel, batch: Example) -> BatchLabels:
    """What is known about a batch at the level of its mixtures."""
    level = batch["mixture"][:, :1].square().mean(-1, keepdim=True).sqrt()
    return batch_labels(batch, model.stft, model.array.reference, level)


def judging(rule: str, talkers: int, batch: Example) -> Callable[[], Tensor]:
    """The objective's cost of random estimates under a rule, and its gradient."""
    model = default_model(talkers)
    truth = labels(model, batch)
    objective = Objective(ObjectiveConfig(assignment=rule), model.config)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(truth.references.spectrum.shape, dtype=torch.complex64, generator=generator)
    estimates = (truth.references.spectrum + noise).requires_grad_()
    logits = torch.randn(BATCH, talkers, 72, generator=generator).requires_grad_()

    def judge() -> Tensor:
        passes = (Signals(estimates, truth.references.to_waveform),)
        total: Tensor = objective({"separation": SeparationPasses(passes), "doa": logits}, truth).total
        total.backward()
        return total

    return judge


def share_of_step(batch: Example, rounds: int) -> float:
    """Time of the assignment by azimuth relative to a training step."""
    model = default_model(2)
    objective = Objective(ObjectiveConfig(), model.config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    truth = labels(model, batch)
    with torch.no_grad():
        predictions = model(batch["mixture"]).predictions

    def step() -> None:
        optimizer.zero_grad()
        output = model(batch["mixture"])
        objective(output.predictions, batch_labels(batch, model.stft, 0, output.level)).total.backward()
        optimizer.step()

    times = fastest_s({"step": step, "assign": partial(objective.assign, predictions, truth)}, rounds)
    return times["assign"] / times["step"]


def fastest_s(ways: Mapping[K, Callable[[], object]], rounds: int) -> dict[K, float]:
    """Seconds of each way's fastest turn, the ways taking turns."""
    return {name: min(seconds) for name, seconds in take_turns(ways, rounds).items()}


def kept_mb(way: Callable[[], Any]) -> float:
    """Size in MB of the tensors that are kept for the backward pass, each counted once."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        way()
    return sum(sizes.values()) / 2**20


if __name__ == "__main__":
    sys.exit(run(assignment))
