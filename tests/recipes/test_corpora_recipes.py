"""The recipes of corpora, from the first stage to the table, on small data laid out like them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from msdet.data.manifest import SceneSet
from msdet.files import read_json

Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/run.sh"))
QUICK = ["--steps", "2", "--nj", "1", "--workers", "0"]
SIZES = ["--rooms", "2", "--dev-scenes", "2", "--test-scenes", "2"]
TINY = """\
model:
  encoder_options: {size: tiny}
data: {batch_s: 6.0}
optimiser: {batch: 2}
"""
SCENES = """\
duration_s: 0.8
room_x_m: [4.3, 4.5]
room_y_m: [3.8, 4.0]
room_z_m: [2.6, 2.8]
centre_offset_m: [-0.1, 0.1]
t60_s: [0.2, 0.25]
distance_m: [0.8, 1.5]
"""


def shipped(recipe: str, name: str, encoder: str) -> str:
    """A recipe's configuration with a small encoder, and masks, which can be scored when hardly trained."""
    text = (ROOT / "recipes" / recipe / "conf" / f"{name}.yaml").read_text(encoding="utf-8")
    text = text.replace("separation_head: complex_mapping", "separation_head: reference_mask")
    return re.sub(r"encoder: dense_unet|encoder_options: .*", encoder, text)


def config(folder: Path, text: str = TINY) -> str:
    """A small training configuration."""
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    return str(folder / "tiny.yaml")


def scenes(folder: Path, **more: object) -> str:
    """Short scenes in a small room."""
    text = SCENES + "".join(f"{name}: {value}\n" for name, value in more.items())
    (folder / "scenes.yaml").write_text(text, encoding="utf-8")
    return str(folder / "scenes.yaml")


def check_run(run: Run, exp: Path, recipe: str, *options: str, stages: int = 6) -> str:
    """Run a recipe to its table, and again, which must do nothing; the table."""
    done = run(recipe, "--exp", str(exp), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    before = {p: p.stat().st_mtime_ns for p in exp.rglob("*") if p.is_file() and p.name != "speech.list"}
    again = run(recipe, "--exp", str(exp), *options)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already done") == stages, again.stdout
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert (exp / "report.html").stat().st_size > 10_000
    results = (exp / "RESULTS.md").read_text(encoding="utf-8")
    for system in ("unprocessed", "model"):
        assert f"| {system}" in results
    assert not re.search(r" /[a-z]", results)
    return results


def test_sms_wsj_from_its_tree_to_its_table_in_stages(run: Run, sms_wsj: Path, tmp_path: Path) -> None:
    small = shipped("sms_wsj", "msdet_stages", "encoder_options: {size: tiny}")
    options = ["--sms-wsj", str(sms_wsj), "--config", config(tmp_path, small), *QUICK[2:], "--steps", "10"]
    results = check_run(run, tmp_path / "exp", "sms_wsj", *options)
    assert "10 steps of 48 s (separation 6, doa 1, both 3)" in results
    assert "| srp_beam" in results
    assert "--sms-wsj SMS-WSJ --config CONFIG" in results
    test = SceneSet.open(tmp_path / "exp" / "test")
    assert (len(test.scenes), test.array.name) == (2, "sms_wsj")
    assert {scene.target for scene in test.scenes} == {"direct"}


def test_sms_wsj_that_is_not_whole_is_refused_with_what_is_missing(
    run: Run, sms_wsj: Path, tmp_path: Path
) -> None:
    tree = Path(shutil.copytree(sms_wsj, tmp_path / "tree"))
    shutil.rmtree(tree / "rirs" / "cv_dev93")
    done = run("sms_wsj", "--exp", str(tmp_path / "exp"), "--sms-wsj", str(tree))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cv_dev93: 4 of 4 files 'rir' are missing, first /net/db/sms_wsj/rirs/cv_dev93/" in line
    assert "write_all=True" in line
    early = run("sms_wsj", "--exp", str(tmp_path / "exp"), "--sms-wsj", str(tree), "--target", "early",
                "--stop-stage", "0")  # fmt: skip
    assert early.returncode == 0, early.stderr


def test_spatial_wsj0_mix_draws_three_talkers(run: Run, wsj0: Path, tmp_path: Path) -> None:
    files = [
        "--config",
        config(tmp_path),
        "--scenes",
        scenes(tmp_path, minimum_gap_deg=10),
        "--array",
        "circular4_5cm",
    ]
    results = check_run(
        run,
        tmp_path / "exp",
        "spatial_wsj0_mix",
        "--wsj0",
        str(wsj0),
        "--talkers",
        "3",
        *files,
        *SIZES,
        *QUICK,
    )
    assert (
        "Talkers and rooms of training (si_tr_s), dev (si_dt_05) and test (si_et_05) are disjoint." in results
    )
    assert "2 steps of 2 mixtures" in results
    assert read_json(tmp_path / "exp" / "model" / "model.json")["model"]["talkers"] == 3


def test_spatial_wsj0_mix_renders_the_mixtures_of_the_lists(
    run: Run, wsj0: Path, tmp_path: Path, lists: Callable[[int], Path]
) -> None:
    files = ["--lists", str(lists(2)), "--config", config(tmp_path), "--scenes", scenes(tmp_path)]
    array = ["--array", "circular4_5cm"]
    results = check_run(
        run, tmp_path / "exp", "spatial_wsj0_mix", "--wsj0", str(wsj0), *files, *array, *QUICK
    )
    assert "Talkers of dev are among those of training" in results
    first = SceneSet.open(tmp_path / "exp" / "test").scenes[0]
    assert first.id == "440o0300_0.7000_441o0300_-0.3000"
    assert [source.level_db for source in first.sources] == [0.7, -0.3]
    assert [source.path for source in first.sources] == [f"si_et_05/{t}/{t}o0300.wv1" for t in ("440", "441")]
    assert first.samples == 7000  # the shortest utterance, from its start, at 8 kHz


def test_list_that_does_not_fit_is_refused(
    run: Run, wsj0: Path, tmp_path: Path, lists: Callable[[int], Path]
) -> None:
    folder = lists(2)
    options = ["--exp", str(tmp_path / "exp"), "--wsj0", str(wsj0), "--lists", str(folder)]

    def refused(line: str) -> str:
        (folder / "mix_2_spk_cv.txt").write_text(line + "\n", encoding="utf-8")
        done = run("spatial_wsj0_mix", *options)
        assert done.returncode == 2, done.stdout
        return done.stderr.splitlines()[-1]

    assert refused("a/01to0300.wav 1 a/99zo0300.wav -1").endswith(f"{wsj0} has no utterance '99zo0300'")
    assert "has 2 words, expected a file and a level of 2 talkers" in refused("a/01to0300.wav 1")
    assert "has the levels 1, x, expected numbers in dB" in refused("01to0300.wav 1 02po0300.wav x")
    assert not (tmp_path / "exp" / "train").exists()


def test_spatialised_tree_is_trained_on_separation_alone(run: Run, spatialised: Path, tmp_path: Path) -> None:
    small = config(tmp_path, shipped("spatial_wsj0_mix", "separation", "encoder_options: {size: tiny}"))
    results = check_run(
        run, tmp_path / "exp", "spatial_wsj0_mix", "--tree", str(spatialised), "--config", small, *QUICK
    )
    assert "separation alone" in results
    test = SceneSet.open(tmp_path / "exp" / "test")
    assert test.array.microphones == 8
    assert test.unlabelled() == {"directions": 2}


def test_libri_spatial_of_an_excerpt(run: Run, librispeech: Path, tmp_path: Path) -> None:
    files = ["--config", config(tmp_path), "--scenes", scenes(tmp_path, sample_rate=16000)]
    files += ["--dev-subsets", "dev-other", "--array", "circular4_5cm"]
    results = check_run(
        run, tmp_path / "exp", "libri_spatial", "--speech", str(librispeech), *files, *SIZES, *QUICK
    )
    assert "16000 Hz, array circular4_5cm." in results
    talkers = {s.speaker for scene in SceneSet.open(tmp_path / "exp" / "dev").scenes for s in scene.sources}
    assert talkers == {"116", "700"}


def test_libri_spatial_of_any_folder_trained_in_stages(run: Run, librispeech: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech"
    rows = ["speaker\tsplit"]
    for subset, split in (("train-clean-100", "train"), ("dev-other", "dev"), ("test-clean", "test")):
        for talker in (librispeech / subset).iterdir():
            shutil.copytree(talker, speech / talker.name)
            rows.append(f"{talker.name}\t{split}")
    (speech / "speakers.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    scenes(tmp_path, sample_rate=16000)
    staged = (ROOT / "msdet" / "configs" / "msdet_stages.yaml").read_text(encoding="utf-8")
    config(tmp_path, staged.replace("hidden: 96, group: 1", "size: tiny"))
    files = ["--speech", "speech", "--scenes", "scenes.yaml", "--config", "tiny.yaml", "--exp", "exp"]
    devices = ["--devices", "1", "--nodes", "1", "--precision", "bf16-mixed", "--stop-stage", "2"]
    done = run("libri_spatial", "--corpus", "folder", *files, *devices, *SIZES, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = read_json(tmp_path / "exp" / "model" / "training.json")["stages"]
    assert [stage["steps"] for stage in stages.values()] == [1, 1, 1]
    description = read_json(tmp_path / "exp" / "model" / "model.json")
    assert description["sample_rate"] == 16000
    assert description["notes"]["training"]["optimiser"]["precision"] == "bf16-mixed"


def test_shipped_configurations_are_found_by_name(run: Run, librispeech: Path, tmp_path: Path) -> None:
    names = [
        "--config",
        "msdet_stages",
        "--scenes",
        "meeting",
        "--stop-stage",
        "0",
        "--dev-subsets",
        "dev-other",
    ]
    done = run("libri_spatial", "--speech", str(librispeech), "--exp", str(tmp_path / "exp"), *names)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "exp" / "speech").iterdir()) == [
        "SPEAKERS.TXT", "dev-other", "test-clean", "train-clean-100",
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_explains_its_options_and_refuses_others(recipe: str, run: Run) -> None:
    shown = run(recipe, "--help")
    assert shown.returncode == 0
    assert f"recipes/{recipe}/run.sh" in shown.stdout
    assert "--stop-stage N" in shown.stdout
    for option in re.findall(r"(?<!msdet )--[a-z][a-z0-9-]+", shown.stdout):
        if option != "--force":
            done = run(recipe, option)
            assert done.stderr == f"error: {option} needs a value\n"
    refused = run(recipe, "--sped", "x")
    assert refused.returncode == 2
    assert refused.stderr == "error: unknown option --sped (see --help)\n"


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("sms_wsj", [], "--sms-wsj is missing"),
        ("sms_wsj", ["--sms-wsj", "/nowhere"], "/nowhere: no such folder"),
        ("sms_wsj", ["--sms-wsj", "."], "sms_wsj.json: no such file; --json names another"),
        ("sms_wsj", ["--config", "lbd"], "--config is 'lbd', expected a YAML file or one of: lbt, msdet, "),
        ("spatial_wsj0_mix", [], "--wsj0 is missing"),
        ("spatial_wsj0_mix", ["--talkers", "4"], "--talkers is 4, expected 2 or 3"),
        ("spatial_wsj0_mix", ["--tree", ".", "--wsj0", "."], "--tree is a corpus of its own"),
        ("spatial_wsj0_mix", ["--tree", "."], "2speakers_reverb/wav8k/min/tr/mix: no such folder"),
        ("libri_spatial", [], "--speech is missing"),
        ("libri_spatial", ["--speech", "recipes"], "has no subset 'train-clean-100'; found demo, folder"),
    ],
)
def test_bad_options_are_one_line(
    recipe: str, options: list[str], message: str, run: Run, tmp_path: Path
) -> None:
    done = run(recipe, "--exp", str(tmp_path / "exp"), *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
