"""Options that had another name: the error says today's, and files of earlier versions are read."""

from __future__ import annotations

import pytest

from msdet.cli import main
from msdet.renamed import RENAMED, current_name, translated


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("optimiser.keep", "trainer.monitor"),
        ("optimizer.devices", "trainer.devices"),
        ("data.also", "data.extra_train"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("data.scenes.centre_offset_m", "data.scenes.center_offset_m"),
        ("objective.normalise", "objective.normalize"),
    ],
)
def test_old_option_is_refused_with_its_new_name(
    old: str, new: str, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    required = ["train", "--out", str(tmp_path / "out"), "--data.dev", "dev"]
    assert main([*required, f"--{old}", "1"]) == 2
    assert f"error: option '{old}' is now '{new}'" in capsys.readouterr().err
    *groups, leaf = old.split(".")
    lines = [f"{'  ' * depth}{group}:" for depth, group in enumerate(groups)]
    (tmp_path / "old.yaml").write_text("\n".join([*lines, f"{'  ' * len(groups)}{leaf}: 1"]) + "\n")
    assert main([*required, "--config", str(tmp_path / "old.yaml")]) == 2
    assert f"error: option '{old}' is now '{new}'" in capsys.readouterr().err


def test_settings_of_an_earlier_version_are_translated() -> None:
    old = {
        "optimiser": {"keep": "dev/loss", "steps": 9, "options": {}},
        "stages": {"01-a": {"optimiser": {"seed": 3}}},
        "objective": {"regularisation": {"doa_head.*": {"l2": 1e-4}}},
        "freeze": [],
    }
    assert translated(old) == {
        "trainer": {"monitor": "dev/loss"},
        "optimizer": {"steps": 9, "options": {}},
        "stages": {"01-a": {"trainer": {"seed": 3}}},
        "objective": {"regularization": {"doa_head.*": {"l2": 1e-4}}},
        "freeze": [],
    }


def test_new_names_are_not_renamed_again() -> None:
    assert all(current_name(new) == new for new in RENAMED.values())
