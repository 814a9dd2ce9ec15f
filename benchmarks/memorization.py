"""Can every encoder with every sharing scheme learn one small batch by heart?

Two scenes of made-up talkers in a dry room, tiny sizes, a bounded number of steps. What is left of the first
separation and DoA loss is shown, and whether each slot's most probable direction is its talker's. A scheme
that cannot work with an encoder is left out and named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _common import report, run, write_corpus
from torch.utils.data import DataLoader

from msdet.commands._progress import progress_bar
from msdet.conventions import azimuth_to_class
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.data.simulate import simulate
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS
from msdet.models.joint import JointModel
from msdet.models.sharing import SHARING_SCHEMES
from msdet.scenes.distribution import SceneDistribution
from msdet.training.config import ObjectiveConfig, OptimizerConfig
from msdet.training.module import JointModule
from msdet.training.objective import Objective

WIRINGS: dict[str, dict[str, Any]] = {
    "steered": {},
    "sibling": {"front_end": "real_imaginary", "doa_head": "pooled", "separation_head": "reference_mask"},
}
SCENES = SceneDistribution(
    duration_s=0.5,
    array="circular4_5cm",
    room_x_m=(4.3, 4.5),
    room_y_m=(3.8, 4.0),
    room_z_m=(2.6, 2.8),
    center_offset_m=(-0.1, 0.1),
    t60_s=(0.2, 0.25),
    distance_m=(0.8, 1.5),
    minimum_gap_deg=20.0,
)


def memorization(quick: bool = False, steps: int = 60, wiring: str = "steered") -> None:
    """Train each pair on one batch.

    Args:
        quick: two encoders and two schemes, few steps.
        steps: of training.
        wiring: steered (the default) or sibling (real and imaginary parts, pooled DoA, reference mask).
    """
    if wiring not in WIRINGS:
        raise MsdetError(f"wiring is '{wiring}', expected {' or '.join(WIRINGS)}")
    torch.set_num_threads(1)
    names = ENCODERS.names(), SHARING_SCHEMES.names()
    chosen = (("ft_gru", "conv_tasnet"), ("hard", "hierarchical")) if quick else names
    pairs = [(encoder, scheme) for encoder in chosen[0] for scheme in chosen[1]]
    rows, without = [], []
    with tempfile.TemporaryDirectory() as folder, progress_bar("memorization") as progress:
        write_corpus(Path(folder) / "speech", 12, 2, 2.0, SCENES.sample_rate)
        data = simulate(Path(folder) / "set", Path(folder) / "speech", "folder", "train", SCENES, 2, 0, 1)
        batch: Example = next(iter(DataLoader(RenderedDataset(data), batch_size=2)))
        for done, (encoder, scheme) in enumerate(pairs):
            try:
                system = tiny_system(encoder, scheme, wiring, data)
            except MsdetError as error:
                without.append(f"{encoder} with {scheme}: {error}")
            else:
                rows.append({"encoder": encoder, "sharing": scheme, **learn(system, batch, 8 if quick else steps)})
            progress(done + 1, len(pairs))
    for line in without:
        print(f"left out: {line}")
    worst = {f"worst_{loss}_left": max(row[f"{loss}_left"] for row in rows) for loss in ("separation", "doa")}
    right = sum(row["doa_right"] for row in rows)
    report(rows, wiring=wiring, pairs=len(rows), left_out=len(without), doa_right=right, **worst)


def tiny_system(encoder: str, scheme: str, wiring: str, data: SceneSet) -> JointModule:
    """A small model of a pair, ready to train."""
    torch.manual_seed(0)
    tiny = ENCODERS.fact(encoder, "tiny", {})
    config = ModelConfig(encoder=encoder, encoder_options=tiny, sharing=scheme, window_s=0.032, **WIRINGS[wiring])
    model = JointModel(config, data.array, data.sample_rate)
    return JointModule(model, Objective(ObjectiveConfig(), config), OptimizerConfig())


def learn(system: JointModule, batch: Example, steps: int) -> dict[str, Any]:
    """What is left of the first losses after some steps, and whether all directions are right."""
    optimizer = torch.optim.Adam(system.parameters(), lr=0.01)
    first: dict[str, float] = {}
    for _ in range(steps):
        optimizer.zero_grad()
        terms = system.terms(batch)[0]
        first = first or {name: loss.item() for name, loss in terms.losses.items()}
        terms.backward(system.model)
        torch.nn.utils.clip_grad_norm_(system.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        terms, output, truth = system.terms(batch)
    wanted = azimuth_to_class(truth.in_slots(terms.assignment).azimuth_deg.numpy())
    left = {f"{name}_left": loss.item() / first[name] for name, loss in terms.losses.items()}
    return {**left, "doa_right": bool((output.doa_logits.argmax(-1).numpy() == wanted).all())}


if __name__ == "__main__":
    sys.exit(run(memorization))
