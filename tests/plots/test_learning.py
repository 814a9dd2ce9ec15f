"""Learning curves: what a training's log holds, and how it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from msdet.errors import MsdetError
from msdet.plots.learning import learning_curves, read_curves
from msdet.plots.theme import DARK, LIGHT, to_svg

LOG = """\
dev/accuracy_10deg,dev/doa,dev/separation,dev/si_sdr_improvement_db,epoch,step,train/doa,train/separation
0.2,4.0,0.9,1.0,0,9,,
,,,,0,9,4.2,1.0
0.8,2.0,0.5,6.0,1,19,,
,,,,1,19,2.1,0.6
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a training run."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text(LOG)
    return tmp_path


def test_learning_curves_go_on_over_a_resumed_run_and_show_what_is_new(run: Path) -> None:
    log = run / "logs" / "metrics.csv"
    log.rename(log.with_name("metrics-1.csv"))
    log.write_text("step,epoch,dev/separation,train/weight_doa\n29,2,0.4,\n29,2,,0.7\n")
    found = read_curves(run)
    steps, values = found["dev/separation"]
    assert steps.tolist() == [9, 19, 29]
    assert values.tolist() == [0.9, 0.5, 0.4]
    assert "epoch" not in found
    titles = [axes.get_title(loc="left") for axes in learning_curves(found).axes]
    assert titles[:2] == ["Separation", "DoA"]
    assert "Weight of DoA" in titles
    assert "All tasks together" not in titles  # not in this log


def test_titles_are_words(run: Path) -> None:
    log = run / "logs" / "metrics.csv"
    log.write_text(
        "step,train/doa,dev/doa,train/direction_map,train/cosine_doa_direction_map,dev/map_f1,dev/map_count_accuracy\n"
        "9,1,1,1,0.5,0.6,0.7\n"
    )
    panels = {axes.get_title(loc="left"): axes.get_ylabel() for axes in learning_curves(read_curves(run)).axes}
    assert panels["Gradients of DoA and direction map"] == "Cosine"
    assert panels["Map F1"] == "Score" and panels["Map count accuracy"] == "Right (%)"
    assert not any("_" in title for title in panels)


def test_learning_curves_of_stages_follow_each_other(tmp_path: Path) -> None:
    for stage, values in (("01-separation", (0.9, 0.5)), ("02-both", (0.4, 0.3))):
        log = tmp_path / "stages" / stage / "logs" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text("step,dev/loss\n9,{}\n19,{}\n".format(*values))
    steps, losses = read_curves(tmp_path)["dev/loss"]
    assert steps.tolist() == [9, 19, 29, 39]
    assert losses.tolist() == [0.9, 0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "metrics.csv: no such file"),
        ("epoch,step\n0,9\n", "holds no curve"),
        ("step,train/doa\n9,x\n", "not readable as a training log"),
        ("epoch,train/doa\n0,1.0\n", "not readable as a training log"),
    ],
)
def test_faulty_logs(run: Path, text: str | None, message: str) -> None:
    path = run / "logs" / "metrics.csv"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(MsdetError, match=message):
        read_curves(run)


def test_drawings_follow_the_color_scheme(run: Path) -> None:
    svg = to_svg(learning_curves(read_curves(run)), 'a "label"', "f1")
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert not any(color in svg for color in LIGHT.values())
    assert "var(--ink)" in svg
    assert "var(--blue)" in svg
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert "#000000" not in svg
