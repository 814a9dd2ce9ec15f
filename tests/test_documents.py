"""What documents and shipped configurations say is true of the code."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdet.arrays import load_array
from msdet.cli import COMMANDS, load_command, main, parse_options
from msdet.commands._options import plain_parser
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
EXAMPLES = tomllib.loads((ROOT / "docs" / "commands.toml").read_text(encoding="utf-8"))
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
        sample_scene(f"test-{n:06d}", distribution, dataclasses.replace(material, microphones=array.microphones), 0)
        for n in range(20)
    ]
    assert {len(s.sources) for s in scenes} <= set(distribution.weights)
    assert min(s.azimuth_gap_deg for s in scenes) >= distribution.minimum_gap_deg


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


LOOP = (ROOT / "docs" / "pages" / "training_loop.md").read_text(encoding="utf-8")


def test_the_training_loop_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speech").symlink_to(speech)
    exec("\n".join(re.findall(r"```python\n(.*?)```", LOOP, re.DOTALL)), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "torch.Size([2, 4, 12000]) torch.Size([2, 2, 12000]) torch.Size([2, 2])"
    assert "(2, 12000)" in printed[-1]


def test_the_notebook_is_the_page_on_the_training_loop() -> None:
    notebook = json.loads((ROOT / "examples" / "training_loop.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert code == [block.strip() for block in re.findall(r"```python\n(.*?)```", LOOP, re.DOTALL)]


def calls_in(shell: str) -> list[list[str]]:
    """Calls of msdet in a script, each as its arguments."""
    lines = re.findall(r"^(?:srun (?:--\S+ )*)?msdet (.+)", shell.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


SCRIPTS = {
    "README.md": README,
    **{path.name: path.read_text("utf-8") for path in PAGES},
    "commands.toml": "".join(f"```sh\n{text}```\n" for text in EXAMPLES.values()),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_documents_name_only_commands_and_options_that_exist(name: str) -> None:
    shell = "".join(re.findall(r"```sh\n(.*?)```", SCRIPTS[name], re.DOTALL))
    for first, *rest in calls_in(shell):
        if first.startswith("-"):
            continue
        command = first if first in COMMANDS else f"{first} {rest[0]}"
        assert command in COMMANDS, command
        known = {o for a in plain_parser(load_command(command), "p")._actions for o in a.option_strings}
        options = {argument.partition("=")[0] for argument in rest if argument.startswith("--")}
        assert options <= {*known, "--help"}, command


def test_every_command_has_an_example() -> None:
    assert list(EXAMPLES) == list(COMMANDS)
    for command, text in EXAMPLES.items():
        assert all(" ".join(call).startswith(command) for call in calls_in(text))


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "docs" / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    assert set(re.findall(r"[\w-]+\.md", navigation)) == {path.name for path in PAGES}


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        (
            "train",
            {"SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "2"},
            "train run --config steered --trainer.devices 4 --trainer.nodes 2",
        ),
        (
            "simulate",
            {"SLURM_CPUS_PER_TASK": "8", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"},
            "simulate run --config steered --jobs 8 --shard 3/8",
        ),
    ],
)
def test_slurm_scripts_call_what_exists(name: str, task: dict[str, str], expected: str, tmp_path: Path) -> None:
    script = ROOT / "examples" / f"{name}.sbatch"
    assert script.read_text("utf-8") in (ROOT / "docs" / "pages" / "slurm.md").read_text("utf-8")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    (tmp_path / "srun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **task}
    call = ["bash", script, "run", "--config", "steered"]
    subprocess.run(call, cwd=tmp_path, env=environment, check=True)
    called = (tmp_path / "called").read_text().split()
    called = called[called.index("msdet") + 1 :]
    assert " ".join(called) == expected
    known = plain_parser(load_command(name), "p")
    assert {o for o in called if o.startswith("--")} <= {
        option for action in known._actions for option in action.option_strings
    }


def test_the_array_of_the_readme_loads(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
    (tmp_path / "my_array.toml").write_text(block, encoding="utf-8")
    array = load_array(str(tmp_path / "my_array.toml"))
    assert array.microphones == 4
    assert np.isclose(array.aperture_m, 0.08)


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_example_of_the_readme_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.search(
        r"```sh\npip install \.\nmsdet (separate \S+ --out voices/)\n```.*?```\n(.*?)```", README, re.DOTALL
    )
    assert example
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    assert main(example[1].split()) == 0
    printed = capsys.readouterr().out.splitlines()
    shown = example[2].splitlines()
    assert len(shown) == 2
    assert [_figures(line) for line in printed[:2]] == [pytest.approx(_figures(line), abs=0.11) for line in shown]


def _figures(line: str) -> list[float]:
    return [float(x) for x in re.findall(r"[\d.]*\d", line)]
