"""Separation models of asteroid as baselines: their checkpoints, and that nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from msdet.arrays import MicrophoneArray, load_array
from msdet.errors import MsdetError
from msdet.methods import build_method
from msdet.methods.base import Oracle, Separator

RATE = 8000
CIRCLE = load_array("circular6_10cm")

Signals = npt.NDArray[Any]


def white(talkers: int, seconds: float = 1.0) -> Signals:
    return np.random.default_rng(3).standard_normal((talkers, round(seconds * RATE)))


def ordinary(method: str, talkers: int, array: MicrophoneArray = CIRCLE) -> Separator:
    separator = build_method(method, array, RATE, talkers)
    assert not isinstance(separator, Oracle)
    return separator


@pytest.fixture(scope="module")
def tiny_network() -> Any:
    """A FasNetTAC small enough for a test, untrained."""
    from asteroid.models import FasNetTAC

    torch.manual_seed(0)
    sizes = {"enc_dim": 8, "feature_dim": 8, "hidden_dim": 8, "n_layers": 1, "tac_hidden_dim": 8}
    return FasNetTAC(2, sample_rate=RATE, chunk_size=10, hop_size=5, **sizes).eval()


def test_asteroid_models_are_read_from_their_own_checkpoints(tiny_network: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "fasnet.pth"
    torch.save(tiny_network.serialize(), checkpoint)
    array = MicrophoneArray("turned", CIRCLE.positions_m, reference=2)
    mixture = white(6, 0.5).astype(np.float32)
    voices = ordinary(f"asteroid,checkpoint={checkpoint}", 2, array)(mixture).estimates
    with torch.inference_mode():
        expected = tiny_network(torch.from_numpy(mixture[[2, 0, 1, 3, 4, 5]])[None])[0].numpy()
    np.testing.assert_allclose(voices, expected, atol=1e-6)
    with pytest.raises(MsdetError, match="number of talkers is 2, the recordings have 3"):
        build_method(f"asteroid,checkpoint={checkpoint}", CIRCLE, RATE, 3)
    with pytest.raises(MsdetError, match="sample rate is 8000, the recordings have 16000"):
        build_method(f"asteroid,checkpoint={checkpoint}", CIRCLE, 16000, 2)


def test_a_single_channel_asteroid_model_gets_the_reference(tmp_path: Path) -> None:
    from asteroid.models import ConvTasNet

    network = ConvTasNet(2, sample_rate=RATE, n_filters=16, bn_chan=8, hid_chan=8, n_blocks=1, n_repeats=1)
    torch.save(network.serialize(), tmp_path / "tasnet.pth")
    mixture = white(6, 0.5).astype(np.float32)
    voices = ordinary(f"asteroid,checkpoint={tmp_path / 'tasnet.pth'}", 2)(mixture).estimates
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(mixture[:1])[None])[0].numpy()
    np.testing.assert_allclose(voices, expected, atol=1e-6)


def test_a_state_dictionary_needs_the_name_of_its_class(tiny_network: Any, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(tiny_network.state_dict(), weights)
    for options, message in (
        ("", "is a state dictionary, name its class"),
        (",model=FasNetTAK", "unknown asteroid model 'FasNetTAK'; did you mean 'FasNetTAC'?"),
        (",model=FasNetTAC", "does not fit FasNetTAC"),
    ):
        with pytest.raises(MsdetError) as refused:
            build_method(f"asteroid,checkpoint={weights}{options}", CIRCLE, RATE, 2)
        assert message in str(refused.value) and "\n" not in str(refused.value)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["harmful", "text", "list"])
def test_a_checkpoint_is_never_unpickled(content: str, tmp_path: Path) -> None:
    path, touched = tmp_path / "model.pth", tmp_path / "touched"
    if content == "text":
        path.write_text("no checkpoint")
    else:
        torch.save({"state_dict": Harmful(touched)} if content == "harmful" else [1], path)
    with pytest.raises(MsdetError, match=r"not a checkpoint of tensors and plain values|holds a list"):
        build_method(f"asteroid,checkpoint={path}", CIRCLE, RATE, 2)
    assert not touched.exists()
