"""What documents and shipped configurations say is true of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdet.arrays import load_array
from msdet.cli import COMMANDS, main, parse_options
from msdet.commands.simulate import simulate
from msdet.commands.train import train
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.losses import SEPARATION_LOSSES
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.scenes.sampling import Material, sample_scene
from msdet.tasks.labels import batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*(ROOT / "docs" / "pages").glob("*.md")]
ADDING = (ROOT / "docs" / "pages" / "adding.md").read_text(encoding="utf-8")
CONFIGS = [*(ROOT / "msdet" / "configs").glob("*.yaml"), *(ROOT / "recipes").glob("*/conf/*.yaml")]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_every_configuration_fits_the_function_it_configures(path: Path) -> None:
    options = parse_options(train, ["--config", str(path), "--out", "x", "--data.dev", "y"], "train")
    model = JointModel(options["model"], load_array("circular6_10cm"), 8000)
    assert sum(p.numel() for p in model.parameters()) > 1000


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "msdet" / "configs" / "scenes").iterdir()))
def test_every_shipped_scene_distribution_can_be_drawn_from(name: str, material: Material) -> None:
    arguments = ["--out", "x", "--speech", "y", "--scenes", name]
    distribution = parse_options(simulate, arguments, "simulate")["scenes"]
    distribution.check()
    array = load_array(distribution.array)
    assert array.resolvable_domain.azimuth_span_deg == 360
    scenes = [
        sample_scene(
            f"test-{n:06d}", distribution, dataclasses.replace(material, microphones=array.microphones), 0
        )
        for n in range(20)
    ]
    assert {len(s.sources) for s in scenes} <= set(distribution.weights)
    assert min(s.azimuth_gap_deg for s in scenes) >= distribution.minimum_gap_deg


def test_the_encoder_of_the_readme_works_from_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "my_encoder.py" in b)
    (tmp_path / "my_encoder.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = ModelConfig(encoder="my_encoder:MyEncoder", encoder_options={"width": 16})
    output = JointModel(config, load_array("circular6_10cm"), 8000)(torch.randn(1, 6, 4000))
    assert output.waveforms.shape == (1, 2, 4000)


def own_module(name: str, folder: Path) -> str:
    """Write a module of the page on adding parts to a folder; its name."""
    blocks = re.findall(r"```python\n(.*?)```", ADDING, re.DOTALL)
    (folder / f"{name}.py").write_text(next(b for b in blocks if f"{name}.py" in b), encoding="utf-8")
    return name


def test_the_encoder_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    config = ModelConfig(encoder=f"{own_module('my_encoder', tmp_path)}:MyEncoder")
    output = JointModel(config, load_array("circular6_10cm"), 8000)(torch.randn(1, 6, 4000))
    assert output.waveforms.shape == (1, 2, 4000)


def test_the_loss_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"{own_module('my_loss', tmp_path)}:log_spectral"
    loss = SEPARATION_LOSSES.find(name)
    assert SEPARATION_LOSSES.fact(name, "domain") == "spectrum"
    spectra = torch.randn(2, 3, 5, 7, dtype=torch.complex64)
    assert torch.equal(loss(spectra, spectra), torch.zeros(2, 3))
    Objective(ObjectiveConfig(separation_loss=name, separation_options={"floor": 0.01}))


def test_the_task_of_the_documentation_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dev_set: SceneSet
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"{own_module('my_task', tmp_path)}:SnrTask"
    torch.manual_seed(0)
    config = ModelConfig(encoder_options={"hidden": 8, "group": 8}, tasks={name: {"hidden": 8}})
    model = JointModel(config, dev_set.array, 8000)
    objective = Objective(ObjectiveConfig(task_weights={name: 1.0}), config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch: Example = next(iter(DataLoader(RenderedDataset(dev_set), batch_size=3)))
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        output = model(batch["mixture"])
        terms = objective(output.predictions, batch_labels(batch, model.stft, 0, output.level))
        terms.backward(model)
        optimizer.step()
        losses.append(terms.losses[name].item())
    assert losses[-1] < 0.5 * losses[0]


def commands_in(shell: str) -> list[str]:
    """Names of the commands that a script calls: of two words where the first one alone is none."""
    called = re.findall(r"^msdet ([\w-]+)(?: ([\w-]+))?", shell, re.MULTILINE)
    return [first if first in COMMANDS else f"{first} {second}" for first, second in called]


def test_the_documentation_names_only_commands_that_exist() -> None:
    for page in PAGES:
        shell = "".join(re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
        for command in commands_in(shell):
            assert command in COMMANDS, page.name


def test_the_array_of_the_readme_loads(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
    (tmp_path / "my_array.toml").write_text(block, encoding="utf-8")
    array = load_array(str(tmp_path / "my_array.toml"))
    assert array.microphones == 4
    assert np.isclose(array.aperture_m, 0.08)


def test_the_readme_names_only_commands_and_files_that_exist() -> None:
    shell = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    for command in commands_in(shell):
        assert command in COMMANDS
    for target in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_example_of_the_readme_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.search(r"```sh\nmsdet (separate \S+ --out voices/)\n```.*?```\n(.*?)```", README, re.DOTALL)
    assert example
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    assert main(example[1].split()) == 0
    printed = capsys.readouterr().out.splitlines()
    shown = example[2].splitlines()
    assert len(shown) == 2
    assert [_figures(line) for line in printed[:2]] == [
        pytest.approx(_figures(line), abs=0.11) for line in shown
    ]


def _figures(line: str) -> list[float]:
    return [float(x) for x in re.findall(r"[\d.]*\d", line)]
