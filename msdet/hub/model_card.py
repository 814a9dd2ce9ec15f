"""The card of a model: what it is, how it was trained, its scores on several test sets, its limits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from msdet import __version__
from msdet.components import import_paths
from msdet.errors import MsdetError
from msdet.hub.scores import MODEL
from msdet.models.cost import Cost
from msdet.models.joint import JointModel
from msdet.renamed import translated
from msdet.scoring.metrics import METRICS
from msdet.scoring.tables import Table, blank_repeats, interval_cells, markdown

SHOWN = ("si_sdr_improvement_db", "si_sdr_db", "stoi", "pesq", "doa_mae_deg", "accuracy_10deg")
"""Metrics of the card's table, as far as they were measured; all others are in ``scores.json``."""

_TITLES = {"unprocessed": "unprocessed mixture", MODEL: "this model"}
_PASSES = 3  # a training step costs about as much as so many forward passes, the gradient twice one

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__), undefined=jinja2.StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, keep_trailing_newline=True,
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """The contents of a card."""

    name: str  # of the package
    file: str  # what it is loaded by
    model: JointModel
    cost: Cost  # of the model
    description: Mapping[str, Any]  # what model.json says
    training: Mapping[str, Any]  # what training.json says; empty without one
    scores: Mapping[str, Any]  # of `msdet.hub.scores.collect_scores`
    license: str  # of the weights
    data_notes: str  # of the data that it was trained on, in Markdown
    command: str  # that made the package

    def text(self) -> str:
        """The card as Markdown."""
        config = self.model.config
        paths = import_paths(dataclasses.asdict(config))
        return _TEMPLATES.get_template("card.md").render(
            card=self,
            config=config,
            array=self.model.array,
            bound=self.model.bound_parts,
            talkers=f"1 to {config.talkers} people" if config.variable_num_speakers else f"{config.talkers} people",
            paths=paths,
            modules=sorted({path.partition(":")[0] for path in paths}),
            scores=self._scores(),
            training=self._checked_training(),
            version=__version__,
        )

    def _scores(self) -> str:
        if not self.scores["evaluations"]:
            return "Not measured."
        table, notes = scores_table(self.scores, "scores")
        body = markdown([table], notes).removeprefix("### \n\n")
        return f"{body}\nAll metrics that were measured are in `scores.json`."

    def _checked_training(self) -> str:
        try:
            return self._training()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            message = f"{self.name}: training.json or the notes of model.json are malformed ({reason})"
            raise MsdetError(message) from error

    def _training(self) -> str:
        written = self.training.get("settings") or self.description.get("notes", {}).get("training") or {}
        settings = translated(written)
        stages: Mapping[str, Any] = settings.get("stages") or {"": settings}
        counts = self.training.get("stages", {})
        lines = []
        for folder, stage in stages.items():
            steps = counts.get(folder, {}).get("steps") if folder else self.training.get("steps")
            if {"data", "optimizer", "trainer"} <= stage.keys():
                lines.append(self._stage(folder, stage, steps))
        if "step" in (notes := self.description.get("notes", {})):
            dev = ", ".join(f"{key} {value:g}" for key, value in notes.get("scores", {}).items())
            lines.append(f"- The weights are those of step {notes['step']}{f': {dev}' if dev else ''}.")
        if names := self.description.get("notes", {}).get("sources"):
            lines.append(f"- The weights are the average of {len(names)} checkpoints.")
        return "\n".join(lines) or "Not known."

    def _stage(self, folder: str, stage: Mapping[str, Any], steps: int | None) -> str:
        """What was trained on what for how long."""
        o, t, data = stage["optimizer"], stage["trainer"], stage["data"]
        scenes = data.get("scenes", {})
        steps = o["steps"] if steps is None else steps
        batch_s = data.get("batch_seconds") or o["batch"] * scenes.get("duration_s", 0.0)
        audio_s = steps * o.get("accumulate", 1) * batch_s
        macs = _PASSES * audio_s * self.cost.macs_per_s
        drawn = [
            f"{scenes.get('duration_s', 0):g} s mixtures of {scenes.get('talkers')} talkers",
            f"T60 {_interval(scenes.get('t60_s'))} s",
            f"distance {_interval(scenes.get('distance_m'))} m",
            f"sensor noise at {_interval(scenes.get('snr_db'))} dB",
        ]
        if scenes.get("diffuse", "none") != "none":
            drawn.append(f"{scenes['diffuse']} diffuse noise at {_interval(scenes.get('diffuse_snr_db'))} dB")
        name = f"Stage {folder}: " if folder else ""
        hashes = ", ".join(f"{k} {v}" for k, v in stage.get("data_identity", {}).items())
        return (
            f"- {name}{steps} steps of {o['batch']} mixtures: {audio_s / 3600:.1f} h of audio, about "
            f"{macs:.1e} multiply-accumulates (a step as {_PASSES} forward passes).\n"
            f"- Mixed from: {'; '.join(drawn)}.\n"
            f"- {o['name']}, learning rate {o['learning_rate']:g}, {t['precision']}, seed {t['seed']}"
            f"{f'; data {hashes}' if hashes else ''}."
        )


def scores_table(scores: Any, origin: str, shown: Sequence[str] = SHOWN) -> tuple[Table, list[str]]:
    """The scores of a package: a table, without columns if nothing was measured, and notes below it.

    `scores` are of `msdet.hub.scores.collect_scores`, called by their `origin` where they are malformed.
    """
    try:
        return _scores_table(scores["evaluations"], shown)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MsdetError(f"{origin}: not the scores of a package ({type(error).__name__}: {error})") from error


def _scores_table(evaluations: Mapping[str, Any], shown: Sequence[str]) -> tuple[Table, list[str]]:
    lines = [(name, system, of) for name, entry in evaluations.items() for system, of in entry["systems"].items()]
    if not lines:
        return Table("", [], [], 0), []
    header = ["test set", "system"]
    columns = [blank_repeats([name for name, _, _ in lines]), [_TITLES.get(s, s) for _, s, _ in lines]]
    for key in shown:
        scores = [of.get(key) for _, _, of in lines]
        if any(scores):
            metric = METRICS[key]
            intervals = [of and [of["value"], of["low"], of["high"]] for of in scores]
            header.append(metric.label)
            columns.append(interval_cells(intervals, metric.decimals, metric.scale))
    confidence = {f"{entry['confidence']:.0%}" for entry in evaluations.values()}
    notes = [f"In brackets: {' or '.join(sorted(confidence))} bootstrap intervals over scenes."]
    for name, entry in evaluations.items():
        described = entry["set"]["description"] or f"{entry['set']['scenes']} scenes, not described"
        notes.append(f"{name}: {described} (hash {entry['set']['hash'] or 'not known'}).")
    return Table("", header, columns, 2), notes


def without_places(value: Any) -> Any:
    """JSON in which texts that are places on a machine are their last name alone.

    >>> without_places({"init": "/home/somebody/exp/x", "steps": [1, "../y/z"], "name": "a/b"})
    {'init': 'x', 'steps': [1, 'z'], 'name': 'a/b'}
    """
    if isinstance(value, dict):
        return {key: without_places(of) for key, of in value.items()}
    if isinstance(value, list):
        return [without_places(of) for of in value]
    if isinstance(value, str) and re.match(r"(/|~|\.\.?[/\\]|[A-Za-z]:[/\\])\S*$", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def _interval(value: Any) -> str:
    return " to ".join(f"{v:g}" for v in value) if isinstance(value, (list, tuple)) else str(value)
