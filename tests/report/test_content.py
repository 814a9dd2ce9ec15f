"""What the report reads: systems, which of them it is about, and the scenes that it shows."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.io.files import read_json, read_jsonl, write_json, write_jsonl
from msdet.report.content import Evaluation, in_order, read_evaluation
from msdet.report.examples import choose_scenes, read_example
from msdet.scoring.provenance import write_provenance
from msdet.scoring.submission import DoaEstimates, Track


def examples(evaluation: Evaluation) -> list[Any]:
    by_id = {scene.id: scene for scene in evaluation.scene_set.scenes}
    return [read_example(evaluation, by_id[key], title) for key, title in choose_scenes(evaluation).items()]


def test_the_report_is_about_the_model_or_the_best_or_the_chosen_one(evaluation: Path, data: Path) -> None:
    assert list(read_evaluation(evaluation, data).systems) == ["model", "srp_beam", "unprocessed"]
    assert next(iter(read_evaluation(evaluation, data, "unprocessed").systems)) == "unprocessed"
    assert list(read_evaluation(evaluation, data, "srp_beam").systems) == ["srp_beam", "model", "unprocessed"]
    (evaluation / "model").rename(evaluation / "zz_best")
    assert list(read_evaluation(evaluation, data).systems) == ["zz_best", "srp_beam", "unprocessed"]
    shutil.rmtree(evaluation / "zz_best")
    shutil.rmtree(evaluation / "srp_beam")
    assert read_evaluation(evaluation, data).chosen.name == "unprocessed"


def test_an_oracle_is_no_headline_while_there_is_another_system(evaluation: Path, data: Path) -> None:
    (evaluation / "model").rename(evaluation / "oracle_irm")  # by far the best; known by its name
    found = read_evaluation(evaluation, data)
    assert list(found.systems) == ["srp_beam", "oracle_irm", "unprocessed"]
    assert found.oracles == ["oracle_irm"]
    identity = found.scene_set.identity
    place = evaluation / "oracle_irm" / "estimates"
    write_provenance(evaluation / "oracle_irm", identity, place, is_oracle=False)  # a name may deceive
    assert read_evaluation(evaluation, data).chosen.name == "oracle_irm"
    write_provenance(evaluation / "oracle_irm", identity, place, is_oracle=True)
    write_provenance(evaluation / "srp_beam", identity, evaluation / "srp_beam" / "estimates", is_oracle=True)
    assert read_evaluation(evaluation, data).chosen.name == "oracle_irm"  # none but oracles: the best of them
    assert read_evaluation(evaluation, data, "srp_beam").chosen.name == "srp_beam"


def test_estimates_are_found_where_they_were_scored(evaluation: Path, data: Path, tmp_path: Path) -> None:
    identity = read_evaluation(evaluation, data).scene_set.identity
    theirs = tmp_path / "theirs"
    (evaluation / "model" / "estimates").rename(theirs)
    with pytest.raises(MsdetError, match="model/estimates: no such folder; say where by --estimates model="):
        read_evaluation(evaluation, data)
    write_provenance(evaluation / "model", identity, theirs)
    assert read_evaluation(evaluation, data).chosen.estimates == theirs.resolve()
    given = shutil.copytree(theirs, tmp_path / "given")
    assert read_evaluation(evaluation, data, estimates={"model": given}).chosen.estimates == given
    theirs.rename(tmp_path / "elsewhere")
    with pytest.raises(MsdetError, match="theirs: no such folder; say where by --estimates model=FOLDER"):
        read_evaluation(evaluation, data)
    own = shutil.copytree(given, evaluation / "model" / "estimates")  # brought home since
    assert read_evaluation(evaluation, data).chosen.estimates == own


def test_scores_that_name_another_data_set_are_refused(evaluation: Path, data: Path) -> None:
    write_provenance(evaluation / "model", "another", evaluation / "model" / "estimates")
    with pytest.raises(MsdetError, match=r"model: was scored on a data set with hash another, .* has x"):
        read_evaluation(evaluation, data)


def test_examples_are_best_median_and_worst(evaluation: Path, data: Path) -> None:
    found = examples(read_evaluation(evaluation, data))
    assert [example.title for example in found] == ["Best scene", "Median scene", "Worst scene"]
    rows = read_jsonl(evaluation / "model" / "scores.jsonl")
    gains = {row["id"]: np.mean(row["si_sdr_improvement_db"]) for row in rows}
    ranked = sorted(gains, key=lambda scene_id: -gains[scene_id])
    assert [example.scene.id for example in found] == [ranked[0], ranked[2], ranked[3]]
    for example in found:
        assert example.score == pytest.approx(gains[example.scene.id])
        assert list(example.outputs) == ["model", "srp_beam"]
        output = example.outputs["model"]
        # estimates come back in the talkers' order (they were written in the other one) and at their level
        offset_deg = 40.0 if example.scene.id == "scene3" else 3.0
        assert np.allclose(output.directions.azimuth_deg, example.scene.azimuths_deg + offset_deg)
        assert np.allclose(output.waveforms.std(axis=1), example.references.std(axis=1), rtol=1e-3)
        for waveform, reference in zip(output.waveforms, example.references, strict=True):
            assert np.corrcoef(waveform, reference)[0, 1] > 0.9


def test_chosen_scenes_come_after_those_and_once(evaluation: Path, data: Path) -> None:
    found = read_evaluation(evaluation, data)
    chosen = choose_scenes(found)
    left = next(scene.id for scene in found.scene_set.scenes if scene.id not in chosen)
    worst = list(chosen)[-1]
    assert choose_scenes(found, [left, worst, left]) == {**chosen, left: "Chosen scene"}


def test_pairs_and_errors_are_of_the_same_talkers(evaluation: Path, data: Path) -> None:
    model = read_evaluation(evaluation, data).chosen
    truth_deg, estimate_deg = model.azimuth_pairs()
    assert truth_deg.tolist() == [350.0, 20.0, 90.0, 200.0, 180.0, 190.0, 30.0, 300.0]
    assert np.allclose(estimate_deg - truth_deg, [3.0] * 6 + [40.0] * 2)
    truth_deg, error_deg, confidence = model.of_talkers("azimuth_deg", "doa_error_deg", "doa_confidence")
    assert truth_deg.size == 8
    assert np.allclose(error_deg, [3.0] * 6 + [40.0] * 2)
    assert confidence.tolist() == [0.8, 0.9] * 3 + [0.7, 0.3]  # the files are in the other order


def test_everything_of_a_direction_is_reordered() -> None:
    found = DoaEstimates(
        azimuth_deg=np.array([10.0, 20.0]),
        elevation_deg=np.array([1.0, 2.0]),
        confidence=np.array([0.1, 0.2]),
        posterior=np.array([[1.0, 0.0], [0.0, 1.0]]),
        track=Track(np.array([0.0, 1.0]), np.array([[10.0, 11.0], [20.0, 21.0]])),
    )
    turned = in_order(found, np.array([1, 0]))
    assert turned.azimuth_deg.tolist() == [20.0, 10.0]
    assert turned.elevation_deg is not None
    assert turned.elevation_deg.tolist() == [2.0, 1.0]
    assert turned.confidence is not None
    assert turned.confidence.tolist() == [0.2, 0.1]
    assert turned.posterior is not None
    assert turned.posterior.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert turned.track is not None
    assert turned.track.azimuth_deg.tolist() == [[20.0, 21.0], [10.0, 11.0]]
    shared = in_order(dataclasses.replace(found, posterior=np.array([[0.5, 0.5]])), np.array([1, 0]))
    assert shared.posterior is not None
    assert shared.posterior.shape == (1, 2)


def test_scores_of_another_data_set_are_refused(evaluation: Path, data: Path) -> None:
    scenes = read_jsonl(data / "scenes.jsonl")
    scenes[1]["sources"][0]["azimuth_deg"] = 91.0
    write_jsonl(data / "scenes.jsonl", scenes)
    with pytest.raises(MsdetError, match=r"'scene1' has talkers at 90\.0°, 200\.0°, in .* at 91\.0°, 200\.0°"):
        read_evaluation(evaluation, data)


def test_estimates_of_another_data_set_are_refused(evaluation: Path, data: Path) -> None:
    header = read_json(data / "dataset.json")
    write_json(evaluation / "model" / "estimates" / "data.json", {"hash": header["hash"] + "y"})
    with pytest.raises(MsdetError, match="model/estimates: was made for a data set with hash xy"):
        read_evaluation(evaluation, data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: [], "has no scores"),
        (lambda rows: [rows[0], rows[0]], "line 2: scene 'scene0' was in an earlier line"),
        (lambda rows: [{"id": "scene0"}], "line 1: not a row of scores, 'azimuth_deg' is missing"),
        (lambda rows: [1], "line 1: not a row of scores"),
        (lambda rows: [row | {"id": f"other{n}"} for n, row in enumerate(rows)], "scene 'other0' is not in"),
        (lambda rows: rows[:2], "are not scored on the same scenes"),
    ],
)
def test_faulty_scores(evaluation: Path, data: Path, spoil: Callable[[list[Any]], list[Any]], message: str) -> None:
    path = evaluation / "model" / "scores.jsonl"
    write_jsonl(path, spoil(read_jsonl(path)))
    with pytest.raises(MsdetError, match=message):
        read_evaluation(evaluation, data)


def test_directions_that_are_not_those_scored_are_told(evaluation: Path, data: Path) -> None:
    write_jsonl(evaluation / "model" / "estimates" / "doa.jsonl", [{"id": "scene0", "azimuth_deg": [1.0]}])
    with pytest.raises(MsdetError, match="scene 'scene0' is not what was scored"):
        read_evaluation(evaluation, data).chosen.azimuth_pairs()


def test_nothing_to_rank(evaluation: Path, data: Path) -> None:
    path = evaluation / "model" / "scores.jsonl"
    nothing = {"si_sdr_improvement_db": None, "doa_error_deg": None}
    write_jsonl(path, [row | nothing for row in read_jsonl(path)])
    with pytest.raises(MsdetError, match=r"no scene of 'model' is scored \(no metric has a value\)"):
        choose_scenes(read_evaluation(evaluation, data))
