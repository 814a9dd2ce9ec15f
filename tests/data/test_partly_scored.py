"""Scenes without references or without directions: null with the reason, and no failure of a system."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from msdet.cli import main
from msdet.data.scene_set import MANIFEST, SceneSet
from msdet.errors import MsdetError
from msdet.inference.estimates import write_estimates
from msdet.io import audio
from msdet.io.files import read_jsonl, write_jsonl
from msdet.methods import build_method
from msdet.scenes.scene import NOWHERE, Scene
from msdet.scoring.doa_scores import DOA_FIELDS
from msdet.scoring.metrics import separation_fields
from msdet.scoring.score import score_set, score_unprocessed
from msdet.scoring.summary import summarize, summary_tables


def without_references(scene: Scene) -> Scene:
    return dataclasses.replace(scene, referenced=False)


def without_directions(scene: Scene) -> Scene:
    nan = float("nan")
    places = {"position_m": NOWHERE, "azimuth_deg": nan, "elevation_deg": nan, "distance_m": nan}
    sources = tuple(dataclasses.replace(s, **places) for s in scene.sources)  # type: ignore[arg-type]
    return dataclasses.replace(scene, sources=sources, located=False)


@pytest.fixture
def partly(dev_set: SceneSet, tmp_path: Path) -> SceneSet:
    """The first scene has no references, the second no directions, the third neither."""
    first, second, third = dev_set.scenes
    scenes = (without_references(first), without_directions(second), without_directions(without_references(third)))
    root = tmp_path / "partly"
    shutil.copytree(dev_set.root, root)
    write_jsonl(root / MANIFEST, [scene.to_dict() for scene in scenes])
    for scene in scenes:
        if not scene.referenced:
            for path in (root / "audio" / scene.id).glob("talker*.wav"):
                path.unlink()
    return SceneSet.open(root)


@pytest.fixture
def estimates(dev_set: SceneSet, tmp_path: Path) -> Path:
    """Perfect voices, and azimuths 3 degrees off, in the other order."""
    root = tmp_path / "estimates"
    rows = []
    for scene in dev_set.scenes:
        for n, voice in enumerate(dev_set.references(scene)[::-1], start=1):
            audio.write(root / scene.id / f"talker{n}.wav", voice, scene.sample_rate)
        azimuths_deg = (scene.azimuths_deg[::-1] + 3.0) % 360.0
        posterior = np.full(72, 0.01).tolist()
        rows.append({"id": scene.id, "azimuth_deg": azimuths_deg.tolist(), "posterior": [posterior]})
    write_jsonl(root / "doa.jsonl", rows)
    return root


def test_what_is_not_labeled_is_null_with_the_reason(partly: SceneSet, estimates: Path, tmp_path: Path) -> None:
    before = score_unprocessed(partly, tmp_path / "unprocessed.jsonl")
    rows = score_set(partly, estimates, tmp_path / "scores.jsonl", unprocessed=before)
    assert read_jsonl(tmp_path / "scores.jsonl") == rows
    assert [row["error"] for row in (*before, *rows)] == [None] * 6
    unreferenced, unlocated, neither = rows
    for row in (unreferenced, neither, before[0], before[2]):
        assert all(row[field] is None for field in separation_fields())
        assert {row["undefined"][field] for field in separation_fields()} == {"no references"}
    for row in (unlocated, neither):
        assert all(row[field] is None for field in DOA_FIELDS)
        assert {row["undefined"][field] for field in DOA_FIELDS} == {"directions are not known"}
        assert row["azimuth_deg"] == row["distance_m"] == [None, None]
        assert row["azimuth_gap_deg"] is None and row["straddles"] is None
    assert min(unlocated["si_sdr_db"]) > 50.0 and unlocated["permutation"] == [1, 0]
    assert unlocated["permutation_from"] == "si_sdr"
    assert unreferenced["doa_error_deg"] == unreferenced["doa_error_own_deg"] == pytest.approx([3.0, 3.0])
    assert (unreferenced["permutation"], unreferenced["permutation_from"]) == ([1, 0], "doa")
    assert unreferenced["undefined"]["doa_assigned"] == "no references"
    assert neither["permutation"] is None


def test_summary_counts_what_is_labeled(partly: SceneSet, estimates: Path, tmp_path: Path) -> None:
    systems = {
        "unprocessed": score_unprocessed(partly, tmp_path / "unprocessed.jsonl"),
        "given": score_set(partly, estimates, tmp_path / "scores.jsonl"),
    }
    summary = summarize(systems, by=["all"])
    assert (summary.compared["si_sdr_db"], summary.compared["doa_mae_deg"]) == (1, 1)
    assert summary.scores["given"]["si_sdr_db"].reasons == {"no references": 2}
    assert summary.scores["given"]["doa_mae_deg"].reasons == {"directions are not known": 2}
    notes = "\n".join(summary_tables(summary)[1])
    assert "not scored in 2 of 3 scenes (no references)" in notes
    assert "not scored in 2 of 3 scenes (directions are not known)" in notes


def test_commands_cope_and_exit_as_for_a_system_s_kind(partly: SceneSet, estimates: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    assert main(["score", str(partly.root), f"--estimates={estimates}", f"--out={out}", "--jobs=1"]) == 0
    assert (out / "estimates" / "curves.json").is_file()
    arguments = ["--methods=[srp_phat,oracle_irm]", f"--out={tmp_path / 'evaluation'}", "--jobs=1"]
    assert main(["evaluate", str(partly.root), *arguments]) == 0
    (row, *_) = read_jsonl(tmp_path / "evaluation" / "srp_phat" / "scores.jsonl")
    assert row["undefined"]["si_sdr_db"] == "no audio estimates" and row["doa_error_deg"] is not None


def test_nothing_to_score_by_is_one_line(
    partly: SceneSet, estimates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(partly.root / MANIFEST, [partly.scenes[2].to_dict()])
    out = tmp_path / "scores"
    assert main(["score", str(partly.root), f"--estimates={estimates}", f"--out={out}", "--jobs=1"]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    assert "nothing could be scored" in line


def test_oracles_are_not_told_what_nobody_knows(partly: SceneSet, tmp_path: Path) -> None:
    steered = {2: build_method("superdirective,doa=oracle", partly.array, 8000, 2)}
    masks = {2: build_method("oracle_irm", partly.array, 8000, 2)}
    one = dataclasses.replace(partly, scenes=partly.scenes[:2])
    write_estimates(one, masks, tmp_path / "masks")
    assert [p.name for p in sorted((tmp_path / "masks").iterdir()) if p.is_dir()] == [partly.scenes[1].id]
    unlocated = dataclasses.replace(partly, scenes=partly.scenes[1:2])
    with pytest.raises(MsdetError, match=r"directions are not known$"):
        write_estimates(unlocated, steered, tmp_path / "steered")
