"""What can be heard of a scene: players of its mixture, references and estimates, with their scores."""

from __future__ import annotations

import base64
import html

import numpy as np

from msdet.conventions import Array
from msdet.io import audio
from msdet.report import tables
from msdet.report.content import DOA_ERROR, GAIN
from msdet.report.examples import Output, SceneExample

_PEAK = 0.9


def signals(example: SceneExample, seconds: float) -> str:
    """A table of a scene's signals by talker: where they are, how they are scored, and a player of each.

    All are played with one gain.

    Args:
        example: the scene.
        seconds: longest that a player holds.
    """
    heard = [example.references, *example.heard.values()]
    peak = max(float(np.abs(x).max()) for x in (example.mixture, *heard))
    gain = _PEAK / peak if peak > 0.0 else 1.0
    frames = int(seconds * example.scene.sample_rate)

    def player(name: str, signal: Array) -> str:
        content, kind = audio.clip(gain * signal[:frames], example.scene.sample_rate)
        label = html.escape(f"{example.scene.id}: {name}")
        source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        return f'<audio controls preload="metadata" aria-label="{label}" src="{source}"></audio>'

    talkers = range(len(example.references))
    reference = [player(f"reference, talker {t + 1}", example.references[t]) for t in talkers]
    rows = [_row("Mixture", [player("mixture", example.mixture)], len(talkers)), _row("Reference", reference)]
    for name, output in example.outputs.items():
        cells = []
        for t in talkers:
            sound = "" if output.waveforms is None else player(f"{name}, talker {t + 1}", output.waveforms[t])
            cells.append(f"{sound}<small>{html.escape(', '.join(_facts(output, t)))}</small>")
        rows.append(_row(name, cells))
    head = tables.column("Signal", kind="text")
    for t, source in enumerate(example.scene.sources):
        moving = " at first" if source.waypoints else ""
        where = f"at {source.azimuth_deg:.1f}°{moving}, {source.distance_m:.2f} m"
        head += tables.column(f"Talker {t + 1}", where, "text")
    return tables.table(f"Signals of {example.scene.id}", head, rows, "players")


def _row(name: str, cells: list[str], columns: int = 1) -> str:
    """A row of cells, each as wide as some columns; one that only sounds is left out on paper."""
    kind = "" if any("<small>" in cell for cell in cells) else ' class="sound"'
    span = f' colspan="{columns}"' if columns > 1 else ""
    body = "".join(f"<td{span}>{cell}</td>" for cell in cells)
    return f'<tr{kind}><th scope="row" class="text">{html.escape(name)}</th>{body}</tr>'


def _facts(output: Output, talker: int) -> list[str]:
    """Scores of a talker, in words."""
    facts = []
    gain, error = (output.of_talker(field, talker) for field in (GAIN, DOA_ERROR))
    if gain is not None:
        facts.append(f"gain {tables.number(gain, 1)} dB")
    if output.directions is not None:
        facts.append(f"azimuth {output.directions.azimuth_deg[talker] % 360.0:.1f}°")
    if error is not None:
        facts.append(f"error {error:.1f}°")
    return facts
