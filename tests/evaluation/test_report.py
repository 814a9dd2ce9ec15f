"""The page of figures: numbers, pictures and sound of a small evaluation, and nothing from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import io
import shutil
import wave
from html.parser import HTMLParser

import numpy as np
import pytest

from msdet import audio
from msdet.commands.figures import figures
from msdet.errors import MsdetError
from msdet.evaluation.report import page
from msdet.evaluation.report.content import examples, read_curves, read_evaluation
from msdet.evaluation.report.figures import breakdowns, doa_polar, learning_curves
from msdet.evaluation.report.page import Report
from msdet.evaluation.report.scene_figure import example_scene
from msdet.evaluation.report.theme import DARK, LIGHT, styles, to_svg
from msdet.evaluation.scoring import score_set, score_unprocessed
from msdet.files import read_jsonl, write_jsonl

AZIMUTHS = ([350.0, 20.0], [90.0, 200.0], [180.0, 190.0])
HOSTILE = 'a<b>&"c"$x$'

CSV = """\
dev/accuracy_10deg,dev/doa,dev/separation,dev/si_sdr_improvement_db,epoch,step,train/doa,train/separation
0.2,4.0,0.9,1.0,0,9,,
,,,,0,9,4.2,1.0
0.8,2.0,0.5,6.0,1,19,,
,,,,1,19,2.1,0.6
"""


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "hr", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, *tags):
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def evaluation(tmp_path, built, make_set, write_estimates):
    """Folder of an evaluation of three scenes: a model and a noisier baseline; made once, copied then."""
    if not (built / "evaluation").exists():
        build(tmp_path, make_set(AZIMUTHS, array_rotation_deg=(30.0, 0.0, 0.0)), write_estimates)
        for name in ("set", "evaluation"):
            shutil.move(tmp_path / name, built / name)
    for name in ("set", "evaluation"):
        shutil.copytree(built / name, tmp_path / name)
    return tmp_path / "evaluation"


def build(folder, scene_set, write_estimates):
    root = folder / "evaluation"
    rng = np.random.default_rng(3)
    clean = write_estimates(scene_set)
    for system, noise in (("model", 0.05), ("srp_beam", 0.6)):
        estimates = root / system / "estimates"
        shutil.copytree(clean, estimates)
        for n, scene in enumerate(scene_set.scenes, start=1):
            for path in sorted((estimates / scene.id).iterdir()):
                signal = audio.read(path)[0]
                added = noise * n * signal.std() * rng.standard_normal(signal.shape)
                audio.write(path, signal + added, scene_set.sample_rate, "FLOAT")
        score_set(scene_set, estimates, root / system / "scores.jsonl")
    score_unprocessed(scene_set, root / "unprocessed" / "scores.jsonl")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "set"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "metrics.csv").write_text(CSV)
    return tmp_path / "run"


def test_page(evaluation, data, run, tmp_path, capsys):
    (evaluation / HOSTILE).mkdir()
    shutil.copy(evaluation / "srp_beam" / "scores.jsonl", evaluation / HOSTILE)
    out = tmp_path / "exp" / "figures.html"
    figures(evaluation, data, out, run)
    assert str(out) in capsys.readouterr().out
    names = ("breakdowns", "doa_polar", "learning_curves", "scene")
    assert sorted(p.name for p in out.parent.rglob("*")) == sorted(
        ["figures", "figures.html", *(f"{name}.png" for name in names)]
    )
    for name in names:
        assert (tmp_path / "exp" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    text = out.read_text(encoding="utf-8")
    elements = Elements(text)
    assert elements.open == [] and len(text) < 12e6
    assert_self_contained(elements)
    assert_accessible(elements)
    assert_audio(elements)
    assert "<b>" not in text and HOSTILE in elements.text
    for score in read_evaluation(evaluation, data).summary.scores["model"].values():
        assert score.interval.n == 3
    for key, decimals in (("si_sdr_improvement_db", 2), ("doa_mae_deg", 1), ("stoi", 3)):
        interval = read_evaluation(evaluation, data).summary.scores["srp_beam"][key].interval
        for value in (interval.value, interval.low, interval.high):
            assert f"{value:.{decimals}f}".replace("-", "−") in elements.text
    for title in ("Results", "By condition", "Directions", "Training", "Scenes"):
        assert title in elements.text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def assert_self_contained(elements):
    assert not elements.of("script", "link", "iframe", "object", "base")
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert attributes.get(name, "#").strip().startswith(("#", "data:image/png;", "data:audio/wav;"))
    ids = [a["id"] for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.found:
        for name in ("href", "xlink:href"):
            if attributes.get(name, "").startswith("#"):
                assert attributes[name][1:] in ids


def assert_accessible(elements):
    svgs = elements.of("svg")
    assert len(svgs) == 6 and all(a["role"] == "img" and a["aria-label"] for a in svgs)
    assert all(a.get("alt") for a in elements.of("img"))
    assert elements.of("html")[0]["lang"] == "en" and len(elements.of("main")) == 1
    scrolling = [a for a in elements.of("div") if "wide" in a.get("class", "")]
    assert scrolling and all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    assert all(a["scope"] in ("col", "row", "colgroup") for a in elements.of("th"))


def assert_audio(elements):
    players = elements.of("audio")
    assert len(players) == 3 * (1 + 3 * 2)  # mixture; reference, model and baseline of two talkers
    assert len({a["aria-label"] for a in players}) == len(players)
    for attributes in players:
        assert "controls" in attributes
        with wave.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1]))) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert samples.size == 12000 and 1000 < np.abs(samples).max() < 0.91 * 32767


def test_page_without_training_and_with_long_scenes(evaluation, data, monkeypatch):
    shutil.rmtree(evaluation / "srp_beam" / "estimates")
    (evaluation / "srp_beam" / "estimates").mkdir()  # a baseline that lost its audio and azimuths
    rows = [row | {"permutation_from": "doa"} for row in read_jsonl(evaluation / "srp_beam" / "scores.jsonl")]
    write_jsonl(evaluation / "srp_beam" / "scores.jsonl", rows)
    monkeypatch.setattr(page, "AUDIO_BYTES", 15 * 2 * 8000)  # one second of each signal
    report = Report(evaluation, data)
    elements = Elements(report.html)
    assert "learning_curves.png" not in report.images and "Training" not in elements.text
    assert "first 1.0 s" in elements.text
    players = elements.of("audio")
    assert len(players) == 15
    assert all(len(base64.b64decode(a["src"].split(",")[1])) == 44 + 2 * 8000 for a in players)


def test_examples_are_best_median_and_worst(evaluation, data):
    found = examples(read_evaluation(evaluation, data))
    assert [e.title for e in found] == ["Best scene", "Median scene", "Worst scene"]
    rows = read_jsonl(evaluation / "model" / "scores.jsonl")
    gains = {row["id"]: np.mean(row["si_sdr_improvement_db"]) for row in rows}
    assert [e.scene.id for e in found] == sorted(gains, key=lambda scene_id: -gains[scene_id])
    assert [e.gain_db for e in found] == pytest.approx(sorted(gains.values(), reverse=True))
    for example in found:
        assert list(example.outputs) == ["model", "srp_beam"]
        output = example.outputs["model"]
        # estimates come back in the talkers' order (they were written in the other one) and at their level
        assert np.allclose(output.azimuths_deg, example.scene.azimuths_deg + 3.0)
        assert np.allclose(output.waveforms.std(axis=1), example.references.std(axis=1), rtol=1e-3)
        correlation = [
            np.corrcoef(w, r)[0, 1] for w, r in zip(output.waveforms, example.references, strict=True)
        ]
        assert min(correlation) > 0.9


def test_every_axis_is_labelled(evaluation, data, run):
    e = read_evaluation(evaluation, data)
    looks = styles(e.systems)
    pairs = {name: e.systems[name].doa_pairs() for name in ("model", "srp_beam")}
    drawn = (
        learning_curves(read_curves(run)),
        breakdowns(e.summary, looks),
        doa_polar(pairs, looks),
        example_scene(examples(e)[0], e.scene_set.array, looks),
    )
    for figure in drawn:
        for axes in figure.axes:
            assert axes.get_xlabel()
            first = axes.get_subplotspec() is None or axes.get_subplotspec().is_first_col()
            assert axes.get_ylabel() or axes.get_label() == "<colorbar>" or (figure is drawn[1] and not first)
            assert axes.has_data()


def test_directions_are_counter_clockwise_from_x(evaluation, data):
    looks = styles(["model"])
    axes = doa_polar({"model": (np.array([90.0, 350.0]), np.array([94.0, 6.0]))}, looks).axes[0]
    assert axes.get_theta_offset() == 0.0 and axes.get_theta_direction() == 1
    angle, radius = axes.collections[-1].get_offsets().T
    assert np.allclose(np.rad2deg(angle), [90.0, 350.0])
    assert np.allclose(radius**2, [4.0, 16.0])

    e = read_evaluation(evaluation, data)
    example = examples(e)[1]
    plan = example_scene(example, e.scene_set.array, looks | styles(e.systems)).axes[1]
    rays = [line for line in plan.lines if line.get_linestyle() == "--" and line.get_color() == LIGHT["blue"]]
    for ray, azimuth_deg in zip(rays, example.scene.azimuths_deg + 3.0, strict=True):
        (x0, y0), (x1, y1) = ray.get_xydata()
        assert (x0, y0) == example.scene.array_centre_m[:2]
        assert np.rad2deg(np.arctan2(y1 - y0, x1 - x0)) % 360 == pytest.approx((azimuth_deg + 30.0) % 360)
        assert 0 <= x1 <= example.scene.room_m[0] and 0 <= y1 <= example.scene.room_m[1]


def test_drawings_follow_the_colour_scheme(run):
    svg = to_svg(learning_curves(read_curves(run)), 'a "label"', "f1")
    assert LIGHT.keys() == DARK.keys() and len(set(LIGHT.values())) == len(LIGHT)
    assert not any(colour in svg for colour in LIGHT.values())
    assert "var(--ink)" in svg and "var(--blue)" in svg and 'aria-label="a &quot;label&quot;"' in svg
    assert "#000000" not in svg


def test_curves(run):
    curves = read_curves(run)
    assert {name: values.tolist() for name, (_, values) in curves.items()} == {
        "train/separation": [1.0, 0.6],
        "train/doa": [4.2, 2.1],
        "dev/separation": [0.9, 0.5],
        "dev/doa": [4.0, 2.0],
        "dev/si_sdr_improvement_db": [1.0, 6.0],
        "dev/accuracy_10deg": [0.2, 0.8],
    }
    assert all(steps.tolist() == [9, 19] for steps, _ in curves.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "metrics.csv: no such file"),
        ("epoch,step\n0,9\n", "has none of the columns"),
        ("step,train/doa\n9,x\n", "not readable as a training log"),
        ("epoch,train/doa\n0,1.0\n", "not readable as a training log"),
    ],
)
def test_faulty_curves(run, text, message):
    path = run / "logs" / "metrics.csv"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(MsdetError, match=message):
        read_curves(run)


def test_missing_folders(evaluation, data, tmp_path):
    out = tmp_path / "figures.html"
    with pytest.raises(MsdetError, match="no such folder of an evaluation"):
        figures(tmp_path / "nowhere", data, out)
    with pytest.raises(MsdetError, match="nowhere: not a data set"):
        figures(evaluation, tmp_path / "nowhere", out)
    with pytest.raises(MsdetError, match=r"metrics\.csv: no such file"):
        figures(evaluation, data, out, tmp_path / "nowhere")
    with pytest.raises(MsdetError, match=r"must end in \.html"):
        figures(evaluation, data, tmp_path / "figures")
    (evaluation / "model" / "estimates" / "scene1" / "talker1.wav").unlink()
    with pytest.raises(MsdetError, match=r"scene1/talker1\.wav: no such file"):
        figures(evaluation, data, out)
    (evaluation / "model" / "estimates" / "doa.jsonl").unlink()
    with pytest.raises(MsdetError, match=r"estimates: has no doa\.jsonl"):
        figures(evaluation, data, out)
    shutil.rmtree(evaluation / "model")
    with pytest.raises(MsdetError, match=r"has no model/scores\.jsonl"):
        figures(evaluation, data, out)
    assert not out.exists() and not out.with_suffix("").exists()


def test_faulty_scores(evaluation, data):
    path = evaluation / "model" / "scores.jsonl"
    rows = read_jsonl(path)
    for faulty, message in (
        ([], "has no scores"),
        ([rows[0], rows[0]], "line 2: scene 'scene0' was in an earlier line"),
        ([{"id": "scene0"}], "line 1: not a row of scores, 'azimuth_deg' is missing"),
        ([1], "line 1: not a row of scores"),
        ([row | {"id": f"other{n}"} for n, row in enumerate(rows)], "scene 'other0' is not in"),
        (rows[:2], "are not scored on the same scenes"),
    ):
        write_jsonl(path, faulty)
        with pytest.raises(MsdetError, match=message):
            read_evaluation(evaluation, data)
    write_jsonl(path, rows)
    write_jsonl(evaluation / "model" / "estimates" / "doa.jsonl", [{"id": "scene0", "azimuth_deg": [1.0]}])
    with pytest.raises(MsdetError, match="scene 'scene0' is not what was scored"):
        read_evaluation(evaluation, data).model.doa_pairs()


def test_nothing_to_rank(evaluation, data):
    e = read_evaluation(evaluation, data)
    rows = {name: row | {"si_sdr_improvement_db": None} for name, row in e.model.rows.items()}
    e.systems["model"] = dataclasses.replace(e.model, rows=rows)
    with pytest.raises(MsdetError, match="no scene has separation scores of 'model'"):
        examples(e)
