"""A small evaluation of three systems, made once, and the run of a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.commands.report import report
from msdet.data.scene_set import SceneSet
from msdet.io import audio
from msdet.io.files import read_jsonl, write_jsonl
from msdet.scoring.score import score_set, score_unprocessed

AZIMUTHS_DEG = ([350.0, 20.0], [90.0, 200.0], [180.0, 190.0], [30.0, 300.0])
NOISE = {"model": 0.05, "srp_beam": 0.6}
HOSTILE = """a<img src=x onerror=hacked=1>&"c"'$x${{ 7*7 }}"""  # the name of a system, scene, array or speaker

LOG = """\
dev/accuracy_10deg,dev/doa,dev/separation,dev/si_sdr_improvement_db,epoch,step,train/doa,train/separation
0.2,4.0,0.9,1.0,0,9,,
,,,,0,9,4.2,1.0
0.8,2.0,0.5,6.0,1,19,,
,,,,1,19,2.1,0.6
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def evaluation(
    tmp_path: Path, built: Path, make_set: Callable[..., SceneSet], write_estimates: Callable[..., Path]
) -> Path:
    """An evaluation of a model, a noisier baseline and the mixture on four scenes; a copy to spoil.

    The model's estimates are in the other order than the talkers, 3° off, but 40° in the last scene, where it
    is less confident; the baseline's likewise, without confidences.
    """
    if not (built / "evaluation").exists():
        scene_set = make_set(AZIMUTHS_DEG, array_rotation_deg=(30.0, 0.0, 0.0))
        _evaluate(tmp_path / "evaluation", scene_set, write_estimates(scene_set))
        shutil.move(tmp_path / "set", built / "set")
        shutil.move(tmp_path / "evaluation", built / "evaluation")
    for name in ("set", "evaluation"):
        shutil.copytree(built / name, tmp_path / name)
    return tmp_path / "evaluation"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data set of `evaluation`."""
    return tmp_path / "set"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a training run."""
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "metrics.csv").write_text(LOG)
    return tmp_path / "run"


@pytest.fixture
def page(built: Path, evaluation: Path, data: Path, run: Path) -> Path:
    """The report of `evaluation` and of a system of a name that is not polite, with images; made once."""
    if not (built / "report.html").exists():
        shutil.copytree(evaluation / "srp_beam", evaluation / HOSTILE)
        report(evaluation, data, built / "report.html", run, images=built / "images")
    return built / "report.html"


def _evaluate(root: Path, scene_set: SceneSet, clean: Path) -> None:
    rng = np.random.default_rng(3)
    for system, noise in NOISE.items():
        estimates = root / system / "estimates"
        shutil.copytree(clean, estimates)
        for n, scene in enumerate(scene_set.scenes, start=1):
            for path in sorted((estimates / scene.id).iterdir()):
                signal = audio.read(path)[0]
                added = noise * n * signal.std() * rng.standard_normal(signal.shape)
                audio.write(path, signal + added, scene_set.sample_rate, "FLOAT")
        rows: list[dict[str, Any]] = read_jsonl(clean / "doa.jsonl")
        rows[-1]["azimuth_deg"] = [azimuth_deg + 37.0 for azimuth_deg in rows[-1]["azimuth_deg"]]
        if system == "model":
            rows = [row | {"confidence": [0.9, 0.8] if row is not rows[-1] else [0.3, 0.7]} for row in rows]
        write_jsonl(estimates / "doa.jsonl", rows)
        score_set(scene_set, estimates, root / system / "scores.jsonl")
    score_unprocessed(scene_set, root / "unprocessed" / "scores.jsonl")
