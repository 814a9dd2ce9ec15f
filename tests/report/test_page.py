"""The report as a page: numbers, pictures and sound of a small evaluation, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from msdet import cli
from msdet.commands.report import report
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import read_jsonl, write_json, write_jsonl
from msdet.plots import scores
from msdet.report import page as page_module
from msdet.report.content import read_evaluation
from msdet.report.page import Report
from msdet.scoring.score import score_set, score_unprocessed

HOSTILE = """a<img src=x onerror=hacked=1>&"c"'$x${{ 7*7 }}"""
IMAGES = {
    "breakdown_si_sdr_improvement_db.png", "breakdown_doa_mae_deg.png", "doa_polar.png", "doa_confusion.png",
    "improvement.png", "calibration.png", "learning_curves.png", "scene.png",
}  # fmt: skip


class Elements(HTMLParser):
    """All elements of a page with their attributes, its text, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.text, self.scripts, self.open = "", [""], [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "hr", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def of(self, *tags: str) -> list[dict[str, Any]]:
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture
def elements(page: Path) -> Elements:
    found = Elements(page.read_text(encoding="utf-8"))
    assert found.open == [""]
    return found


def test_everything_is_on_the_page(page: Path, elements: Elements, evaluation: Path, data: Path, built: Path) -> None:
    for title in (
        "Results", "By condition", "Two conditions at once", "Directions", "Confidence", "Training",
        "All scenes", "Scenes to see and hear", "Best scene", "Median scene", "Worst scene",
    ):  # fmt: skip
        assert title in elements.text
    assert {path.name for path in (built / "images").iterdir()} == IMAGES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (built / "images").iterdir())
    summary = read_evaluation(evaluation, data).summary
    for key, decimals in (("si_sdr_improvement_db", 2), ("doa_mae_deg", 1), ("stoi", 3)):
        interval = summary.scores["srp_beam"][key].interval
        assert interval is not None
        for value in (interval.value, interval.low, interval.high):
            assert f"{value:.{decimals}f}".replace("-", "−") in elements.text
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text
    assert HOSTILE in elements.text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert len(text) < 12e6


def test_the_head_says_what_was_scored_and_the_cards_whose_scores_they_are(evaluation: Path, data: Path) -> None:
    provenance = {"data": None, "estimates": "estimates", "oracle": False, "about": ["my net", "1,234 parameters"]}
    write_json(evaluation / "model" / "system.json", provenance)
    os.utime(evaluation / "model" / "scores.jsonl", (1e9, 1e9))
    text = Report(evaluation, data).html
    head = text.partition("<nav")[0]
    assert "model: my net; 1,234 parameters" in head
    assert "Scored on 2001-09-09 by SI-SDR, SDR, STOI" in head
    assert re.search(r"<h3><span class=.mark.[^>]*></span>model</h3>\s*<p[^>]*>Its scores", text)
    write_json(evaluation / "model" / "system.json", provenance | {"about": "my net"})
    with pytest.raises(MsdetError, match="about is 'my net', expected list or null"):
        Report(evaluation, data)


def test_a_roc_of_few_wrong_directions_is_left_out(
    evaluation: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ROC" not in Elements(Report(evaluation, data).html).text  # 2 of 8 directions are wrong
    monkeypatch.setattr(scores, "MIN_WRONG", 2)
    assert "2 wrong directions" in Report(evaluation, data).html


def test_nothing_comes_from_elsewhere(page: Path, elements: Elements) -> None:
    assert not elements.of("link", "iframe", "object", "base")
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").strip().startswith(("#", "data:image/png;", "data:audio/"))
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    for _, attributes in elements.found:
        for name in ("href", "xlink:href"):
            if attributes.get(name, "").startswith("#"):
                assert attributes[name][1:] in ids
    policy = next(a["content"] for a in elements.of("meta") if "http-equiv" in a)
    code = next(script for script in elements.scripts if "use strict" in script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")


def test_it_can_be_read_without_seeing_it(elements: Elements) -> None:
    svgs = [a for a in elements.of("svg") if "role" in a]  # others show parts of these where there is little space
    assert len(svgs) == 10
    assert all(a["role"] == "img" and a["aria-label"] for a in svgs)
    assert {a["aria-hidden"] for a in elements.of("div") if a.get("class") == "panels"} == {"true"}
    assert elements.of("html")[0]["lang"] == "en"
    assert len(elements.of("main")) == 1
    scrolling = [a for a in elements.of("div") if "wide" in a.get("class", "")]
    assert scrolling
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    assert all(a["scope"] in ("col", "row") for a in elements.of("th"))
    assert len(elements.of("caption")) == len(elements.of("table"))
    assert len(elements.of("figcaption")) == len(elements.of("figure"))
    tags = [tag for tag, _ in elements.found]
    assert all(tags[n - 1] == "label" for n, tag in enumerate(tags) if tag in ("select", "input"))


def test_every_signal_has_a_player_at_the_level_of_its_reference(elements: Elements, data: Path) -> None:
    players = elements.of("audio")
    assert len(players) == 3 * (1 + 2 * 4)  # mixture; reference, model, baseline twice, of two talkers
    assert len({a["aria-label"] for a in players}) == len(players)
    sounds = {}
    for attributes in players:
        assert "controls" in attributes
        kind, _, content = attributes["src"].partition(";base64,")
        assert kind == "data:audio/mpeg"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
        assert rate == 16000
        assert abs(samples.size - 24000) < 2500
        sounds[attributes["aria-label"]] = samples[:24000]
    levels = {name: float(np.std(samples)) for name, samples in sounds.items()}
    for name, level in levels.items():
        scene, _, what = name.partition(": ")
        if ", talker " in what:
            reference = levels[f"{scene}: reference, talker {what[-1]}"]
            assert level == pytest.approx(reference, rel=0.06), name  # noise above 4 kHz is lost
    for scene in {name.partition(":")[0] for name in sounds}:
        both = sounds[f"{scene}: reference, talker 1"] + sounds[f"{scene}: reference, talker 2"]
        mixture = sounds[f"{scene}: mixture"]
        assert np.corrcoef(both, mixture)[0, 1] > 0.98
        assert np.std(mixture) == pytest.approx(np.std(both), rel=0.05)


def test_all_scenes_are_in_the_table_with_their_scores(elements: Elements, evaluation: Path) -> None:
    data = next(json.loads(script) for script in elements.scripts if script.startswith('{"metrics"'))
    keys = [metric["key"] for metric in data["metrics"]]
    assert keys[0] == "si_sdr_improvement_db"
    assert {"stoi", "doa_mae_deg", "accuracy_10deg"} <= set(keys)
    assert data["metrics"][keys.index("doa_mae_deg")]["better"] == "lower"
    rows = {name: read_jsonl(evaluation / name / "scores.jsonl") for name in ("model", "unprocessed")}
    for n, row in enumerate(rows["model"]):
        shown = data["values"]["stoi"][n]
        assert len(shown) == 4
        assert shown[0] == pytest.approx(np.mean(row["stoi"]), abs=1e-4)
        assert shown[-1] == pytest.approx(np.mean(rows["unprocessed"][n]["stoi"]), abs=1e-4)
        within = 100.0 * np.mean(np.array(row["doa_error_deg"]) <= 10.0)
        assert data["values"]["accuracy_10deg"][n][0] == pytest.approx(within)
        assert data["values"]["accuracy_10deg"][n][-1] is None


def test_significance_is_marked_by_who_is_better(elements: Elements) -> None:
    assert "▲ significantly better, ▼ significantly worse than model" in elements.text
    assert "model less each other system" in elements.text


def test_oracles_are_shown_as_such(evaluation: Path, data: Path) -> None:
    assert "racle" not in Elements(Report(evaluation, data).html).text
    provenance = {"data": None, "estimates": "estimates", "oracle": True}
    write_json(evaluation / "srp_beam" / "system.json", provenance)
    text = Elements(Report(evaluation, data).html).text
    assert text.count("srp_beamoracle") == 3  # in the headline's three tables
    assert "modeloracle" not in text
    assert "Oracles (srp_beam) use the references or true directions of every scene" in text
    # below improvements, the breakdown of two metrics and both figures of directions, and above the scenes
    assert text.count("Oracles, which use the truth: srp_beam.") == 6


def test_a_system_without_audio_is_ranked_by_its_directions(evaluation: Path, data: Path) -> None:
    shutil.rmtree(evaluation / "srp_beam")
    estimates = evaluation / "model" / "estimates"
    for folder in [path for path in estimates.iterdir() if path.is_dir()]:
        shutil.rmtree(folder)
    score_set(read_evaluation(evaluation, data).scene_set, estimates, evaluation / "model" / "scores.jsonl")
    elements = Elements(Report(evaluation, data).html)
    assert "Best scene: DoA error 3.0°" in elements.text
    assert "Worst scene: DoA error 10.0°" in elements.text  # off by 40°, but a pair folds and assigns anew
    assert len(elements.of("audio")) == 3 * 3  # mixture and references
    assert "Separation" in elements.text  # of the unprocessed mixture


def test_a_set_without_references_has_a_page_of_its_directions(evaluation: Path, data: Path) -> None:
    scenes = read_jsonl(data / "scenes.jsonl")
    write_jsonl(data / "scenes.jsonl", [scene | {"referenced": False} for scene in scenes])
    scene_set = SceneSet.open(data)
    for name in ("model", "srp_beam"):
        score_set(scene_set, evaluation / name / "estimates", evaluation / name / "scores.jsonl")
    score_unprocessed(scene_set, evaluation / "unprocessed" / "scores.jsonl")
    elements = Elements(Report(evaluation, data).html)
    assert "No scene that was scored has both references and directions" in elements.text
    assert "Direction of arrival" in elements.text and "Separation" not in elements.text
    assert not elements.of("audio") and "can be heard" not in elements.text


def test_another_system_with_estimates_elsewhere_and_scenes_that_are_long(
    evaluation: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "AUDIO_BYTES", 4 * 7 * 9_000)  # a second of each signal of four scenes
    monkeypatch.setattr(page_module, "MAX_DRAWN", 1)
    (evaluation / "srp_beam" / "estimates").rename(tmp_path / "mine")
    arguments = ["report", str(evaluation), "--data", str(data), "--out", str(tmp_path / "r.html")]
    assert cli.main(arguments) == 2
    assert "no such folder; say where by --estimates srp_beam=FOLDER" in capsys.readouterr().err
    arguments += ["--estimates", f"srp_beam={tmp_path / 'mine'}", "--system", "srp_beam"]
    assert cli.main([*arguments, "--show", "scene0,scene3", "scene2", "scene1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"r\.html: srp_beam, model, unprocessed; \d+ figures, [\d.]+ MB", printed)
    elements = Elements((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "of srp_beam by SI-SDRi" in elements.text
    assert "Training" not in elements.text
    assert "Drawn are 1 of 2 systems." in elements.text
    assert "Players hold the first 1.0 s." in elements.text
    assert elements.text.count("Chosen scene") == 1  # the others are best, median and worst
    players = elements.of("audio")
    assert len(players) == 4 * 7
    for attributes in players:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1])))
        assert abs(samples.size - rate) < 2500
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--system", "modle"], "unknown system 'modle'; did you mean 'model'?"),
        (["--show", "scene9"], "unknown scene 'scene9'; did you mean"),
        (["--estimates", "modell=x"], "unknown system 'modell'; did you mean 'model'?"),
        (["--estimates", "model"], "estimates is 'model', expected name=folder"),
        (["--estimates", "model=nowhere"], "nowhere: no such folder; say where"),
        (["--run", "nowhere"], "nowhere/logs/metrics.csv: no such file"),
        (["--out", "page.htm"], "page.htm: the page's name must end in .html"),
        (["--data", "nowhere"], "nowhere: not a data set"),
        (["--evaluation", "nowhere"], "nowhere: no such folder of an evaluation"),
        (["--evaluation", "."], "holds no <system>/scores.jsonl (run msdet evaluate first)"),
    ],
)
def test_wrong_options_are_one_line(
    evaluation: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = {"--evaluation": str(evaluation), "--data": str(data), "--out": "report.html"}
    given |= dict([options])
    assert cli.main(["report", *(text for pair in given.items() for text in pair)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not list((tmp_path / "here").iterdir())


def test_a_page_is_whole_or_not_there(evaluation: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    (evaluation / "model" / "estimates" / "scene1" / "talker1.wav").unlink()
    with pytest.raises(MsdetError, match=r"scene1: found talker2\.wav, expected one file for each of 2 talkers"):
        report(evaluation, data, out, show=["scene1"], images=tmp_path / "images")
    rows = read_jsonl(evaluation / "model" / "scores.jsonl")
    write_jsonl(
        evaluation / "model" / "scores.jsonl",
        [
            row | {"error": "lost", "stoi": None} | dict.fromkeys(("si_sdr_improvement_db", "doa_error_deg"))
            for row in rows
        ],
    )
    with pytest.raises(MsdetError, match=r"no scene of 'model' is scored \(lost\)"):
        report(evaluation, data, out)
    assert not out.exists()
    assert not (tmp_path / "images").exists()
