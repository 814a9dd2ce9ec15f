"""The report as one HTML page that opens offline: images, sound and script embedded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.plots import scores
from msdet.plots.directions import doa_confusion, doa_polar
from msdet.plots.learning import Curves, learning_curves, read_curves
from msdet.plots.scene import estimates_figure
from msdet.plots.theme import degrees, styles, to_png
from msdet.report.conditions import BROKEN_DOWN, breakdown_panels, crossings, varying
from msdet.report.content import DOA_ERROR, SI_SDRI, read_evaluation
from msdet.report.document import PageFigure, page_figure, playback_gain, render_page, sound_url
from msdet.report.examples import SceneExample, choose_scenes, read_example
from msdet.report.results import main_results
from msdet.report.scene_table import scene_table
from msdet.scoring.breakdowns import BREAKDOWNS
from msdet.scoring.confidence_calibration import TOLERANCE_DEG, curves
from msdet.scoring.metrics import METRICS, SEPARATION_METRICS, UNPROCESSED
from msdet.scoring.statistics import CONFIDENCE
from msdet.scoring.summary import summarize

T = TypeVar("T")
AUDIO_BYTES = 12_000_000  # compressed, that a page embeds at most; longer scenes are cut to an excerpt
MAX_DRAWN = 6  # systems in a figure at most; tables have all
_CLIP_BYTES_PER_S = 9_000
_TRAINING = "Learning curves: losses and validation scores of all tasks over training steps"
_LABELS = ("id", "azimuth_deg", "permutation_from", *(b.field for _, bins in BREAKDOWNS.values() for b in bins))

_TITLES = {
    "results": "Results",
    "improvement": "Improvement, talker by talker",
    "conditions": "By condition",
    "directions": "Directions",
    "confidence": "Confidence",
    "training": "Training",
    "scenes": "All scenes",
    "examples": "Scenes to see and hear",
}


class Report:
    """The report of an evaluation, drawn when made, or not at all (`MsdetError`): the page is `html`."""

    def __init__(
        self,
        evaluation: Path,
        data: Path,
        run: Path | None = None,
        system: str | None = None,
        show: Sequence[str] = (),
        estimates: dict[str, Path] | None = None,
        with_images: bool = False,
    ) -> None:
        self._evaluation = read_evaluation(evaluation, data, system, estimates)
        by_id = {scene.id: scene for scene in self._evaluation.scene_set.scenes}
        chosen = choose_scenes(self._evaluation, show)
        self._examples = [read_example(self._evaluation, by_id[key], title) for key, title in chosen.items()]
        self._conditions = varying(self._evaluation.chosen.rows.values())
        self._looks = styles(self._evaluation.systems)
        learning = None if run is None else read_curves(run)
        self._with_images = with_images
        self.images: dict[str, bytes] = {}  # PNG files by name, of the main figures, if wanted
        self.figures = 0  # on the page
        self.systems = list(self._evaluation.systems)  # names, the chosen one first
        self.html = self._page(data, learning)

    def _page(self, data: Path, learning: Curves | None) -> str:
        e = self._evaluation
        anchors = {example.scene.id: f"scene-{n}" for n, example in enumerate(self._examples, start=1)}
        parts = {
            "results": main_results(e),
            "improvement": self._improvement(),
            "conditions": self._by_condition(),
            "directions": self._directions(),
            "confidence": self._confidence(),
            "training": self._figure(learning_curves(learning), _TRAINING, "", "learning_curves") if learning else {},
            "scenes": scene_table(e, self._conditions, anchors),
            "examples": self._scenes(anchors),
        }
        heading = "Speech separation and direction of arrival"
        array, rate = e.scene_set.array, e.scene_set.sample_rate
        about = (
            f"{e.summary.scenes} scenes of {data.resolve().name}, {array.microphones} microphones "
            f"({array.name}), {rate / 1000:g} kHz"
        )
        return render_page(
            "report.html",
            script="page.js",
            title=f"{heading}: evaluation",
            heading=heading,
            about=[about, *self._chosen_facts()],
            sections={key: title for key, title in _TITLES.items() if parts[key]},
            source=f"Data set {e.scene_set.identity}",
            summary=e.summary,
            chosen=e.chosen.name,
            oracles=e.oracles,
            looks=self._looks,
            confidence_level=CONFIDENCE,
            near=f"{TOLERANCE_DEG:g}°",
            mirrored=array.resolvable_domain.azimuth_span_deg != 360,
            parts=parts,
        )

    def _chosen_facts(self) -> list[str]:
        """What the chosen system is, and when and how it was scored."""
        chosen = self._evaluation.chosen
        scored = [m.label for m in SEPARATION_METRICS.values() if chosen.mean(m.field) is not None]
        metrics = f" by {', '.join(scored)}" if scored else ""
        facts = f"{chosen.name}: {'; '.join(chosen.about)}" if chosen.about else f"About {chosen.name}"
        return [facts, *([f"Scored on {chosen.scored}{metrics}"] if chosen.scored else [])]

    def _improvement(self) -> dict[str, PageFigure]:
        """How SI-SDRi is distributed, and how it depends on the mixture's SI-SDR."""
        found = {s.name: s.of_talkers("si_sdr_db", SI_SDRI) for s in self._evaluation.systems.values()}
        pairs = {name: (of[0] - of[1], of[1]) for name, of in found.items() if of.size and name != UNPROCESSED}
        if not pairs:
            return {}
        drawn, note = self._few(pairs)
        label = f"Distribution of SI-SDRi, and SI-SDRi against the mixture's SI-SDR, for {', '.join(drawn)}"
        return self._figure(scores.improvement_figure(drawn, self._looks), label, note, "improvement")

    def _by_condition(self) -> dict[str, Any]:
        systems, conditions = self._evaluation.systems, self._conditions
        scored = {
            key: [name for name, system in systems.items() if system.mean(METRICS[key].field) is not None]
            for key in BROKEN_DOWN
        }
        keys = [key for key, names in scored.items() if names]
        if not keys or not conditions:
            return {}
        kept = {*_LABELS, *(METRICS[key].field for key in keys)}
        rows = {
            name: [{k: v for k, v in row.items() if k in kept} for row in system.rows.values()]
            for name, system in systems.items()
        }
        summary = summarize(rows, by=[condition.name for condition in conditions])
        figures: dict[str, PageFigure] = {}
        for key in keys:
            looks, note = self._few({n: self._looks[n] for n in scored[key] if n != UNPROCESSED})
            if looks:
                label = f"{degrees(METRICS[key].label)} by {', '.join(c.title for c in conditions)}"
                panels = breakdown_panels(summary, conditions, key, looks)
                figure = scores.breakdown_figure(panels, METRICS[key], looks)
                figures |= self._figure(figure, label, note, f"breakdown_{key}")
        tables = crossings(self._evaluation.chosen, conditions)
        return {
            "figures": figures,
            "breakdowns": summary.breakdowns,
            "metrics": keys,
            "crossings": tables,
            "crossed_metrics": {t.metric: degrees(METRICS[t.metric].label) for t in tables},
            "crossed_conditions": {t.down.name: t.down.title for t in tables},
        }

    def _directions(self) -> dict[str, PageFigure]:
        systems = self._evaluation.systems.values()
        errors = {s.name: tuple(s.of_talkers("azimuth_deg", DOA_ERROR)) for s in systems}
        errors = {name: pair for name, pair in errors.items() if pair[0].size}
        if not errors:
            return {}
        label = f"Direction errors around the circle of true azimuths, for {', '.join(errors)}"
        drawn, note = self._few(errors)
        figures = self._figure(doa_polar(drawn, self._looks), label, note, "doa_polar")
        pairs = {s.name: s.azimuth_pairs() for s in systems if s.name in errors}
        drawn, note = self._few({name: pair for name, pair in pairs.items() if pair[0].size})
        if drawn:
            label = f"Estimated against true azimuths, for {', '.join(drawn)}"
            figures |= self._figure(doa_confusion(drawn, self._looks), label, note, "doa_confusion")
        return figures

    def _confidence(self) -> dict[str, PageFigure]:
        """What confidences and posteriors are worth, of the systems that have any."""
        systems, scene_set = self._evaluation.systems.values(), self._evaluation.scene_set
        found = {s.name: curves(scene_set, s.lines, list(s.rows.values())) for s in systems}
        posteriors = {name: scores.posterior_curve(of["posterior"]) for name, of in found.items()}
        confidences = {s.name: scores.confidence_curve(*s.of_talkers("doa_confidence", DOA_ERROR)) for s in systems}
        figures = self._detection(posteriors, "posterior", "Talkers found", "Directions elsewhere")
        figures |= self._detection(confidences, "confidence", "Right directions kept", "Wrong directions kept")
        given = {name: of["calibration"] for name, of in found.items() if of["calibration"]}
        drawn, note = self._few({name: of for name, of in given.items() if "bins" in of})
        no_probability = [name for name, of in given.items() if "bins" not in of]
        if drawn:
            if no_probability:
                note = f" Not between 0 and 1, and left out: {', '.join(no_probability)}.{note}"
            label = f"Reliability of the confidences of {', '.join(drawn)}"
            figure = scores.calibration_figure(drawn, self._looks)
            figures |= self._figure(figure, label, note, "calibration")
        return figures

    def _detection(
        self, by_system: dict[str, scores.DetectionCurve | None], what: str, right: str, wrong: str
    ) -> dict[str, PageFigure]:
        curves = {name: curve for name, curve in by_system.items() if curve is not None}
        few = {name: curve.wrong for name, curve in curves.items() if 0 < curve.wrong < scores.MIN_WRONG}
        drawn, note = self._few({name: curve for name, curve in curves.items() if name not in few})
        if few:
            left_out = ", ".join(f"{name} ({wrong})" for name, wrong in few.items())
            note = f" Left out, for fewer than {scores.MIN_WRONG} wrong directions: {left_out}.{note}"
        if not drawn:
            return {}
        label = f"ROC, and precision over recall, of the {what} of {', '.join(drawn)}"
        figure = scores.detection_figure(drawn, self._looks, what, right, wrong)
        return self._figure(figure, label, note, f"roc_{what}")

    def _scenes(self, anchors: dict[str, str]) -> dict[str, Any]:
        """The examples with a figure of each and what plays its signals, no longer than `seconds`."""
        players = sum(1 + len(e.references) * (1 + len(e.waveforms)) for e in self._examples)
        seconds = AUDIO_BYTES / (_CLIP_BYTES_PER_S * players) if players else 0.0
        pictured = next((e for e in self._examples if e.title == "Median scene"), None)
        scenes = []
        for example in self._examples:
            name = "scene" if example is (pictured or self._examples[0]) else ""
            label = f"{example.title}: spectrograms of mixture, references and estimates, and a plan of the room"
            (figure,) = self._figure(self._example_figure(example), label, "", name).values()
            play = _player(example, seconds)
            scenes.append({"example": example, "anchor": anchors[example.scene.id], "figure": figure, "play": play})
        return {
            "scenes": scenes,
            "oracles": _oracle_note(self._evaluation.oracles),
            "excerpt_s": seconds if any(e.scene.duration_s > seconds for e in self._examples) else None,
            "by_si_sdr": bool(scenes) and self._evaluation.rank_field == SI_SDRI,
        }

    def _example_figure(self, example: SceneExample) -> Figure:
        few = dict(itertools.islice(example.outputs.items(), MAX_DRAWN))
        signals = {"Reference": example.references}
        signals |= {name: out.waveforms for name, out in few.items() if out.waveforms is not None}
        directions = {name: out.directions for name, out in few.items() if out.directions is not None}
        array = self._evaluation.scene_set.array
        return estimates_figure(example.scene, array, example.mixture, signals, directions, self._looks)

    def _few(self, by_system: dict[str, T]) -> tuple[dict[str, T], str]:
        """The first systems, as many as a figure shows, and a note: how many are missing, and oracles."""
        few = dict(itertools.islice(by_system.items(), MAX_DRAWN))
        note = f" Drawn are {len(few)} of {len(by_system)} systems." if len(few) < len(by_system) else ""
        return few, note + _oracle_note(name for name in self._evaluation.oracles if name in few)

    def _figure(self, figure: Figure, label: str, note: str, image: str) -> dict[str, PageFigure]:
        """A figure by its name, under which it is also an image, if it has one and images are wanted."""
        if image and self._with_images:
            self.images[f"{image}.png"] = to_png(figure)
        self.figures += 1
        return {image: page_figure(figure, self.figures, label, note)}


def _oracle_note(oracles: Iterable[str]) -> str:
    """A sentence that names oracles; nothing without any."""
    names = ", ".join(oracles)
    return f" Oracles, which use the truth: {names}." if names else ""


def _player(example: SceneExample, seconds: float) -> Callable[[Array], str]:
    """Makes the data URL of a signal ``(time,)`` of a scene, cut to so many seconds, all with one gain."""
    rate = example.scene.sample_rate
    gain = playback_gain(example.mixture, example.references, *example.waveforms.values())
    return lambda signal: sound_url(gain * signal[: int(seconds * rate)], rate)
