"""The report as one HTML page that opens offline: no scripts, images and audio embedded."""

from __future__ import annotations

import base64
import html
import io
import wave
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from msdet.conventions import Array
from msdet.evaluation.bootstrap import CONFIDENCE
from msdet.evaluation.report import tables
from msdet.evaluation.report.content import (
    Curves,
    Evaluation,
    Example,
    examples,
    read_curves,
    read_evaluation,
)
from msdet.evaluation.report.document import document, figure_element
from msdet.evaluation.report.figures import breakdowns, doa_polar, learning_curves
from msdet.evaluation.report.scene_figure import example_scene
from msdet.evaluation.report.theme import styles, to_png
from msdet.evaluation.summary import to_markdown

AUDIO_BYTES = 5_000_000
"""Most audio a page embeds, before its encoding; longer scenes are cut to an excerpt that fits."""

PAGE_BYTES = 11_500_000
"""Size of the page that its audio keeps to; of it, every scene has at least a tenth of a megabyte."""


class Report:
    """The report of an evaluation, drawn when made.

    Attributes:
        html: the page.
        images: PNG files by name, of the main figures.
        figures: number of figures on the page.

    Raises:
        MsdetError: something that the page needs is missing or malformed; nothing is half drawn.
    """

    def __init__(self, evaluation: Path, data: Path, run: Path | None = None) -> None:
        self._evaluation = read_evaluation(evaluation, data)
        curves = None if run is None else read_curves(run)
        self._examples = examples(self._evaluation)
        self._looks = styles(self._evaluation.systems)
        self.images: dict[str, bytes] = {}
        self.figures = 0
        self.html = self._page(data, curves)

    def _page(self, data: Path, curves: Curves | None) -> str:
        sections = {
            "results": ("Results", self._results()),
            "conditions": ("By condition", self._conditions()),
            "directions": ("Directions", self._directions()),
        }
        if curves is not None:
            sections["training"] = ("Training", self._training(curves))
        sections["scenes"] = ("Scenes", self._scenes())
        heading = "Speech separation and direction of arrival"
        source = f"Data set {self._evaluation.scene_set.identity}"
        return document(f"{heading}: evaluation", heading, _about(self._evaluation, data), sections, source)

    def _results(self) -> str:
        summary = self._evaluation.summary
        notes = [line[2:] for line in to_markdown(summary).splitlines() if line.startswith("- ")]
        return (
            tables.tiles(self._evaluation)
            + tables.headline(summary, self._looks)
            + f'<ul class="notes">{"".join(f"<li>{html.escape(note)}</li>" for note in notes)}</ul>'
        )

    def _conditions(self) -> str:
        summary = self._evaluation.summary
        caption = (
            f"Means with {CONFIDENCE:.0%} intervals over the scenes of each bin. Bins to the right of a "
            "dotted line overlap the others. The unprocessed mixture is left out: its gain is 0 dB by "
            "definition."
        )
        label = "SI-SDR gain and DoA error of each system by azimuth gap, T60 and straddling of 0 degrees"
        figure = self._figure(breakdowns(summary, self._looks), label, caption, "breakdowns.png")
        numbers = "".join(tables.breakdown(summary, title) for title in summary.breakdowns)
        return f"{figure}<details><summary>The same as tables</summary>{numbers}</details>"

    def _directions(self) -> str:
        e = self._evaluation
        pairs = {s.name: s.doa_pairs() for s in (e.model, e.baseline) if s is not None and s.azimuths}
        pairs = {name: pair for name, pair in pairs.items() if pair[0].size}
        caption = (
            "Each point is one talker, at its true azimuth; the distance from the inner circle is the error. "
            "Azimuths are in the array's frame: 0° on its +x axis, counter-clockwise seen from above."
        )
        label = f"Direction errors around the circle of true azimuths, for {' and '.join(pairs)}"
        return self._figure(doa_polar(pairs, self._looks), label, caption, "doa_polar.png")

    def _training(self, curves: Curves) -> str:
        label = "Learning curves: separation loss, DoA loss, SI-SDR gain and DoA accuracy over training steps"
        caption = (
            "Losses are averaged over the steps since the last validation and over the validation scenes."
        )
        return self._figure(learning_curves(curves), label, caption, "learning_curves.png")

    def _scenes(self) -> str:
        drawn = [self._scene(example) for example in self._examples]
        left = 3 * (PAGE_BYTES - sum(map(len, drawn))) // 4  # base64 makes four characters of three bytes
        budget = min(AUDIO_BYTES, max(left, len(drawn) * 100_000))
        signals = sum(
            1 + sum(len(waveforms) for _, waveforms in _by_talker(example)) for example in self._examples
        )
        seconds = budget / (2 * self._evaluation.scene_set.sample_rate * signals)
        cut = any(example.scene.duration_s > seconds for example in self._examples)
        intro = (
            "The model's best, median and worst scenes by SI-SDR gain. Estimates are shown and played at the "
            "level of their references, and all signals of a scene are played with one gain."
        ) + (f" Players hold the first {seconds:.1f} s." if cut else "")
        players = [_players(example, seconds) for example in self._examples]
        return f"<p>{intro}</p>" + "".join(a + b for a, b in zip(drawn, players, strict=True))

    def _scene(self, example: Example) -> str:
        scene = example.scene
        facts = []
        if scene.t60_s is not None:
            facts.append(f"T60 {scene.t60_s:.2f} s")
        if scene.snr_db is not None:
            facts.append(f"signal-to-noise ratio {tables.number(scene.snr_db, 1)} dB")
        if len(scene.sources) > 1:
            facts.insert(0, f"azimuth gap {scene.azimuth_gap_deg:.0f}°")
        array = self._evaluation.scene_set.array
        label = f"{example.title}: spectrograms of mixture, references and estimates, and a plan of the room"
        caption = "One colour scale for all spectrograms. In the plan, numbers are talkers."
        middle = self._examples[(len(self._examples) - 1) // 2]
        image = "scene.png" if example is middle else None
        return (
            f"<h3>{example.title}: SI-SDR gain {tables.number(example.gain_db, 1)} dB</h3>"
            f'<p class="about">{html.escape(scene.id)}: {", ".join(facts)}</p>'
            + self._figure(example_scene(example, array, self._looks), label, caption, image)
            + tables.talkers(example)
        )

    def _figure(self, figure: Figure, label: str, caption: str, image: str | None) -> str:
        if image is not None:
            self.images[image] = to_png(figure)
        self.figures += 1
        return figure_element(figure, self.figures, label, caption)


def _about(evaluation: Evaluation, data: Path) -> str:
    scene_set = evaluation.scene_set
    scored = evaluation.summary.scenes
    return (
        f"{scored} scenes of {data.resolve().name}, {scene_set.array.microphones} microphones "
        f"({scene_set.array.name}), {scene_set.sample_rate / 1000:g} kHz"
    )


def _by_talker(example: Example) -> list[tuple[str, Array]]:
    """What can be played of each talker: names and waveforms ``(talker, time)``."""
    outputs = [(name, o.waveforms) for name, o in example.outputs.items() if o.waveforms is not None]
    return [("Reference", example.references), *outputs]


def _players(example: Example, seconds: float) -> str:
    played = _by_talker(example)
    peak = max(float(np.abs(x).max()) for x in (example.mixture, *(waveforms for _, waveforms in played)))
    gain = 0.9 / peak if peak > 0.0 else 1.0
    rate = example.scene.sample_rate
    frames = int(seconds * rate)

    def player(name: str, signal: Array, rows: int = 1) -> str:
        data = base64.b64encode(_wav(gain * signal[:frames], rate)).decode()
        label = html.escape(f"{example.title}: {name}")
        return (
            f'<td rowspan="{rows}"><audio controls preload="metadata" aria-label="{label}" '
            f'src="data:audio/wav;base64,{data}"></audio></td>'
        )

    talkers = len(example.references)
    rows = []
    for t in range(talkers):
        cells = player("mixture", example.mixture, talkers) if t == 0 else ""
        cells += "".join(player(f"{name}, talker {t + 1}", x[t]) for name, x in played)
        rows.append(f'<tr><th scope="row">{t + 1}</th>{cells}</tr>')
    head = "".join(tables.column(name) for name in ("Talker", "Mixture", *(name for name, _ in played)))
    return tables.table("Listen", head, rows, "players")


def _wav(signal: Array, sample_rate: int) -> bytes:
    """A signal ``(time,)`` within full scale as a 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(np.clip(signal, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
    return buffer.getvalue()
