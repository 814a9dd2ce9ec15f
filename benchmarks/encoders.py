"""What do the encoders cost? Parameters, operations, speed and memory, beside asteroid's models in one run.

Every encoder stands between the same front end (real and imaginary parts) and the same heads (a mask on the
reference microphone, DoA on pooled features); ``default`` is the steered default model as `msdet train`
builds it. asteroid's ConvTasNet and DPRNNTasNet hear the reference microphone, FasNetTAC all six. Times are
of random six-channel mixtures on one core (or a GPU), the models taking turns; memory is the peak of a
process of its own that takes one training step, beyond what it took before. On a GPU there are rows for
float32, bfloat16 and compiled.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import report, run, take_turns
from torch import Tensor, nn

from msdet.arrays import load_array
from msdet.commands._progress import progress_bar
from msdet.models.config import ModelConfig
from msdet.models.cost import count_cost
from msdet.models.encoders import ENCODERS, build_encoder
from msdet.models.joint import JointModel

RATE, ARRAY, TALKERS = 8000, "circular6_10cm", 2
ASTEROID = ("ConvTasNet", "DPRNNTasNet", "FasNetTAC")
SIBLING = {"front_end": "real_imaginary", "doa_head": "pooled", "separation_head": "reference_mask"}
PUBLISHED_FREQS = 129
SIZES = ("spatialnet", "tfgridnet")
"""Encoders of which the ``large`` size is shown as well."""


Way = Callable[[Tensor], list[Tensor]]
"""A mixture ``(batch, mic, time)`` to tensors that training would compare."""


class Voices(nn.Module):
    """A model as a function of a mixture ``(batch, mic, time)`` to tensors that training would compare."""

    def __init__(self, model: nn.Module, single: bool = False) -> None:
        super().__init__()
        self.model = model
        self.single = single

    def forward(self, mixture: Tensor) -> list[Tensor]:
        """Waveforms, and DoA logits where there are."""
        found = self.model(mixture[:, 0] if self.single else mixture)
        return [found] if isinstance(found, Tensor) else [found.waveforms, found.doa_logits]


def encoders(
    quick: bool = False,
    models: list[str] | None = None,
    device: str = "cpu",
    seconds: float = 4.0,
    batch: int = 2,
    rounds: int = 3,
) -> None:
    """Measure all encoders, or some of them.

    Args:
        quick: mixtures of half a second, one round, the large sizes left out.
        models: rows to show; all if not given.
        device: cpu (one core) or cuda.
        seconds: length of a mixture.
        batch: mixtures of a training step.
        rounds: how often each is timed; the median counts.
    """
    torch.set_num_threads(1)
    seconds, rounds = (0.5, 1) if quick else (seconds, rounds)
    names = [n for n in all_models(quick) if models is None or n in models]
    shapes = [(n, load_array(ARRAY).microphones, round(seconds * RATE)) for n in (1, batch)]
    one, several = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes)
    ways: dict[str, Way] = {}
    rows: dict[str, dict[str, Any]] = {}
    with progress_bar("encoders") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asteroid and its own dependencies
        for done, name in enumerate(names):
            model = build(name)
            cost = count_cost(model, one, seconds)
            memory_mb = 0.0 if device == "cuda" else peak_mb(name, shapes[1])
            for kind, way in variants(model, device).items():
                ways[f"{name}{kind}"] = way
                rows[f"{name}{kind}"] = {
                    "model": f"{name}{kind}",
                    "parameters": cost.parameters,
                    "gmac_per_s": cost.macs_per_s / 1e9,
                    "peak_mb": memory_mb,
                }
            progress(done + 1, 2 * len(names))
        hears = median_s({n: partial(infer, w, one.to(device)) for n, w in ways.items()}, rounds)
        learns = median_s({n: partial(learn, w, several.to(device)) for n, w in ways.items()}, rounds)
        progress(2 * len(names), 2 * len(names))
    for name, row in rows.items():
        row |= {"rtf": hears[name] / seconds, "train_utts_per_s": batch / learns[name]}
        if device == "cuda":
            row["peak_mb"] = peak_gpu_mb(partial(learn, ways[name], several.to(device)))
    report(list(rows.values()), device=device, seconds=seconds, batch=batch, **figures(rows))


def all_models(quick: bool) -> list[str]:
    """Names of the rows."""
    large = [] if quick else [f"{name}_large" for name in SIZES]
    return ["default", *ENCODERS.names(), *large, *ASTEROID]


def build(name: str) -> Voices:
    """A row's model, untrained."""
    torch.manual_seed(0)
    if name in ASTEROID:
        import asteroid.models

        network = getattr(asteroid.models, name)(n_src=TALKERS, sample_rate=RATE)
        return Voices(network, single=name != "FasNetTAC")
    if name == "default":
        return Voices(JointModel(ModelConfig(), load_array(ARRAY), RATE))
    options = {"size": "large"} if name.endswith("_large") else {}
    config = ModelConfig(encoder=name.removesuffix("_large"), encoder_options=options, **SIBLING)
    return Voices(JointModel(config, load_array(ARRAY), RATE))


def variants(model: Voices, device: str) -> dict[str, Way]:
    """The model as it is; on a GPU also in bfloat16, and compiled."""
    model = model.to(device)
    if device != "cuda":
        return {"": model}
    half = torch.autocast("cuda", torch.bfloat16)(model)
    return {"": model, ":bf16": half, ":compiled": torch.compile(model)}


def infer(model: Way, mixture: Tensor) -> None:
    """Separate a mixture."""
    with torch.inference_mode():
        model(mixture)


def learn(model: Way, mixtures: Tensor) -> None:
    """One training step without the optimizer's, of any loss."""
    torch.stack([part.float().square().mean() for part in model(mixtures)]).sum().backward()


def median_s(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, the ways taking turns."""

    def finished(way: Callable[[], None]) -> None:
        way()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    times = take_turns({name: partial(finished, way) for name, way in ways.items()}, rounds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def peak_mb(name: str, shape: tuple[int, ...]) -> float:
    """Peak memory of a training step in MB, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_mb, (name, shape))


def _peak_mb(name: str, shape: tuple[int, ...]) -> float:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model, mixtures = build(name), torch.randn(shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident_kb("VmRSS")
    learn(model, mixtures)
    return (resident_kb("VmHWM") - before) / 1024


def resident_kb(field: str) -> int:
    """Resident memory of this process, now (``VmRSS``) or at its peak (``VmHWM``); Linux alone tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def peak_gpu_mb(way: Callable[[], None]) -> float:
    """Peak of allocated GPU memory in MB."""
    torch.cuda.reset_peak_memory_stats()
    way()
    return torch.cuda.max_memory_allocated() / 2**20


def figures(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The figures of the last line that the rows allow."""
    found = {f"train_utts_per_s_{name}": row["train_utts_per_s"] for name, row in rows.items()}
    for name, shown in (("default", "default"), ("spatialnet", "spatialnet_small")):
        if name in rows:
            found[f"rtf_{shown}"] = rows[name]["rtf"]
    for size in ("small", "large"):
        found[f"params_spatialnet_{size}"] = published_parameters(size)
    if {"default", "FasNetTAC"} <= rows.keys():
        found["speedup_default_over_fasnet_tac"] = rows["FasNetTAC"]["rtf"] / rows["default"]["rtf"]
    return {name: round(value, 4) for name, value in found.items()}


def published_parameters(size: str) -> int:
    """Parameters of SpatialNet as its paper counts them: 129 frequencies, spectra in, a linear layer out."""
    microphones = load_array(ARRAY).microphones
    encoder = build_encoder("spatialnet", {"size": size}, 2 * microphones, PUBLISHED_FREQS)
    out = nn.Linear(encoder.features_out, 2 * TALKERS)
    return sum(p.numel() for m in (encoder, out) for p in m.parameters())


if __name__ == "__main__":
    sys.exit(run(encoders))
