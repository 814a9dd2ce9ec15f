"""`msdet package`: what goes in, what is left out, and that everything takes a package."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import msdet
from msdet.cli import main
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.hub.model_card import scores_table
from msdet.io import audio
from msdet.io.files import read_json, write_json
from msdet.models import packages
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

RATE = 8000


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, dev_set: SceneSet) -> Path:
    """A tiny model, with places of a machine in its notes."""
    root = tmp_path_factory.mktemp("run") / "tiny"
    torch.manual_seed(0)
    model = JointModel(ModelConfig(encoder_options={"hidden": 8, "group": 8}), dev_set.array, RATE)
    save_model(root, model, {"step": 5, "scores": {"dev/loss": 1.0}, "training": {"init": "/home/me/other"}})
    (root / "last.ckpt").write_bytes(b"pickle")
    scenes = {"duration_s": 2.0, "talkers": 2, "t60_s": [0.2, 0.5], "distance_m": [1, 2], "snr_db": [20, 30]}
    optimizer = {"steps": 10, "batch": 3, "name": "adam", "learning_rate": 0.002, "precision": "32-true"}
    settings = {"data": {"scenes": scenes, "noise": "/data/noise"}, "optimizer": {**optimizer, "seed": 0}}
    write_json(root / "training.json", {"steps": 10, "settings": settings})
    return root


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, dev_set: SceneSet) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "dev"
    arguments = ["--data", str(dev_set.root), "--model", str(model_folder), "--out", str(out)]
    assert main(["evaluate", *arguments, "--metrics", "si_sdr", "--jobs", "1"]) in (0, 1)
    return out


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "data.md"
    path.write_text("Voices of *nobody*, CC0.\n", encoding="utf-8")
    return path


def arguments(model: Path, out: Path, notes: Path, *more: str) -> list[str]:
    return [
        "package", str(model), "--out", str(out), "--license", "CC BY 4.0", "--data_notes", str(notes), *more
    ]  # fmt: skip


@pytest.fixture
def package(model_folder: Path, evaluation: Path, dev_set: SceneSet, notes: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out" / "tiny.tar"
    named = ["--evaluation", f"unseen rooms={evaluation}", f"again={evaluation}", "--data", str(dev_set.root)]
    assert main(arguments(model_folder, out, notes, *named)) == 0
    return out


def content(package: Path) -> dict[str, bytes]:
    with tarfile.open(package) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_the_package_holds_weights_description_scores_and_card(
    package: Path, model_folder: Path, evaluation: Path, dev_set: SceneSet
) -> None:
    files = content(package)
    assert sorted(files) == [f"tiny/{name}" for name in sorted(packages.MAX_BYTES)]
    assert files["tiny/model.safetensors"] == (model_folder / "model.safetensors").read_bytes()
    scores = json.loads(files["tiny/scores.json"])
    assert list(scores["evaluations"]) == ["unseen rooms", "again"]
    entry = scores["evaluations"]["unseen rooms"]
    assert entry["set"]["hash"] == dev_set.identity
    assert entry["set"]["scenes"] == 3
    assert "T60 0.2" in entry["set"]["description"]
    measured = read_json(evaluation / "summary.json")["systems"]
    assert set(entry["systems"]) == {"unprocessed", "srp_beam", "model"}
    for name, found in entry["systems"].items():
        assert found["si_sdr_db"]["n"] == 3
        assert found["si_sdr_db"]["value"] == pytest.approx(measured[name]["si_sdr_db"]["value"], abs=1e-6)
        assert found["si_sdr_db"]["low"] <= found["si_sdr_db"]["value"] <= found["si_sdr_db"]["high"]
    text = files["tiny/README.md"].decode()
    for part in (
        "# tiny", "circular4_5cm: 4 microphones", "8000 Hz", "CC BY 4.0", "Voices of *nobody*, CC0.",
        "10 steps of 3 mixtures", "unseen rooms", "again", "unprocessed mixture", "srp_beam", "this model",
        "serves other arrays too", dev_set.identity, "msdet package tiny --out tiny.tar",
        "--model tiny.tar",
    ):  # fmt: skip
        assert part in text, part


def test_no_place_of_the_machine_is_inside(package: Path, tmp_path: Path) -> None:
    for name, inside in content(package).items():
        for place in (str(tmp_path), str(Path.home()), "/home/me", "/data/noise", "/tmp/"):
            assert place.encode() not in inside, (name, place)
    assert json.loads(content(package)["tiny/model.json"])["notes"]["training"]["init"] == "other"


def test_the_same_package_again_is_the_same_to_the_byte(
    package: Path, model_folder: Path, evaluation: Path, dev_set: SceneSet, notes: Path, tmp_path: Path
) -> None:
    named = ["--evaluation", f"unseen rooms={evaluation}", f"again={evaluation}", "--data", str(dev_set.root)]
    assert main(arguments(model_folder, tmp_path / "b" / "tiny.tar", notes, *named)) == 0
    assert (tmp_path / "b" / "tiny.tar").read_bytes() == package.read_bytes()


def test_what_takes_a_model_takes_the_package(
    package: Path, model_folder: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = dev_set.mixture(dev_set.scenes[0])
    recording = tmp_path / "r.wav"
    audio.write(recording, mixture, RATE, "FLOAT")
    found = {}
    for name, model in (("folder", model_folder), ("tar", package)):
        assert main(["separate", str(recording), "--model", str(model), "--out", str(tmp_path / name)]) == 0
        found[name] = (tmp_path / name / "talker1.wav").read_bytes()
        capsys.readouterr()
        assert main(["localize", str(recording), "--model", str(model), "--json"]) == 0
        found[f"{name} doa"] = json.loads(capsys.readouterr().out)["talkers"]
        found[f"{name} voices"] = msdet.load(model)(mixture, RATE).estimates
    assert found["folder"] == found["tar"]
    assert found["folder doa"] == found["tar doa"]
    assert np.array_equal(found["folder voices"], found["tar voices"])
    assert main(["info", str(package)]) == 0
    text = capsys.readouterr().out
    for part in ("license: CC BY 4.0", "data: Voices of *nobody*, CC0.", "unseen rooms", "8000 Hz"):
        assert part in text


def test_an_evaluation_by_the_package_scores_the_model(
    package: Path, evaluation: Path, dev_set: SceneSet, tmp_path: Path
) -> None:
    options = ["--data", str(dev_set.root), "--model", str(package), "--out", str(tmp_path / "e")]
    assert main(["evaluate", *options, "--metrics", "si_sdr", "--jobs", "1"]) in (0, 1)
    theirs, ours = (read_json(f / "summary.json")["systems"]["model"] for f in (evaluation, tmp_path / "e"))
    assert theirs["si_sdr_db"] == ours["si_sdr_db"]


def test_a_package_of_a_package_keeps_its_scores(package: Path, notes: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    assert main(arguments(package, again, notes)) == 0
    kept, scores = (content(p)[f"{p.stem}/scores.json"] for p in (package, again))
    assert kept == scores
    assert "unseen rooms" in content(again)["again/README.md"].decode()


def test_a_folder_may_be_a_package(model_folder: Path, notes: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny_8k"
    assert main(arguments(model_folder, out, notes)) == 0
    assert {p.name for p in out.iterdir()} == packages.MAX_BYTES.keys()
    assert msdet.load(out).sample_rate == RATE
    assert "Not measured." in (out / "README.md").read_text()
    assert "--model tiny_8k " in (out / "README.md").read_text()


def changed(evaluation: Path, out: Path, **entries: object) -> Path:
    """A copy of an evaluation with other entries in its summary; those that are None are left out."""
    shutil.copytree(evaluation, out)
    summary = {**read_json(evaluation / "summary.json"), **entries}
    write_json(out / "summary.json", {k: v for k, v in summary.items() if v is not None})
    return out


def test_an_evaluation_says_which_weights_it_scored(
    model_folder: Path, evaluation: Path, notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest()
    assert read_json(evaluation / "summary.json")["weights"] == weights
    older = changed(evaluation, tmp_path / "older", weights=None)
    options = ["--evaluation", str(evaluation), str(older)]
    assert main(arguments(model_folder, tmp_path / "p.tar", notes, *options)) == 0
    assert capsys.readouterr().err == "warning: evaluation 'older' does not say which weights it is of\n"
    found = json.loads(content(tmp_path / "p.tar")["p/scores.json"])["evaluations"]
    assert [found[name]["weights"] for name in ("dev", "older")] == [weights, None]


def test_a_single_scene_has_values_without_an_interval(
    model_folder: Path, evaluation: Path, notes: Path, tmp_path: Path
) -> None:
    value = {"value": 7.5, "low": None, "high": None, "n": 1}
    single = changed(evaluation, tmp_path / "single", systems={"model": {"si_sdr_improvement_db": value}})
    assert main(arguments(model_folder, tmp_path / "p.tar", notes, "--evaluation", str(single))) == 0
    found = content(tmp_path / "p.tar")
    assert json.loads(found["p/scores.json"])["evaluations"]["single"]["systems"] == {
        "model": {"si_sdr_improvement_db": value}
    }
    assert b"7.50 [-, -]" in found["p/README.md"]


def test_bad_input_is_refused_and_nothing_is_written(
    model_folder: Path, evaluation: Path, dev_set: SceneSet, notes: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, empty = tmp_path / "p.tar", tmp_path / "empty.md"
    empty.write_text(" \n")
    lonely = changed(evaluation, tmp_path / "lonely", systems={"unprocessed": {}})
    other = changed(evaluation, tmp_path / "other", weights="0123456789" * 6 + "abcd")
    bare = changed(evaluation, tmp_path / "bare", confidence=None)
    broken = changed(evaluation, tmp_path / "broken", systems={"model": {"si_sdr_db": {"value": 1.0}}})
    diverged = Path(shutil.copytree(model_folder, tmp_path / "diverged"))
    tensors = load_file(diverged / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, diverged / "model.safetensors")
    cases = [
        (arguments(diverged, out, notes), "diverged/model.safetensors: has values that are not finite, in "),
        (arguments(model_folder, tmp_path / "p.tar.gz", notes), "p.tar.gz: expected the name of a folder"),
        (arguments(model_folder, tmp_path / ".tar", notes), ".tar: expected the name of a folder"),
        (arguments(tmp_path / "none", out, notes), "none: no such checkpoint directory"),
        (arguments(model_folder, out, tmp_path / "no.md"), "no.md: no such file"),
        (arguments(model_folder, out, empty), "empty.md: is empty, expected what data"),
        (arguments(model_folder, notes, notes), "data.md: exists; choose another name"),
        (arguments(model_folder, out, notes, "--license", " "), "license is empty"),
        (arguments(model_folder, out, notes, "--license", "a\ud800b"), "expected text on one line that can be printed"),
        (arguments(model_folder, out, notes, "--evaluation", str(tmp_path / "no")), "no: no such folder"),
        (arguments(model_folder, out, notes, "--evaluation", str(lonely)), "has no scores of a model"),
        (
            arguments(model_folder, out, notes, "--evaluation", str(other)),
            f"{other}/summary.json: is of other weights (SHA-256 012345678901...) than the model's (",
        ),
        (arguments(model_folder, out, notes, "--evaluation", str(bare)), "summary.json: not the summary of"),
        (arguments(model_folder, out, notes, "--evaluation", str(broken)), "summary.json: not the summary of"),
        (
            arguments(model_folder, out, notes, "--evaluation", str(evaluation), f"dev={evaluation}"),
            "two are called 'dev'",
        ),
        (arguments(model_folder, out, notes, "--data", str(dev_set.root)), "no evaluation is of this set"),
    ]
    for options, message in cases:
        assert main(options) == 2
        captured = capsys.readouterr()
        assert message in captured.err, captured.err
        assert len(captured.err.splitlines()) == 1
        assert not out.exists()


@pytest.mark.parametrize("scores", [{"dev/loss": "low"}, [1], None])
def test_notes_of_any_kind_are_described(
    model_folder: Path, tmp_path: Path, scores: object, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Path(shutil.copytree(model_folder, tmp_path / "odd"))
    description = read_json(odd / "model.json")
    del description["msdet"]
    write_json(odd / "model.json", {**description, "notes": {"step": 5, "scores": scores}})
    assert main(["info", str(odd)]) == 0
    assert ("dev/loss low" in capsys.readouterr().out) == isinstance(scores, dict)


def test_damaged_scores_are_named() -> None:
    with pytest.raises(MsdetError, match=re.escape("x/scores.json: not the scores of a package (KeyError")):
        scores_table({}, "x/scores.json")


@pytest.fixture
def shipped(model_folder: Path, dev_set: SceneSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shipped models, of 8 and 16 kHz."""
    root = tmp_path / "pretrained"
    shutil.copytree(model_folder, root / "tiny_8k")
    torch.manual_seed(1)
    model = JointModel(ModelConfig(encoder_options={"hidden": 8, "group": 8}), dev_set.array, 2 * RATE)
    save_model(root / "tiny_16k", model, {})
    monkeypatch.setattr(packages, "_shipped_folder", lambda: root)
    return root


@pytest.mark.parametrize(("rate", "name"), [(8000, "tiny_8k"), (16000, "tiny_16k"), (44100, "tiny_16k")])
def test_without_a_model_the_shipped_one_for_the_rate_is_taken(
    rate: int, name: str, shipped: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "r.wav", audio.resample(dev_set.mixture(dev_set.scenes[0]), RATE, rate), rate)
    assert main(["localize", str(tmp_path / "r.wav"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["localized_by"] == name
    assert found["array"]["name"] == dev_set.array.name


def test_another_array_is_given_by_its_name(
    shipped: Path, dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = dev_set.mixture(dev_set.scenes[0])
    audio.write(tmp_path / "r.wav", np.concatenate([mixture, mixture[:2]]), RATE)
    assert main(["localize", str(tmp_path / "r.wav")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/r.wav: has 6 channels, the array 'circular4_5cm' has 4; give the recording's own "
        "by --array: chime_tablet, circular6_10cm, respeaker_6mic_ring, respeaker_usb_4mic_square, sms_wsj, or a TOML "
        "file; or choose the array's channels by --channels, perhaps 0-3 (4,5 are no microphones like those)\n"
    )
    assert main(["localize", str(tmp_path / "r.wav"), "--array", "circular6_10cm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["array"]["name"] == "circular6_10cm"


def test_shipped_models_are_listed(
    shipped: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["tiny_16k", "16000"], ["tiny_8k", "8000"]]
    assert main(["info", "tiny_8k"]) == 0
    assert capsys.readouterr().out.startswith("model tiny_8k: ")
    monkeypatch.setattr(packages, "_shipped_folder", lambda: shipped / "none")
    assert main(["info"]) == 0
    assert capsys.readouterr().out == "no shipped models\n"
    assert main(["localize", "r.wav"]) == 2
    assert "no shipped model: give either --model" in capsys.readouterr().err
