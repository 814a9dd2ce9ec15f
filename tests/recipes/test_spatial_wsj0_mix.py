"""The recipe of spatialized WSJ0-mix: mixtures drawn, those of the lists, and the corpus itself, made up."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from msdet.data.scene_set import SceneSet
from msdet.io.files import read_json

Run = Callable[..., subprocess.CompletedProcess[str]]
WriteText = Callable[..., str]
RECIPE, ARRAY = "spatial_wsj0_mix", ("--array", "circular4_5cm")


def test_spatial_wsj0_mix_draws_three_talkers(
    run_twice: Callable[..., str],
    wsj0: Path,
    tiny: WriteText,
    small_rooms: WriteText,
    quick: list[str],
    sizes: list[str],
    tmp_path: Path,
) -> None:
    files = ["--wsj0", str(wsj0), "--config", tiny(), "--scenes", small_rooms(minimum_gap_deg=10)]
    results = run_twice(RECIPE, *files, "--talkers", "3", *ARRAY, *sizes, *quick, stages=6)
    assert "training (si_tr_s), dev (si_dt_05) and test (si_et_05) are disjoint." in results
    assert "2 steps of 2 mixtures" in results
    assert read_json(tmp_path / "exp" / "model" / "model.json")["model"]["talkers"] == 3


def test_spatial_wsj0_mix_renders_the_mixtures_of_the_lists(
    run_to_table: Callable[..., str],
    wsj0: Path,
    lists: Callable[[int], Path],
    tiny: WriteText,
    small_rooms: WriteText,
    quick: list[str],
    tmp_path: Path,
) -> None:
    lengths = "model:\n  encoder_options: {size: tiny}\ndata: {batch_seconds: 6.0, workers: 0}\n"
    files = ["--wsj0", str(wsj0), "--lists", str(lists(2)), "--config", tiny(lengths), "--scenes", small_rooms()]
    results = run_to_table(RECIPE, *files, *ARRAY, *quick)
    assert "Talkers of dev are among those of training" in results
    first = SceneSet.open(tmp_path / "exp" / "test").scenes[0]
    assert first.id == "440o0300_0.7000_441o0300_-0.3000"
    assert [source.level_db for source in first.sources] == [0.7, -0.3]
    assert [source.path for source in first.sources] == [f"si_et_05/{t}/{t}o0300.wv1" for t in ("440", "441")]
    assert first.samples == 7000  # the shortest utterance, from its start, at 8 kHz


def test_list_that_does_not_fit_is_refused(run: Run, wsj0: Path, tmp_path: Path, lists: Callable[[int], Path]) -> None:
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


def test_spatialized_tree_is_trained_on_separation_alone(
    run_to_table: Callable[..., str], spatialized: Path, shipped: WriteText, quick: list[str], tmp_path: Path
) -> None:
    options = ["--tree", str(spatialized), "--config", shipped(RECIPE, "separation"), "--workers", "0", *quick]
    assert "separation alone" in run_to_table(RECIPE, *options)
    test = SceneSet.open(tmp_path / "exp" / "test")
    assert test.array.microphones == 8
    assert test.unlabeled() == {"directions": 2}
