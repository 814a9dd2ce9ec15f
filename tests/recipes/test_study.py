"""The study's small run, and how it answers."""

from __future__ import annotations

import importlib.util
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from msdet.corpora import SPLITS, load_corpus
from msdet.errors import MsdetError
from msdet.io.files import read_jsonl
from msdet.scoring.comparison import Difference

Run = Callable[..., CompletedProcess[str]]
LOCAL = Path(__file__).resolve().parents[2] / "recipes" / "study" / "local"
SIZES = ["--train-scenes", "4", "--dev-scenes", "1", "--test-scenes", "2", "--other-scenes", "1", "--steps", "1"]
SIZES += ["--nj", "1", "--runs", "azimuth_joint-0 azimuth_separation-0", "--references", "[srp_beam]"]
BUDGETS = ("000001", "000002", "000004", "000008", "000016")
ELSEWHERE = ("test_long_t60", "test_noise", "test_misplaced")


@pytest.fixture(scope="module")
def talkers(tmp_path_factory: pytest.TempPathFactory, talkers: Path) -> Path:
    """Enough for three of a scene and one more, who babbles."""
    folder = tmp_path_factory.mktemp("study_talkers")
    table = (talkers / "speakers.tsv").read_text()
    for path in talkers.glob("s*"):
        (folder / path.name).symlink_to(path)
        (folder / f"more_{path.name}").symlink_to(path)
    more = "".join(f"more_{line}" for line in table.splitlines(keepends=True)[1:])
    (folder / "speakers.tsv").write_text(table + more)
    return folder


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory, run: Run, talkers: Path) -> Path:
    """Two trainings of 16 steps, scored."""
    folder = tmp_path_factory.mktemp("study")
    done = run("study", "--speech", str(talkers), "--exp", str(folder), *SIZES)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def results() -> Iterator[ModuleType]:
    """The recipe's script."""
    sys.path.insert(0, str(LOCAL))
    try:
        spec = importlib.util.spec_from_file_location("study_results", LOCAL / "results.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["study_results"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(LOCAL))


def script(name: str) -> ModuleType:
    """One of those beside it, which it has imported."""
    return sys.modules[name]


def read_settings(results: ModuleType) -> Callable[[Path], dict[str, Any]]:
    """What reads a row's file."""
    reads: Callable[[Path], dict[str, Any]] = script("list_runs")._settings
    return reads


def page_of(exp: Path) -> str:
    return (exp / "results" / "RESULTS.md").read_text()


def lines_of(page: str, title: str, start: str) -> list[list[str]]:
    """Cells of a table's lines that start so."""
    table = page.partition(f"### {title}\n")[2].partition("\n#")[0]
    rows = [x.strip("|").split("|") for x in table.splitlines() if x.startswith(f"| {start}")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_row_has_its_scores_and_its_training(exp: Path) -> None:
    page = page_of(exp)
    for row in ("unprocessed", "srp_beam", "azimuth_joint", "azimuth_separation"):
        assert len(lines_of(page, "Scores at the largest budget, 3 talkers", f"{row} ")) == 1
    for row in ("azimuth_joint", "azimuth_separation"):
        [[_, _, seeds, parameters, steps, hours, *_]] = lines_of(page, "Trainings", f"`{row}` ")
        assert (seeds, steps) == ("1", "16")
        assert 55_000 < int(parameters.replace(",", "")) < 65_000
        seconds = int((exp / "logs" / f"{row}-0.seconds").read_text())
        assert hours == f"{seconds / 3600:.2f}" and seconds > 0
        assert len(lines_of(page, "Other rooms, noise and microphones", f"`{row}` ")) == 1
    for figure in ("claims", "along", "curves"):
        assert f"]({figure}.png)" in page
        assert (exp / "results" / f"{figure}.png").stat().st_size > 5000


def number(cell: str) -> float:
    return float(cell.split("[")[0].replace("−", "-"))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory, results: ModuleType) -> dict[str, Any]:
    """Scores of two rows, three seeds each, made up: both tasks are worth 1 dB. Their folder and the gains in it."""
    folder = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(3)
    scenes = rng.normal(0.0, 2.0, (60, 3))
    gains: dict[tuple[str, int, str], Any] = {}
    for row, gain in (("azimuth_joint", 1.0), ("azimuth_separation", 0.0)):
        for seed in range(3):
            rows = {}
            for budget, name in enumerate(BUDGETS):
                values = scenes + gain * budget / 4 + np.minimum(budget, 3) + rng.normal(0.0, 0.2, scenes.shape)
                gains[row, seed, name] = values
                rows[name] = [
                    {"id": f"{n}", "azimuth_deg": [10.0, 130.0, 250.0], "si_sdr_improvement_db": [*map(float, of)]}
                    | {"doa_error_own_deg": [0.0, 20.0, 2.0]}
                    for n, of in enumerate(values)
                ]
            rows |= dict.fromkeys(ELSEWHERE, rows[BUDGETS[-1]])
            noted = {"scenes": 60, "hash": "abc", "sample_rate": 8000, "array": "circular6_10cm"}
            facts = {"steps": [*map(int, BUDGETS)], "seconds": 3600.0, "parameters": 1000, "sets": {"test": noted}}
            script("kept").write_kept(folder / f"{row}-{seed}.jsonl.xz", script("kept").Kept(facts, rows))
    return {"folder": folder, "gains": gains}


def test_differences_are_those_of_the_rows_at_every_budget(
    synthetic: dict[str, Any], results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    page = results.results(synthetic["folder"], tmp_path, "command", [])
    gains = synthetic["gains"]
    by_seed = [
        [float(np.mean(gains["azimuth_joint", seed, b] - gains["azimuth_separation", seed, b])) for b in BUDGETS]
        for seed in range(3)
    ]
    [claimed] = lines_of(page, "Main claims at the largest budget", "Does the DoA task help separation, in azimuth")
    assert number(claimed[3]) == pytest.approx(np.mean([of[-1] for of in by_seed]), abs=0.006)
    assert [number(x) for x in claimed[5].split(",")] == pytest.approx([of[-1] for of in by_seed], abs=0.006)
    assert claimed[6:] == ["better", "still rising"]  # one still gains 0.25 dB a doubling
    [along] = lines_of(page, "Along the budget", "`azimuth_joint` less `azimuth_separation` ")
    assert [number(cell) for cell in along[2:]] == pytest.approx(np.mean(by_seed, axis=0), abs=0.006)
    [joint] = lines_of(page, "Trainings", "`azimuth_joint`")
    [alone] = lines_of(page, "Trainings", "`azimuth_separation`")
    assert (joint[-1], alone[-1]) == ("rising", "flat")
    assert joint[5] == "1.00"
    assert "**Does the DoA task help separation, in azimuth order?** Better: +" in page
    assert "after 16 steps (1.00 core-hours), 3 of 3 seeds; not the end of learning" in page
    [scores] = lines_of(page, "Scores at the largest budget, 3 talkers", "azimuth_joint ")
    assert [number(cell) for cell in scores[3:]] == pytest.approx([22.0 / 3, 200.0 / 3, 200.0 / 3], abs=0.1)
    [elsewhere] = lines_of(page, "Other rooms, noise and microphones", "`azimuth_joint`")
    assert len(elsewhere) == 9 and elsewhere[1] == elsewhere[3] == elsewhere[5] == elsewhere[7]


def test_the_results_beside_the_recipe_are_those_of_the_scores_beside_it(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    page = (LOCAL.parent / "RESULTS.md").read_text()
    command = next(line.strip() for line in page.splitlines() if line.startswith("    "))
    assert results.results(LOCAL.parent / "scores", tmp_path, command, []) == page


def test_a_claim_of_one_seed_has_no_verdict(
    synthetic: dict[str, Any], results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    page = results.results(synthetic["folder"], tmp_path, "command", ["azimuth_joint-0", "azimuth_separation-0"])
    assert "1 of 3 seeds (their interval is over scenes alone); not the end" in page
    [claimed] = lines_of(page, "Main claims at the largest budget", "Does the DoA task help separation, in azimuth")
    assert claimed[3].endswith("[-, -]") and claimed[6] == ""
    assert "?** No verdict yet: +" in page


def test_a_head_that_was_not_taught_has_no_scores(exp: Path) -> None:
    [line] = lines_of(page_of(exp), "Scores at the largest budget, 3 talkers", "azimuth_separation ")
    assert line[2] != "-"
    assert line[3:] == ["-"] * 3


def test_what_is_finished_is_not_repeated(exp: Path, run: Run, talkers: Path) -> None:
    done = [*exp.glob("runs/*/model.safetensors"), *exp.glob("logs/*.seconds"), *exp.glob("scores/*.xz")]
    done += exp.glob("evaluation/**/summary.json")
    before = [path.stat().st_mtime_ns for path in done]
    again = run("study", "--speech", str(talkers), "--exp", str(exp), *SIZES, "--stop-stage", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(done) == 2 + 2 + 3 + 2 * (len(BUDGETS) + len(ELSEWHERE)) + 1
    assert before == [path.stat().st_mtime_ns for path in done]


def test_a_training_whose_scores_are_kept_is_not_made_again(exp: Path, run: Run, talkers: Path, tmp_path: Path) -> None:
    for name in ("3", "speech.list"):
        (tmp_path / name).symlink_to(exp / name)
    options = ["--speech", str(talkers), "--exp", str(tmp_path), "--scores", str(exp / "scores"), *SIZES]
    done = run("study", *options, "--stage", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "runs").exists() and not (tmp_path / "evaluation").exists()
    assert page_of(tmp_path).splitlines()[6:] == page_of(exp).splitlines()[6:]


def test_other_test_scenes_are_evaluated(exp: Path, run: Run, talkers: Path) -> None:
    done = [exp / "evaluation" / f"azimuth_joint-0/{what}/summary.json" for what in (*BUDGETS, *ELSEWHERE)]
    before = [path.stat().st_mtime_ns for path in done]
    (exp / "3" / "test" / "dataset.json").touch()
    (exp / "scores" / "azimuth_joint-0.jsonl.xz").unlink()
    again = run("study", "--speech", str(talkers), "--exp", str(exp), *SIZES, "--stage", "3", "--stop-stage", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    newer = [path.stat().st_mtime_ns > then for path, then in zip(done, before, strict=True)]
    assert newer == [True] * len(BUDGETS) + [False] * len(ELSEWHERE)


@pytest.mark.parametrize("text", ["", "# Only words.", "model: {talkers: 2}"])
def test_a_row_changes_what_it_names(results: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "row.yaml").write_text(text)
    base = read_settings(results)(script("list_runs").BASE)
    own = read_settings(results)(tmp_path / "row.yaml")
    assert own["model"]["talkers"] == (2 if "talkers" in text else 3)
    assert own["objective"] == base["objective"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "model: [1]\n", "model: {a: [}\n"])
def test_a_row_that_is_no_settings_is_one_line(results: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "row.yaml").write_text(text)
    with pytest.raises(MsdetError, match=r"row.yaml: expected sections of settings, as in .*base.yaml$"):
        read_settings(results)(tmp_path / "row.yaml")


def test_a_bad_option_of_training_ends_with_its_code(exp: Path, run: Run, talkers: Path, tmp_path: Path) -> None:
    (tmp_path / "3").symlink_to(exp / "3")
    options = ["--speech", str(talkers), "--exp", str(tmp_path), *SIZES, "--stage", "2"]
    done = run("study", *options, "--precision", "foo")
    assert done.returncode == 2
    assert "azimuth_joint-0: failed (exit code 2), see" in done.stdout


def test_a_row_alone_has_a_page_without_claims(
    exp: Path, results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    (tmp_path / "claims.png").write_bytes(b"of an earlier run")
    page = results.results(exp / "scores", tmp_path, "command", ["azimuth_joint"])
    assert "| azimuth_joint " in page and "azimuth_separation" not in page
    assert "claims.png" not in page and not (tmp_path / "claims.png").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", r"azimuth_joint-1.jsonl.xz: not the kept scores of a training \(Compressed"),
        ("no row", r"azimuth_joint-1.jsonl.xz, line 2: not a row of scores, 'of' is missing"),
        ("no facts", r"azimuth_joint-1.jsonl.xz, line 1: does not say what the training was"),
        ("a budget less", r"azimuth_joint-1.jsonl.xz: holds no scores after 16 steps"),
        ("gone", r"holds no scores of the study's rows"),
        ("another seed has other scenes", r"are not scored on the same scenes: 1 are in one alone"),
    ],
)
def test_scores_that_do_not_serve_are_one_line(
    exp: Path, results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, message: str
) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    first, second = (tmp_path / f"azimuth_joint-{seed}.jsonl.xz" for seed in (0, 1))
    for path in (first, second):
        shutil.copy(exp / "scores" / "azimuth_joint-0.jsonl.xz", path)
    facts, *rows = lzma.decompress(second.read_bytes()).decode().splitlines(keepends=True)
    if damage == "cut":
        second.write_bytes(second.read_bytes()[:-20])
    elif damage == "no row":
        second.write_bytes(lzma.compress((facts + '{"id": "a"}\n').encode()))
    elif damage == "no facts":
        second.write_bytes(lzma.compress("".join(["{}\n", *rows]).encode()))
    elif damage == "a budget less":
        second.write_bytes(lzma.compress("".join([facts, *(r for r in rows if BUDGETS[-1] not in r)]).encode()))
    elif damage == "gone":
        first.unlink()
        second.unlink()
    else:
        second.write_bytes(lzma.compress("".join([facts, *rows[::2]]).encode()))
    with pytest.raises(MsdetError, match=message):
        results.results(tmp_path, tmp_path, "command", [])


def test_kept_scores_are_those_of_the_evaluation(exp: Path, results: ModuleType) -> None:
    kept = script("kept").read_kept(exp / "scores" / "azimuth_joint-0.jsonl.xz")
    assert [*kept.rows] == [*BUDGETS, *ELSEWHERE]
    for name, rows in kept.rows.items():
        full = read_jsonl(exp / "evaluation" / "azimuth_joint-0" / name / "model" / "scores.jsonl")
        assert [row["id"] for row in rows] == [row["id"] for row in full]
        for key in ("azimuth_deg", "si_sdr_improvement_db", "doa_error_own_deg"):
            values = [row[key] for row in rows]
            assert np.allclose(values, [row[key] for row in full], atol=0.0051 if key.endswith("_db") else 0.051)


@pytest.mark.parametrize(("part", "speakers"), [("tenth", 4), ("third", 7)])
def test_a_part_of_the_data_has_fewer_talkers(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, speakers: int
) -> None:
    lines = ["speaker\tsplit"]
    for number in range(60):
        (tmp_path / f"s{number:02}").mkdir()
        soundfile.write(tmp_path / f"s{number:02}" / "a.wav", np.full(800, 0.1), 8000)
        lines.append(f"s{number:02}\t{('train', 'dev', 'test')[number // 20]}")
    (tmp_path / "speakers.tsv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(sys, "path", [str(LOCAL), *sys.path])
    monkeypatch.setenv("WHOLE_CORPUS", "folder")
    found = load_corpus(f"part_of_corpus:{part}", tmp_path).utterances
    assert {split: len({u.speaker for u in found if u.split == split}) for split in SPLITS} == dict.fromkeys(
        SPLITS, speakers
    )


def test_core_hours_are_of_the_cpu_where_the_recipe_starts_the_training_itself(tmp_path: Path) -> None:
    function = (LOCAL.parent / "run.sh").read_text().partition("used_seconds() {")[2].partition("\n}\n")[0]
    times = "times() { printf '0m0.010s 0m0.004s\\n1m5.250s 0m3.004s\\n'; }"
    calls = "train_cmd=; used_seconds 0 a; used_seconds 0 a; SECONDS=7; train_cmd=queue; used_seconds 2 b"
    text = f"set -euo pipefail\nused_seconds() {{{function}\n}}\n{times}\n{calls}"
    subprocess.run(["bash", "-c", text], cwd=tmp_path, check=True)
    assert (tmp_path / "a.seconds").read_text() == "68\n68\n"
    assert (tmp_path / "b.seconds").read_text() == "5\n"


def test_rows_are_what_their_configurations_say(results: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    runs = {run.row: run for run in script("list_runs").all_runs()}
    assert {run.row for run in runs.values() if run.talkers == 2} == {
        r for r in runs if r.startswith(("two_azimuth", "two_pit"))
    }
    assert runs["azimuth_doa"].tasks == ("directions",)
    assert runs["pit_separation"].tasks == ("separation",)
    assert runs["steered_separation"].tasks == runs["azimuth_joint"].tasks == ("separation", "directions")


def test_an_unknown_row_is_one_line(run: Run, talkers: Path, tmp_path: Path) -> None:
    options = ["--speech", str(talkers), "--exp", str(tmp_path), "--runs", "azimuth_joined"]
    done = run("study", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: unknown row of the study 'azimuth_joined'; did you mean 'azimuth_joint'?"
    ]


@pytest.mark.parametrize(
    ("low", "high", "seeds", "verdict"),
    [
        (0.1, 0.3, [0.2, 0.21, 0.19], "better"),
        (-0.3, -0.1, [-0.2, -0.21, -0.19], "worse"),
        (0.1, 0.3, [0.05, 0.35, 0.2], "not shown"),
        (-0.1, 0.3, [0.1, 0.11, 0.12], "not shown"),
        (0.1, 0.3, [0.21, 0.2, -0.001], "not shown"),
        (-0.3, -0.1, [0.0, -0.2, -0.2], "not shown"),
        (-0.3, -0.1, [-1e-17, -0.2, -0.2], "not shown"),
        (0.1, 0.3, [0.2, 0.21], ""),
    ],
)
def test_a_verdict_needs_the_interval_and_every_seed(
    results: ModuleType, low: float, high: float, seeds: list[float], verdict: str
) -> None:
    difference = Difference(1.0, 0.8, (low + high) / 2, low, high, 0.01, 300)
    claim = results.MAIN[0]
    [answer] = results.with_scatter([results.Answer(claim, claim.metrics[0], [1.0], [difference], [seeds], 3)])
    assert answer.verdict == verdict


def test_an_interval_is_of_scenes_and_of_seeds(results: ModuleType) -> None:
    claim, difference = results.MAIN[0], Difference(1.0, 0.8, 0.2, 0.1, 0.4, 0.01, 300)
    seeds = [[0.1, 0.2, 0.3], [0.0, 0.0, 0.3]]
    found = [results.Answer(claim, claim.metrics[0], [1.0], [difference], [of], 3) for of in seeds]
    answer, _ = results.with_scatter(found)
    assert answer.freedom == 4
    assert answer.scatter == pytest.approx([np.sqrt((0.02 + 0.06) / 4)])
    of_seeds = 2.776 * answer.scatter[0] / np.sqrt(3)  # Student's t, 4 degrees of freedom
    assert answer.interval() == pytest.approx((0.2 - np.hypot(0.1, of_seeds), 0.2 + np.hypot(0.2, of_seeds)), abs=1e-3)


def test_budgets_are_equal_in_core_hours(results: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    for run in script("list_runs").all_runs():
        budgets = run.budgets()
        assert len(budgets) == (5 if run.group == "main" else 3)
        assert [b / budgets[0] for b in budgets] == [2**k for k in range(len(budgets))]
        assert budgets[0] * run.cost == pytest.approx(256, rel=0.005)


def test_claims_are_of_rows_that_there_are(results: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(LOCAL.parents[2])
    groups = {run.row: run.group for run in script("list_runs").all_runs()}
    for claim in results.MAIN:
        assert groups[claim.first] == groups[claim.second] == "main"
    for claim in results.AROUND:
        assert groups[claim.first] == "around" and claim.second in groups
    named = {row for claim in results.MAIN + results.AROUND for row in claim[1:3]}
    assert named == {*groups}


def test_seeds_are_pooled_within_a_scene(results: ModuleType) -> None:
    runs = [
        [{"id": "a", "azimuth_deg": [10.0, 90.0], "si_sdr_db": [1.0, 2.0], "t60_s": 0.3}],
        [{"id": "a", "azimuth_deg": [10.0, 90.0], "si_sdr_db": [3.0, 4.0], "t60_s": 0.3}],
    ]
    expected = {"id": "a", "azimuth_deg": [10.0, 90.0], "si_sdr_db": [1.0, 2.0, 3.0, 4.0], "t60_s": 0.3}
    assert script("scored").pooled(runs) == [expected]
