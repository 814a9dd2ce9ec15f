"""What documents and shipped configurations say is true of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from msdet.arrays import load_array
from msdet.cli import parse_options
from msdet.commands.simulate import simulate
from msdet.commands.train import train
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.simulation.sampling import Material, sample_scene

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    config = ModelConfig(encoder="my_encoder:Encoder", encoder_options={"width": 16})
    output = JointModel(config, load_array("circular6_10cm"), 8000)(torch.randn(1, 6, 4000))
    assert output.waveforms.shape == (1, 2, 4000)


def test_the_array_of_the_readme_loads(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
    (tmp_path / "my_array.toml").write_text(block, encoding="utf-8")
    array = load_array(str(tmp_path / "my_array.toml"))
    assert array.microphones == 4
    assert np.isclose(array.aperture_m, 0.08)


def test_the_readme_names_only_commands_and_files_that_exist() -> None:
    from msdet.cli import COMMANDS

    shell = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    for command in re.findall(r"^msdet ([\w-]+)", shell, re.MULTILINE):
        assert command in COMMANDS
    for target in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / target).exists(), target
