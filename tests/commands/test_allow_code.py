"""A model with an encoder of another module: nothing is imported unless the user allows that by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import msdet
from msdet.cli import main
from msdet.commands import _options
from msdet.data.scene_set import SceneSet
from msdet.errors import CodeNotAllowedError, MsdetError
from msdet.io import audio
from msdet.models.checkpoint import load_model

MODULE = """
from pathlib import Path

Path("imported").touch()
from msdet.models.encoders.ft_gru import FTGRU as Encoder
"""
"""Leaves a file where it is imported."""

PACKAGE = "--model model --out voices.tar --license CC0 --data_notes notes.txt"

COMMANDS = {
    "separate": "separate x.wav --model model --out out",
    "separate by several": "separate x.wav --out out --array circular4_5cm --method ensemble,models=model:model",
    "localize": "localize x.wav --model model",
    "live": "live model --out out --file x.wav --fast",
    "evaluate": "evaluate --data {data} --model model --out out --methods unprocessed --metrics si_sdr --jobs 1",
    "export_model": "export-model --model model --out model.pt2 --format torch",
    "package": f"package {PACKAGE}",
    "average": "average model model --out out",
}


@pytest.fixture
def here(
    tmp_path: Path, write_causal_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Writes ``model`` into the current folder, with an encoder of a module there; then renames that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_layers.py").write_text(MODULE)
    audio.write(tmp_path / "x.wav", 0.1 * np.random.default_rng(0).standard_normal((4, 24000)), 8000)
    (tmp_path / "notes.txt").write_text("none\n")
    write_causal_model(tmp_path / "model", encoder="own_layers:Encoder")

    def named(encoder: str) -> Path:
        path = tmp_path / "model" / "model.json"
        description = json.loads(path.read_text())
        description["model"]["encoder"] = encoder
        path.write_text(json.dumps(description))
        forget()
        return tmp_path

    named("own_layers:Encoder")
    return named


def forget() -> None:
    """As in a new process, in which the module was never imported."""
    sys.modules.pop("own_layers", None)
    Path("imported").unlink(missing_ok=True)


def arguments(command: str, data: SceneSet) -> list[str]:
    return COMMANDS[command].format(data=data.root).split()


def test_every_command_that_loads_models_is_here() -> None:
    assert {name.split()[0] for name in COMMANDS} | {"info"} == set(_options.LOAD_MODELS)


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_imported_unless_allowed(
    command: str, here: Callable[[str], Path], dev_set: SceneSet, capsys: pytest.CaptureFixture[str]
) -> None:
    for others in ([], ["--allow-code", "own", "own_layers.inner", "layers"]):
        assert main([*arguments(command, dev_set), *others]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: model/model.json: encoder 'own_layers:Encoder' is code that is not msdet's")
        assert "--allow-code own_layers (" in told and told.count("\n") == 1
        assert not Path("imported").exists() and "own_layers" not in sys.modules


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"export_model"}))  # which takes half a minute
def test_an_allowed_module_works(command: str, here: Callable[[str], Path], dev_set: SceneSet) -> None:
    assert main([*arguments(command, dev_set), "--allow-code", "own_layers"]) in (0, 1)
    assert Path("imported").exists()


def test_modules_of_python_are_not_imported(
    here: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("this", "antigravity", "msdet.models.encoders.ft_gru"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        here(f"{module}:Encoder")
        assert main(["separate", "x.wav", "--model", "model", "--out", "out"]) == 2
        told = capsys.readouterr()
        assert f"--allow-code {module} (" in told.err and told.err.count("\n") == 1 and not told.out
        assert module not in sys.modules


def test_a_part_inside_the_options_of_another_is_refused(here: Callable[[str], Path]) -> None:
    path = here("ft_gru") / "model" / "model.json"
    description = json.loads(path.read_text())
    description["model"] |= {"separation_head": "steered_beam", "front_end": "steered", "front_end_options": {}}
    description["model"]["separation_options"] = {"passes": 2, "refiner": "own_layers:Encoder"}
    path.write_text(json.dumps(description))
    with pytest.raises(CodeNotAllowedError, match=r"'own_layers:Encoder'.*--allow-code own_layers"):
        load_model("model")
    assert not Path("imported").exists()


@pytest.mark.parametrize("name", ["a b:Encoder", "..own_layers:Encoder", "own\nlayers:Encoder", "own_layers:a.b"])
def test_a_name_of_no_module_is_one_line(name: str, here: Callable[[str], Path]) -> None:
    here(name)
    with pytest.raises(MsdetError, match="expected module:Name") as error:
        msdet.load("model", allow_code=["own_layers"])
    assert "\n" not in str(error.value) and not Path("imported").exists()


def test_python_allows_by_name(here: Callable[[str], Path]) -> None:
    for allowed in ((), ["own"], ["own_layers.inner"]):
        with pytest.raises(CodeNotAllowedError, match=r"allow_code=\['own_layers'\]"):
            msdet.load("model", allow_code=allowed)
    with pytest.raises(MsdetError, match="allow_code has 'own_layers:Encoder', expected the name of a module"):
        msdet.load("model", allow_code=["own_layers:Encoder"])
    assert not Path("imported").exists()
    model = msdet.load("model", allow_code=["own_layers"])
    mixture = 0.1 * np.random.default_rng(1).standard_normal((4, 16000))
    assert model(mixture, 8000).estimates.shape == (2, 16000)
    with pytest.raises(CodeNotAllowedError):  # what one call allows, the next does not
        load_model("model")


def test_a_package_allows_what_is_in_it(here: Callable[[str], Path]) -> None:
    (Path("own_package")).mkdir()
    (Path("own_package") / "layers.py").write_text(MODULE)
    here("own_package.layers:Encoder")
    with pytest.raises(CodeNotAllowedError):
        msdet.load("model", allow_code=["own_pack"])
    assert not Path("imported").exists()
    msdet.load("model", allow_code=["own_package"])
    assert Path("imported").exists()


def test_info_tells_what_code_is_needed(here: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "model"]) == 0
    told = capsys.readouterr().out
    assert "needs code that is not msdet's, and was not imported: own_layers:Encoder" in told
    assert "--allow-code own_layers\n" in told and "8000 Hz; array circular4_5cm, 4 microphones" in told
    assert not Path("imported").exists()
    assert main(["info", "model", "--allow-code", "own_layers"]) == 0
    assert "own_layers:Encoder -> reference_mask" in capsys.readouterr().out


def test_a_package_says_what_code_it_needs(here: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", *PACKAGE.replace(".tar", "").split(), "--allow-code", "own_layers"]) == 0
    card = Path("voices/README.md").read_text()
    assert "--out out/ --allow-code own_layers\n" in card and "allow_code=['own_layers'])" in card
    forget()
    assert main(["localize", "x.wav", "--model", "voices"]) == 2
    assert "--allow-code own_layers" in capsys.readouterr().err and not Path("imported").exists()
