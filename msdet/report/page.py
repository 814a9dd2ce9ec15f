"""The report as one HTML page that opens offline: images, sound and script embedded."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from msdet.plots.breakdowns import breakdown_figure
from msdet.plots.confidence import (
    Curve,
    calibration_figure,
    confidence_curve,
    detection_figure,
    posterior_curve,
)
from msdet.plots.directions import doa_confusion, doa_polar
from msdet.plots.learning import Curves, learning_curves, read_curves
from msdet.plots.scene import example_scene
from msdet.plots.theme import UNPROCESSED, degrees, styles, to_png
from msdet.report import results, tables
from msdet.report.conditions import SHOWN, crossings, varying
from msdet.report.content import DOA_ERROR, GAIN, Evaluation, read_evaluation
from msdet.report.document import document, figure_element
from msdet.report.examples import SceneExample, choose_scenes, read_example
from msdet.report.players import signals
from msdet.report.scene_table import scene_table
from msdet.scoring.breakdowns import BREAKDOWNS
from msdet.scoring.calibration import TOLERANCE_DEG, curves
from msdet.scoring.metrics import METRICS
from msdet.scoring.statistics import CONFIDENCE
from msdet.scoring.summary import summarize

T = TypeVar("T")

AUDIO_BYTES = 12_000_000
"""Most compressed audio that a page embeds, before its encoding; longer scenes are cut to an excerpt."""

MAX_DRAWN = 6
"""Most systems that a figure of scores shows; tables have all."""

_CLIP_BYTES_PER_S = 9_000

_LABELS = (
    "id",
    "azimuth_deg",
    "permutation_from",
    *dict.fromkeys(b.field for _, bins in BREAKDOWNS.values() for b in bins),
)

_PLAYER_CHOICE = (
    '<form id="player-choice" class="choices" hidden><label><input type="checkbox" name="together"> '
    "A player goes on where the last one of its scene was</label></form>"
)

_FRAME = "Azimuths are in the array's frame: 0° on its +x axis, counter-clockwise seen from above."


class Report:
    """The report of an evaluation, drawn when made.

    Attributes:
        html: the page.
        images: PNG files by name, of the main figures, if they were wanted.
        figures: number of figures on the page.
        systems: the systems' names, the chosen one first.

    Raises:
        MsdetError: something that the page needs is missing or malformed; nothing is half drawn.
    """

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
        self.images: dict[str, bytes] = {}
        self.figures = 0
        self.systems = list(self._evaluation.systems)
        self.html = self._page(data, learning)

    def _page(self, data: Path, learning: Curves | None) -> str:
        drawn = {
            "results": ("Results", self._results()),
            "conditions": ("By condition", self._by_condition()),
            "directions": ("Directions", self._directions()),
            "confidence": ("Confidence", self._confidence()),
            "training": ("Training", "" if learning is None else self._training(learning)),
            "scenes": ("All scenes", self._all_scenes()),
            "examples": ("Scenes to see and hear", self._scenes()),
        }
        sections = {key: section for key, section in drawn.items() if section[1]}
        heading = "Speech separation and direction of arrival"
        source = f"Data set {self._evaluation.scene_set.identity}"
        about = _about(self._evaluation, data)
        return document(f"{heading}: evaluation", heading, about, sections, source, script=True)

    def _results(self) -> str:
        found = results.find_differences(self._evaluation)
        return (
            results.tiles(self._evaluation, found)
            + results.headline(self._evaluation, found, self._looks)
            + results.difference_tables(self._evaluation, found)
        )

    def _by_condition(self) -> str:
        systems, conditions = self._evaluation.systems, self._conditions
        keys = [k for k in SHOWN if any(s.mean(METRICS[k].field) is not None for s in systems.values())]
        if not keys or not conditions:
            return ""
        kept = {*_LABELS, *(METRICS[key].field for key in keys)}
        rows = {
            name: [{k: v for k, v in row.items() if k in kept} for row in system.rows.values()]
            for name, system in systems.items()
        }
        summary = summarize(rows, by=[condition.name for condition in conditions])
        caption = (
            f"Means with {CONFIDENCE:.0%} intervals over the n scenes of each bin; in bins of a talker's "
            "azimuth or distance a scene counts with those of its talkers that are in them. Bins to the "
            "right of a dotted line overlap the others. The unprocessed mixture is left out: its gain is "
            "0 dB by definition."
        )
        parts = []
        for key in keys:
            looks = {
                name: look
                for name, look in self._looks.items()
                if name in systems
                and name != UNPROCESSED
                and systems[name].mean(METRICS[key].field) is not None
            }
            if looks:
                label = f"{degrees(METRICS[key].label)} by {', '.join(c.title for c in conditions)}"
                drawn, note = self._few(looks)
                figure = breakdown_figure(summary, conditions, key, drawn)
                parts.append(self._figure(figure, label, caption + note, f"breakdown_{key}.png"))
                caption = "The same scenes and bins."
        numbers = "".join(tables.breakdown(summary, title, keys) for title in summary.breakdowns)
        crossed = crossings(self._evaluation, conditions)
        crossed = f"<h3>Two conditions at once</h3>{crossed}" if crossed else ""
        return f"{''.join(parts)}<details><summary>The same as tables</summary>{numbers}</details>{crossed}"

    def _directions(self) -> str:
        systems = self._evaluation.systems.values()
        errors = {s.name: tuple(s.of_talkers("azimuth_deg", DOA_ERROR)) for s in systems}
        errors = {name: pair for name, pair in errors.items() if pair[0].size}
        if not errors:
            return ""
        caption = (
            "Each point is one talker, at its true azimuth; the distance from the inner circle is the error. "
        )
        if self._evaluation.scene_set.array.resolvable_domain.azimuth_span_deg != 360:
            caption += "The array cannot tell a direction from its mirror image: the nearer of both counts. "
        label = f"Direction errors around the circle of true azimuths, for {', '.join(errors)}"
        drawn, note = self._few(errors)
        parts = [self._figure(doa_polar(drawn, self._looks), label, caption + _FRAME + note, "doa_polar.png")]
        pairs = {s.name: s.azimuth_pairs() for s in systems if s.name in errors}
        pairs = {name: pair for name, pair in pairs.items() if pair[0].size}
        if pairs:
            caption = (
                "How many talkers at which true azimuth were located at which; a perfect system has only the "
                "diagonal, which goes on from 360° at 0°. Of talkers who move, the start. "
            )
            label = f"Estimated against true azimuths, for {', '.join(pairs)}"
            some, note = self._few(pairs)
            figure = doa_confusion(some, self._looks)
            parts.append(self._figure(figure, label, caption + _FRAME + note, "doa_confusion.png"))
        return "".join(parts)

    def _confidence(self) -> str:
        """What confidences and posteriors are worth, of the systems that give any."""
        e = self._evaluation
        found = {s.name: curves(e.scene_set, s.lines, list(s.rows.values())) for s in e.systems.values()}
        near = f"{TOLERANCE_DEG:g}°"
        return "".join(
            [
                self._detection(
                    {name: posterior_curve(of["posterior"]) for name, of in found.items()},
                    "posterior",
                    ("Talkers found", "Directions elsewhere"),
                    "Posteriors around the circle as a threshold falls: talkers with as much within "
                    f"{near} of them, directions as probable elsewhere, and, for the precision, peaks there.",
                ),
                self._detection(
                    {s.name: confidence_curve(s) for s in e.systems.values()},
                    "confidence",
                    ("Right directions kept", "Wrong directions kept"),
                    "Directions as ever less confident ones are kept; right are those with an error up to "
                    f"{near}. Recall is of all talkers: one whose direction is wrong is not found.",
                ),
                self._calibration({name: of["calibration"] for name, of in found.items()}),
            ]
        )

    def _detection(
        self, found: dict[str, Curve | None], what: str, axes: tuple[str, str], caption: str
    ) -> str:
        drawn, note = self._few({name: curve for name, curve in found.items() if curve is not None})
        if not drawn:
            return ""
        label = f"ROC, and precision over recall, of the {what} of {', '.join(drawn)}"
        figure = detection_figure(drawn, self._looks, what, *axes)
        return self._figure(figure, label, caption + note, f"roc_{what}.png")

    def _calibration(self, found: dict[str, Any]) -> str:
        drawn, note = self._few({name: of for name, of in found.items() if of is not None and "bins" in of})
        no_probability = [name for name, of in found.items() if of is not None and "bins" not in of]
        if not drawn:
            return ""
        caption = (
            f"Share of directions with an error up to {TOLERANCE_DEG:g}°, with {CONFIDENCE:.0%} intervals "
            "(Wilson), by confidence; where confidences are probabilities it is on the diagonal."
        )
        if no_probability:
            caption += f" Not between 0 and 1, and left out: {', '.join(no_probability)}."
        label = f"Reliability of the confidences of {', '.join(drawn)}"
        figure = calibration_figure(drawn, self._looks)
        return self._figure(figure, label, caption + note, "calibration.png")

    def _training(self, learning: Curves) -> str:
        label = "Learning curves: losses and validation scores of all tasks over training steps"
        caption = (
            "Losses are averaged over the steps since the last validation and over the validation scenes."
        )
        return self._figure(learning_curves(learning), label, caption, "learning_curves.png")

    def _all_scenes(self) -> str:
        shown = {example.scene.id: _anchor(n) for n, example in enumerate(self._examples)}
        intro = "Every scene with its labels and the systems' scores"
        intro += "; linked ones can be heard below." if shown else "."
        return f"<p>{intro}</p>" + scene_table(self._evaluation, self._conditions, shown)

    def _scenes(self) -> str:
        if not self._examples:
            return "<p>No scene that was scored has both references and directions, as one to see has.</p>"
        signals_heard = sum(1 + len(e.references) * (1 + len(e.heard)) for e in self._examples)
        seconds = AUDIO_BYTES / (_CLIP_BYTES_PER_S * signals_heard)
        cut = any(example.scene.duration_s > seconds for example in self._examples)
        what = "SI-SDRi" if self._evaluation.rank_field == GAIN else "DoA error"
        intro = (
            f"The best, median and worst scenes of {self._evaluation.chosen.name} by {what}. Estimates are "
            "shown and played at the level of their references, all signals of a scene with one gain."
        ) + (f" Players hold the first {seconds:.1f} s." if cut else "")
        intro += _told(self._evaluation.oracles)
        parts = [f"<p>{html.escape(intro)}</p>", _PLAYER_CHOICE]
        pictured = next((e for e in self._examples if e.title == "Median scene"), self._examples[0])
        for n, example in enumerate(self._examples):
            parts.append(self._example(example, _anchor(n), "scene.png" if example is pictured else None))
            parts.append(signals(example, seconds))
        return "".join(parts)

    def _example(self, example: SceneExample, anchor: str, image: str | None) -> str:
        scene = example.scene
        facts = []
        if len(scene.sources) > 1:
            facts.append(f"azimuth gap {scene.azimuth_gap_deg:.0f}°")
        if scene.t60_s is not None:
            facts.append(f"T60 {scene.t60_s:.2f} s")
        if scene.snr_db is not None:
            facts.append(f"signal-to-noise ratio {tables.number(scene.snr_db, 1)} dB")
        what, unit = ("SI-SDRi", " dB") if self._evaluation.rank_field == GAIN else ("DoA error", "°")
        score = "" if example.score is None else f": {what} {tables.number(example.score, 1)}{unit}"
        label = f"{example.title}: spectrograms of mixture, references and estimates, and a plan of the room"
        caption = "One color scale for all spectrograms. In the plan, numbers are talkers."
        figure = example_scene(example, self._evaluation.scene_set.array, self._looks)
        return (
            f'<h3 id="{anchor}">{example.title}{score}</h3>'
            f'<p class="about">{html.escape(scene.id)}: {", ".join(facts)}</p>'
            + self._figure(figure, label, caption, image)
        )

    def _few(self, found: dict[str, T]) -> tuple[dict[str, T], str]:
        """The first systems, as many as a figure shows, and a note: who is missing, and who is an oracle."""
        few = dict(itertools.islice(found.items(), MAX_DRAWN))
        note = f" Drawn are {len(few)} of {len(found)} systems." if len(few) < len(found) else ""
        return few, note + _told(name for name in self._evaluation.oracles if name in few)

    def _figure(self, figure: Figure, label: str, caption: str, image: str | None) -> str:
        if image is not None and self._with_images:
            self.images[image] = to_png(figure)
        self.figures += 1
        return figure_element(figure, self.figures, label, caption)


def _told(oracles: Iterable[str]) -> str:
    """A sentence that names those that were told the truth; nothing without any."""
    names = ", ".join(oracles)
    return f" Told the truth (oracle): {names}." if names else ""


def _anchor(n: int) -> str:
    return f"scene-{n + 1}"


def _about(evaluation: Evaluation, data: Path) -> str:
    scene_set = evaluation.scene_set
    scored = evaluation.summary.scenes
    return (
        f"{scored} scenes of {data.resolve().name}, {scene_set.array.microphones} microphones "
        f"({scene_set.array.name}), {scene_set.sample_rate / 1000:g} kHz"
    )
