"""Training steps of one model, one at each line of standard input: ``benchmarks/training.py`` starts several at once.

It uses nothing of msdet that has not been there for long, so that it also runs in a checkout of before.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

RATE, ARRAY, TALKERS, MICROPHONES = 8000, "circular6_10cm", 2, 6
Step = Callable[[], float]


def main() -> None:
    """Serve steps: a line of JSON with seconds (of the core, if it is one) and loss for each line that comes in."""
    asked = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked["threads"])
    torch.manual_seed(0)
    makers = {"msdet": msdet_step, "asteroid": asteroid_step, "nbss": nbss_step}
    step = makers[asked["kind"]](asked)
    clock = time.process_time if (asked["device"], asked["threads"]) == ("cpu", 1) else time.perf_counter
    for _ in sys.stdin:
        start = clock()
        loss = step()
        if asked["device"] == "cuda":
            torch.cuda.synchronize()
        taken = {"seconds": clock() - start, "loss": loss, "peak_mb": peak_mb(asked["device"])}
        print(json.dumps(taken), flush=True)


def peak_mb(device: str) -> float:
    """Peak memory of this process, or of the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def mixtures(asked: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as mixtures ``(batch, mic, time)`` and references ``(batch, talker, time)``; steps take as long on it."""
    samples = round(asked["seconds"] * RATE)
    rng = torch.Generator().manual_seed(0)
    references = torch.randn(asked["batch"], TALKERS, samples, generator=rng)
    mixing = torch.randn(MICROPHONES, TALKERS, generator=rng)
    return (mixing @ references).to(asked["device"]), references.to(asked["device"])


def msdet_step(asked: dict[str, Any]) -> Step:
    """The whole step of `msdet train`: objective, gradients, clipping, Adam."""
    from msdet.arrays import load_array
    from msdet.data.example import TalkerPosition, make_example
    from msdet.models.config import ModelConfig
    from msdet.models.joint import JointModel
    from msdet.training.config import ObjectiveConfig, OptimizerConfig
    from msdet.training.module import JointModule
    from msdet.training.objective import Objective

    config = ModelConfig(**asked["model"])
    objective = Objective(ObjectiveConfig(**asked["objective"]), config)
    module = JointModule(JointModel(config, load_array(ARRAY), RATE), objective, OptimizerConfig()).to(asked["device"])
    places = [TalkerPosition(40.0, 0.0, 1.5), TalkerPosition(200.0, 0.0, 1.5)]
    mixed, references = (signals.cpu().numpy() for signals in mixtures(asked))
    examples = [
        make_example(np.ascontiguousarray(mixture), voices, places, TALKERS, RATE, 0.3, -1, number)
        for number, (mixture, voices) in enumerate(zip(mixed, references, strict=True))
    ]
    batch = module.on_before_batch_transfer(default_collate(examples), 0)
    batch = {name: part.to(asked["device"]) if hasattr(part, "to") else part for name, part in batch.items()}
    return plain_step(module, lambda: module.terms(batch)[0].total, asked)


def asteroid_step(asked: dict[str, Any]) -> Step:
    """Asteroid's own network and PIT loss, of one microphone, or of all for FasNetTAC."""
    import asteroid.models
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr

    network = getattr(asteroid.models, asked["model"])(n_src=TALKERS, sample_rate=RATE).to(asked["device"])
    loss, (mixed, references) = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx"), mixtures(asked)
    given = mixed if asked["model"] == "FasNetTAC" else mixed[:, 0]
    return plain_step(network, lambda: loss(network(given), references), asked)


def nbss_step(asked: dict[str, Any]) -> Step:
    """SpatialNet-small of a checkout of its authors' code, between STFTs, with the SNR of waveforms as a loss."""
    sys.path.insert(0, asked["folder"])
    from models.arch.SpatialNet import SpatialNet

    frequencies = 129
    network = SpatialNet(
        dim_input=2 * MICROPHONES, dim_output=2 * TALKERS, num_layers=8, dim_hidden=96, dim_ffn=192, dim_squeeze=8,
        num_freqs=frequencies, kernel_size=(5, 3), conv_groups=(8, 8), num_heads=4,
    ).to(asked["device"])  # fmt: skip
    mixed, references = mixtures(asked)
    window = torch.hann_window(256, device=mixed.device)

    def spectra(signals: torch.Tensor) -> torch.Tensor:
        flat = torch.stft(signals.flatten(0, 1), 256, 128, window=window, return_complex=True)
        return torch.view_as_real(flat.unflatten(0, signals.shape[:2])).permute(0, 2, 3, 1, 4).flatten(-2)

    def loss() -> torch.Tensor:
        estimated = network(spectra(mixed)).unflatten(-1, (TALKERS, 2)).permute(0, 3, 1, 2, 4)
        waveforms = torch.istft(
            torch.view_as_complex(estimated.float().contiguous()).flatten(0, 1), 256, 128, window=window,
            length=references.shape[-1],
        )  # fmt: skip
        error = (waveforms.view_as(references) - references).square().sum(-1)
        return (error / references.square().sum(-1)).log10().mean()

    return plain_step(network, loss, asked)


def plain_step(network: torch.nn.Module, loss: Callable[[], torch.Tensor], asked: dict[str, Any]) -> Step:
    """A step with Adam and clipping."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def step() -> float:
        with torch.autocast(asked["device"], torch.bfloat16, enabled=asked["precision"] == "bf16-mixed"):
            total = loss()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        return float(total.detach())

    return step


if __name__ == "__main__":
    if folder := json.loads(sys.argv[1]).get("checkout"):
        sys.path.insert(0, str(Path(folder).resolve()))
    main()
