"""The recipe of SMS-WSJ, on a tree made up."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from msdet.data.scene_set import SceneSet

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_sms_wsj_from_its_tree_to_its_table_in_stages(
    run_twice: Callable[..., str], sms_wsj: Path, shipped: Callable[..., str], tmp_path: Path
) -> None:
    options = ["--sms-wsj", str(sms_wsj), "--config", shipped("sms_wsj", "msdet_stages"), "--workers", "0"]
    results = run_twice("sms_wsj", *options, "--nj", "1", "--steps", "10", stages=6)
    assert "10 steps of 48 s (separation 6, doa 1, both 3)" in results
    assert "| srp_beam" in results
    assert "--sms-wsj SMS-WSJ --config CONFIG" in results
    test = SceneSet.open(tmp_path / "exp" / "test")
    assert (len(test.scenes), test.array.name) == (2, "sms_wsj")
    assert {scene.target for scene in test.scenes} == {"direct"}


def test_sms_wsj_that_is_not_whole_is_refused_with_what_is_missing(run: Run, sms_wsj: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(sms_wsj, tmp_path / "tree"))
    shutil.rmtree(tree / "rirs" / "cv_dev93")
    done = run("sms_wsj", "--exp", str(tmp_path / "exp"), "--sms-wsj", str(tree))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cv_dev93: 4 of 4 files 'rir' are missing, first /net/db/sms_wsj/rirs/cv_dev93/" in line
    assert "write_all=True" in line
    assert "stage 0: check the tree: failed (exit code 2)" in done.stdout
    early = run("sms_wsj", "--exp", str(tmp_path / "exp"), "--sms-wsj", str(tree), "--target", "early",
                "--stop-stage", "0")  # fmt: skip
    assert early.returncode == 0, early.stderr
