"""A task of one's own, in a file outside the package, named in the settings by its import path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from msdet.arrays import MicrophoneArray
from msdet.data.example import Example
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.tasks.labels import batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective

NAME = "loudness:Task"

# docs: a task of your own, complete; save it as loudness.py where you run msdet
OWN_TASK = '''"""How loud each talker is, in decibels relative to the mixture."""

import torch
from torch import nn

from msdet.tasks.labels import LabeledLoss


class Head(nn.Module):
    """The mean of the features over frequency and time, and two linear layers."""

    def __init__(self, sizes, hidden=32):
        super().__init__()
        self.estimate = nn.Sequential(
            nn.Linear(sizes.features, hidden), nn.ReLU(), nn.Linear(hidden, sizes.talkers)
        )

    def forward(self, features, observation):
        return self.estimate(features.mean((1, 2)))  # (batch, freq, frame, feature) to (batch, slot)


class Task:
    Head = Head

    def loss(self, prediction, truth):
        level_db, known = levels(truth)
        return LabeledLoss((prediction.float() - level_db).abs(), known)

    def scores(self, prediction, truth):
        level_db, known = levels(truth)
        return {"loudness_error_db": (prediction - level_db).abs().masked_fill(~known, torch.nan)}


def levels(truth):
    """Level of each slot's talker, and whether it is known; the mixture has unit level."""
    power = truth.references.waveform.square().mean(-1)
    return 10.0 * power.clamp_min(1e-6).log10(), truth.active & truth.referenced[:, None]
'''


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the file, where msdet is run."""
    (tmp_path / "loudness.py").write_text(OWN_TASK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("loudness", None)


def test_own_task_is_trained_and_scored(
    own_file: Path, tetrahedron: MicrophoneArray, make_config: Callable[..., ModelConfig], batch: Example
) -> None:
    torch.manual_seed(0)
    config = make_config(tasks={"t60": {}, NAME: {"hidden": 8}})
    model = JointModel(config, tetrahedron, 8000)
    objective = Objective(ObjectiveConfig(task_weights={NAME: 1.0}), config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        output = model(batch["mixture"])
        truth = batch_labels(batch, model.stft, model.array.reference, output.level)
        terms = objective(output.predictions, truth)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(float(terms.losses[NAME].detach()))
    assert losses[-1] < 0.9 * losses[0]
    error = objective.tasks[NAME].scores(output.predictions[NAME], truth)["loudness_error_db"]
    assert error.isnan().tolist() == [[False, False], [False, True]]
    # by hand: the talkers' levels relative to the mixture's
    rms = batch["mixture"][:, :1].square().mean(-1).sqrt()
    level_db = 20.0 * (batch["references"].square().mean(-1).sqrt() / rms).log10()
    expected = (output.predictions[NAME] - level_db).abs()
    torch.testing.assert_close(error[0], expected[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loudness:Tsk", "task 'loudness:Tsk': module 'loudness' has no 'Tsk'"),
        ("loudnes:Task", "task 'loudnes:Task': cannot import 'loudnes'"),
        (":Task", "task ':Task': expected module:Name"),
    ],
)
def test_own_task_that_is_not_there(
    own_file: Path, tetrahedron: MicrophoneArray, make_config: Callable[..., ModelConfig], name: str, message: str
) -> None:
    with pytest.raises(MsdetError) as caught:
        JointModel(make_config(name), tetrahedron, 8000)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_option_that_the_own_head_does_not_take(
    own_file: Path, tetrahedron: MicrophoneArray, make_config: Callable[..., ModelConfig]
) -> None:
    with pytest.raises(MsdetError, match="has no option 'hiden'; did you mean 'hidden'"):
        JointModel(make_config(tasks={NAME: {"hiden": 4}}), tetrahedron, 8000)
