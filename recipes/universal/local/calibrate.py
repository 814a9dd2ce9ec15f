"""Calibrate a model's probabilities of talkers on sets of arrays, rooms and talkers that it did not learn from."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from msdet.cli import run_command
from msdet.conventions import Array
from msdet.data.dataset import RenderedDataset
from msdet.errors import MsdetError
from msdet.models.checkpoint import load_model, read_description, save_model
from msdet.models.encoders.direction_cnn import split_maps
from msdet.models.heads.map_peaks import MapPeaksHead
from msdet.models.joint import JointModel
from msdet.scoring.doa_metrics import azimuth_errors_deg

WITHIN_DEG = 10.0
LEAST = 0.02
"""Lower peaks are those of noise, too many to learn from."""


@torch.inference_mode()
def peaks_of(model: JointModel, data: RenderedDataset) -> tuple[Array, Array]:
    """Logits ``(peak,)`` of what a model finds in the scenes of a set, and whether a talker is there."""
    head = model.doa_head
    if not isinstance(head, MapPeaksHead):
        raise MsdetError(f"the model's DoA head is '{model.config.doa_head}', expected map_peaks")
    logits, right = [], []
    for number in range(len(data)):
        example = data[number]
        found = head.peaks(split_maps(model(example["mixture"][None], separate=False).features))
        taken = found.probability[0] >= LEAST
        probability, azimuth_deg = (x[0][taken].double().numpy() for x in (found.probability, found.azimuth_deg))
        true_deg = example["azimuth_deg"][example["active"]].double().numpy()
        near = azimuth_errors_deg(true_deg[:, None], azimuth_deg, model.array) <= WITHIN_DEG
        talkers, estimates = linear_sum_assignment(near * (1.0 + probability), maximize=True)
        hit = np.zeros(len(probability), dtype=bool)
        hit[estimates] = near[talkers, estimates]
        logits.append(np.log(probability) - np.log1p(-probability))
        right.append(hit)
    return np.concatenate(logits), np.concatenate(right)


def platt_scaling(logits: Array, right: Array) -> tuple[float, float]:
    """Scale and offset of logits ``(peak,)`` under which what is right is most likely (Platt, 1999)."""
    x, y = torch.from_numpy(logits), torch.from_numpy(right.astype(np.float64))
    found = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(found[0] * x + found[1], y)
        value.backward()
        return value

    optimizer.step(loss)
    scale, offset = found.detach().tolist()
    return round(scale, 4), round(offset, 4)


def calibrate(model: Path, data: list[Path], out: Path) -> None:
    """Write a model whose probabilities of talkers are calibrated on sets; its weights are the same.

    Args:
        model: checkpoint directory.
        data: rendered sets, each of any array.
        out: folder of the calibrated model.
    """
    logits, right = [], []
    for root in data:
        scenes = RenderedDataset(root)
        found = peaks_of(load_model(model, scenes.scene_set.array), scenes)
        logits.append(found[0])
        right.append(found[1])
    joined, hits = np.concatenate(logits), np.concatenate(right)
    if not hits.any() or hits.all():
        raise MsdetError(f"{len(hits)} peaks were found, {int(hits.sum())} of them right: nothing to calibrate with")
    trained, description = load_model(model), read_description(model)
    scale, offset = platt_scaling(joined, hits)
    before = trained.config.doa_options.get("calibration", (1.0, 0.0))
    calibration = [round(scale * before[0], 4), round(scale * before[1] + offset, 4)]
    trained.config = dataclasses.replace(
        trained.config, doa_options=trained.config.doa_options | {"calibration": calibration}
    )
    save_model(out, trained, description.get("notes", {}))
    print(f"{out}: calibration {calibration}, of {len(hits)} peaks, {int(hits.sum())} of them talkers", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(calibrate, None, "calibrate.py"))
