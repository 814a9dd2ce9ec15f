"""One small batch is learned by heart: by every encoder, by every sharing scheme; any separation head fits.

The bounds leave room: from two seeds the separation loss fell to 0.37-0.55 of its start and the DoA loss to
0.06 at most, and the talkers' own classes had probabilities of 0.49-1.00.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msdet.conventions import azimuth_to_class
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS
from msdet.models.heads import SEPARATION_HEADS
from msdet.models.joint import JointModel
from msdet.models.sharing import SHARING_SCHEMES
from msdet.training.config import ObjectiveConfig, OptimizerConfig
from msdet.training.module import JointModule
from msdet.training.objective import Objective

pytestmark = pytest.mark.slow

NAMES = [name for name in ENCODERS.names() if not ENCODERS.fact(name, "of_directions", False)]
SCHEMES = SHARING_SCHEMES.names()
HEADS = [n for n in SEPARATION_HEADS.names() if not getattr(SEPARATION_HEADS.find(n), "of_directions", False)]
DEFAULT: dict[str, Any] = {"encoder": "ft_gru", "encoder_options": {"hidden": 8, "blocks": 2, "group": 16}}
STEPS = 50
SAMPLES = 3000


@pytest.fixture(scope="module")
def batch(dev_set: SceneSet) -> Example:
    """The first 0.4 s of two scenes."""
    loaded: Example = next(iter(DataLoader(RenderedDataset(dev_set), batch_size=2)))
    loaded["mixture"] = loaded["mixture"][..., :SAMPLES]
    loaded["references"] = loaded["references"][..., :SAMPLES]
    return loaded


def system_of(dev_set: SceneSet, **settings: Any) -> JointModule:
    torch.manual_seed(0)
    config = ModelConfig(window_s=0.032, **settings)
    objective = Objective(ObjectiveConfig(), config)
    return JointModule(JointModel(config, dev_set.array, 8000), objective, OptimizerConfig())


def places(system: JointModule, batch: Example) -> tuple[Tensor, Tensor]:
    """Azimuth classes ``(batch, slot)`` that are most probable, and the talkers' own."""
    terms, output, truth = system.terms(batch)
    azimuth_deg = truth.in_slots(terms.assignment).azimuth_deg
    wanted = torch.from_numpy(azimuth_to_class(azimuth_deg.numpy()))
    return output.doa_logits.argmax(-1), wanted


def memorize(system: JointModule, batch: Example) -> None:
    found, wanted = places(system, batch)
    assert (found != wanted).any(), "nothing is left to learn"
    optimizer = torch.optim.Adam(system.parameters(), lr=0.01)
    first: dict[str, float] = {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        terms = system.terms(batch)[0]
        first = first or {name: loss.item() for name, loss in terms.losses.items()}
        terms.backward(system.model)
        torch.nn.utils.clip_grad_norm_(system.parameters(), 5.0)
        optimizer.step()
    last = {name: loss.item() for name, loss in system.terms(batch)[0].losses.items()}
    assert last["separation"] < 0.7 * first["separation"]
    assert last["doa"] < 0.2 * first["doa"]
    found, wanted = places(system, batch)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "hard"])
def test_every_scheme_memorizes_a_batch(scheme: str, dev_set: SceneSet, batch: Example) -> None:
    memorize(system_of(dev_set, sharing=scheme, **DEFAULT), batch)


@pytest.mark.parametrize("encoder", NAMES)
def test_every_encoder_memorizes_a_batch(encoder: str, dev_set: SceneSet, batch: Example) -> None:
    """With one encoder for both."""
    tiny = ENCODERS.fact(encoder, "tiny", {})
    memorize(system_of(dev_set, encoder=encoder, encoder_options=tiny), batch)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", HEADS)
def test_every_scheme_serves_every_separation_head(scheme: str, head: str, dev_set: SceneSet, batch: Example) -> None:
    """Both losses train all of a model that has left its start; scenes of a batch do not touch."""
    system = system_of(dev_set, sharing=scheme, separation_head=head, doa_head="pooled", **DEFAULT)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.02)
    terms, output, _ = system.terms(batch)
    assert output.waveforms.shape == (2, 2, SAMPLES)
    terms.backward(system.model)
    for name, parameter in system.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    system.eval()  # while training, batch norms see all scenes
    with torch.no_grad():
        together = system.model(batch["mixture"]).waveforms[1]
        alone = system.model(batch["mixture"][1:]).waveforms[0]
    assert (alone - together).norm() <= 1e-3 * alone.norm()
