"""`msdet export` and `msdet import-set`, also as tools: what they make, and what they refuse in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msdet.cli import main
from msdet.data.scene_set import SceneSet
from msdet.io import audio
from msdet.scenes.scene import mixture_path

TOOLS = Path(__file__).parent.parent.parent / "tools"

Files = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def data(dev_set: SceneSet, tmp_path: Path) -> Path:
    """A copy of the set that a test may add to."""
    return Path(shutil.copytree(dev_set.root, tmp_path / "dev"))


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that is refused."""
    assert main([str(a) for a in arguments]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert printed.out == ""
    return line


@pytest.mark.parametrize(
    ("kind", "written"),
    [("kaldi", {"utt2distance"}), ("sms_wsj", {"sms_wsj.json"}), ("lhotse", {"recordings.jsonl.gz", "cuts.jsonl.gz"})],
)
def test_export_adds_tables_and_changes_nothing_else(
    data: Path, dev_set: SceneSet, kind: str, written: set[str], file_bytes: Files,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if kind == "kaldi":
        (data / "utt2distance").unlink()
    before = file_bytes(data)
    assert main(["export", str(data), f"--format={kind}"]) == 0
    after = file_bytes(data)
    assert after.keys() - before.keys() == written
    assert {name: content for name, content in after.items() if name not in written} == before
    assert f"{data}: 3 scenes in " in capsys.readouterr().out
    assert SceneSet.open(data).scenes == dev_set.scenes


def test_export_that_cannot_be_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file_bytes: Files
) -> None:
    before = file_bytes(data)
    assert "unknown format 'lhots'; did you mean 'lhotse'?" in error_of(capsys, "export", data, "--format=lhots")
    assert "only format sms_wsj names its data set" in error_of(capsys, "export", data, "--format=kaldi", "--dataset=x")
    assert "not a data set" in error_of(capsys, "export", tmp_path / "none", "--format=kaldi")
    assert file_bytes(data) == before


def test_sms_wsj_round_trip_by_commands(
    data: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(data), "--format=sms_wsj", "--dataset=cv_dev93"]) == 0
    arguments = ["import-set", str(data / "sms_wsj.json"), f"--out={tmp_path / 'back'}", "--jobs=1"]
    arguments += ["--array=circular4_5cm", "--target=direct", "--dataset=cv_dev93"]
    assert main(arguments) == 0
    assert f"{tmp_path / 'back'}: 3 scenes, 4 microphones at 8000 Hz" in capsys.readouterr().out
    back = SceneSet.open(tmp_path / "back")
    for before, after in zip(dev_set.scenes, back.scenes, strict=True):
        np.testing.assert_allclose(after.azimuths_deg, before.azimuths_deg, atol=1e-6)
    assert main(arguments) == 0  # finished already
    assert main(["info", str(tmp_path / "back")]) == 0


def test_kaldi_round_trip_by_commands_says_what_it_scaled(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = SceneSet.open(data).scenes[0]
    loud = np.clip(4.0 * SceneSet.open(data).mixture(scene), -1.5, 1.5)
    loud[0, 0] = 1.5
    audio.write(data / mixture_path(scene.id), loud, 8000, "FLOAT")
    arguments = ["import-set", str(data), f"--out={tmp_path / 'back'}", "--jobs=1"]
    assert main([*arguments, "--array=circular4_5cm", "--target=direct"]) == 0
    assert f"1 are scaled, by 0.600 and up, so as not to clip: {scene.id}" in capsys.readouterr().out
    made = SceneSet.open(tmp_path / "back")
    np.testing.assert_allclose(made.mixture(made.scenes[0]), 0.6 * loud, atol=2**-15)


def test_import_that_cannot_be_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(data), "--format=sms_wsj"])
    capsys.readouterr()
    file, out = data / "sms_wsj.json", f"--out={tmp_path / 'back'}"
    array, target = "--array=circular4_5cm", "--target=direct"

    def refused(*arguments: object) -> str:
        return error_of(capsys, "import-set", *arguments)

    assert "does not tell its array; give --array" in refused(data, out, target)
    assert "does not tell what spk1.scp holds; give --target" in refused(data, out, array)
    assert "unknown target 'erly'; did you mean 'early'?" in refused(file, out, array, "--target=erly")
    assert "has 4 microphones, array 'sms_wsj' has 6; they fit --array circ" in refused(file, out, target)
    assert "unknown array 'circular4'" in refused(file, out, "--array=circular4")
    assert "distance_m is for Kaldi directories" in refused(file, out, array, "--distance_m=1")
    assert "a Kaldi directory is one data set" in refused(data, out, array, target, "--dataset=x")
    assert "audio_root is 'x', expected OLD=NEW or a folder" in refused(file, out, "--audio_root=x")
    assert "no such file or folder, expected an sms_wsj.json or a Kaldi" in refused(tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    assert "has no wav.scp, expected an sms_wsj.json or a Kaldi" in refused(tmp_path / "empty", out)
    assert "is not one of msdet's folders" in refused(file, f"--out={TOOLS}", array, target)
    assert "not JSON" in refused(data / "wav.scp", out)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(("tool", "arguments"), [("export.py", "--format"), ("import_set.py", "--out")])
def test_tools_are_the_commands(tool: str, arguments: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), str(tmp_path / "none"), arguments, "kaldi"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: ")
    assert len(done.stderr.splitlines()) == 1
