"""Calibrate a model's probabilities of talkers on sets of arrays, rooms and talkers that it did not learn from."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import logit
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

MOST = 12.0
"""Bound of logits: beyond, float32 says 1."""


class Found(NamedTuple):
    """Peaks ``(peak,)``: logits of a talker and of a second one, and whether there are."""

    one: Array
    is_one: Array
    two: Array
    is_two: Array


@torch.inference_mode()
def peaks_of(model: JointModel, data: RenderedDataset) -> Found:
    """What a model finds in the scenes of a set."""
    head = model.doa_head
    if not isinstance(head, MapPeaksHead):
        raise MsdetError(f"the model's DoA head is '{model.config.doa_head}', expected map_peaks")
    rows = []
    for number in range(len(data)):
        example = data[number]
        maps = split_maps(model(example["mixture"][None], separate=False).features)
        peaks = head.peaks(maps)
        taken = peaks.probability[0] >= LEAST
        columns = peaks.probability, peaks.azimuth_deg, head.pairs(maps, peaks)[1]
        probability, azimuth_deg, second = (column[0][taken].double().numpy() for column in columns)
        true_deg = example["azimuth_deg"][example["active"]].double().numpy()
        near = azimuth_errors_deg(true_deg[:, None], azimuth_deg, model.array) <= WITHIN_DEG
        talkers, estimates = linear_sum_assignment(near * (1.0 + probability), maximize=True)
        hit = np.zeros(len(probability), dtype=bool)
        hit[estimates] = near[talkers, estimates]
        rows.append((logit(probability), hit, logit(second), near.sum(axis=0) > 1))
    return Found(*map(np.concatenate, zip(*rows, strict=True)))


def platt_scaling(logits: Array, right: Array) -> tuple[float, float]:
    """Scale and offset of logits ``(peak,)`` under which what is right is most likely (Platt, 1999).

    As they are where they say nothing of what is right.
    """
    x = torch.from_numpy(logits.clip(-MOST, MOST))
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    y = torch.from_numpy(targets)
    found = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(found[0] * x + found[1], y)
        value.backward()
        return value

    optimizer.step(loss)
    scale, offset = found.detach().tolist()
    return (scale, offset) if math.isfinite(offset) and 0.01 < scale < 100.0 else (1.0, 0.0)


def calibrate(model: Path, data: list[Path], out: Path) -> None:
    """Write a model whose probabilities of talkers are calibrated on sets; its weights are the same.

    Args:
        model: checkpoint directory.
        data: rendered sets, each of any array.
        out: folder of the calibrated model.
    """
    found = []
    for root in data:
        scenes = RenderedDataset(root)
        found.append(peaks_of(load_model(model, scenes.scene_set.array), scenes))
    peaks = Found(*map(np.concatenate, zip(*found, strict=True)))
    if not peaks.is_one.any() or peaks.is_one.all():
        number = f"{len(peaks.one)} peaks were found, {int(peaks.is_one.sum())} of them right"
        raise MsdetError(f"{number}: nothing to calibrate with")
    trained, description = load_model(model), read_description(model)
    options = trained.config.doa_options
    before = options.get("calibration", (1.0, 0.0, 1.0, 0.0))
    pairs = peaks.is_two[peaks.is_one]
    fitted = [*platt_scaling(peaks.one, peaks.is_one)]
    fitted += platt_scaling(peaks.two[peaks.is_one], pairs) if pairs.any() and not pairs.all() else (1.0, 0.0)
    calibration = []
    for k in (0, 2):
        scale, offset = fitted[k : k + 2]
        calibration += [round(scale * before[k], 4), round(scale * before[k + 1] + offset, 4)]
    trained.config = dataclasses.replace(trained.config, doa_options=options | {"calibration": calibration})
    save_model(out, trained, description.get("notes", {}))
    counts = f"{len(peaks.one)} peaks, {len(pairs)} of talkers, {int(pairs.sum())} of two"
    print(f"{out}: calibration {calibration}, of {counts}", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(calibrate, None, "calibrate.py"))
