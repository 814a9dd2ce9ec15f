"""Registries: classes by their own names; modules that cannot be imported and wrong options are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from msdet.cli import main
from msdet.components import Registry, build
from msdet.errors import MsdetError
from msdet.models.encoders import ENCODERS


def test_classes_are_imported_by_their_own_names_and_cost_no_asteroid() -> None:
    code = """
import sys
from msdet.models import JointModel, JointOutput, ModelConfig, load_model
from msdet.models.encoders import FTGRU, ConvTasNet, SpatialNet, layers
from msdet.models.frontends import SteeredFrontEnd
from msdet.models.heads import SteeredBeamHead, SteeredDoaHead
from msdet.models.sharing import CrossStitchSharing
from msdet.losses import PITLoss, l1_spectral_loss, l1_waveform_loss, si_sdr_loss, snr_loss
assert SpatialNet.__module__ == "msdet.models.encoders.spatialnet"
assert "asteroid" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError, match="cannot import name 'SpatialNat'"):
        exec("from msdet.models.encoders import SpatialNat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class Encoder(:\n  pass\n", r"cannot import '\w+' \(.*\w+\.py, line 1\)"),
        ("x = 1\ny = missing\n", r"name 'missing' is not defined; .*\w+\.py, line 2\)"),
        ("import nowhere_at_all\n", r"cannot import '\w+' \(No module named 'nowhere_at_all'\)"),
        ("Encoder = 3\n", "is a int, expected a class or a function"),
    ],
)
def test_module_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    name = f"own_{abs(hash(content))}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MsdetError, match=f"encoder '{name}:Encoder'.*{message}") as error:
        ENCODERS.find(f"{name}:Encoder")
    assert "\n" not in str(error.value)


def test_module_is_no_encoder() -> None:
    with pytest.raises(MsdetError, match="encoder 'os:path': is a module, expected a class"):
        ENCODERS.find("os:path")


def test_long_failure_is_one_line() -> None:
    def fail(width: float) -> None:
        raise RuntimeError("first\n  second\n" + "x" * 1000)

    with pytest.raises(MsdetError, match=r"thing cannot be built with width=2 \(first second x+ \.\.\.\)"):
        build(fail, {"width": 2}, "thing")


def test_options_are_tried_once_and_only_if_there_are_some() -> None:
    tried: list[float] = []

    def scaled(value: float, by: float = 1.0) -> float:
        tried.append(value)
        return value / by

    scales = Registry("scale", __name__)
    scales.register("scaled")(scaled)
    unchanged = scales.with_options("scaled", {}, [6.0])
    assert tried == [] and unchanged(5.0) == 5.0
    halved = scales.with_options("scaled", {"by": 2}, [6.0])
    assert tried == [5.0, 6.0] and halved(7.0) == 3.5
    with pytest.raises(MsdetError, match=r"scale 'scaled' fails with by=0 \(.*division"):
        scales.with_options("scaled", {"by": 0}, [6.0])
    with pytest.raises(MsdetError, match="scale 'scaled': option 'by' is True, expected a number"):
        scales.with_options("scaled", {"by": True}, [6.0])


def test_negative_weights_reach_the_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["average", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]
    assert main([*argv, "--weights", "1", "-1"]) == 2
    assert capsys.readouterr().err == "error: weights are [1.0, -1.0], expected 0 or more, not all of them 0\n"
