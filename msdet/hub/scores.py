"""Measured scores of a model, from evaluations, as its package holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msdet import __version__
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, did_you_mean
from msdet.io.files import read_json
from msdet.scoring.metrics import METRICS
from msdet.scoring.provenance import SUMMARY_FILE, read_provenance

SCHEMA_VERSION = 1
MODEL = "model"  # name of the model among the systems of an evaluation
COMPARED = ("unprocessed", "srp_beam", MODEL)  # systems whose scores a package holds, as far as they were evaluated
_SHOWN = 12  # digits of a hash


def collect_scores(evaluations: Sequence[str], sets: Sequence[Path], weights: str) -> dict[str, Any]:
    """What `msdet evaluate` measured on several test sets, side by side.

    Folders of evaluations may come with the name of a test set, ``unseen rooms=exp/evaluation``; folders of test sets
    are matched by their hash, and then described; `weights` is the SHA-256 of the model's file. Refuses a folder that
    is no evaluation of a model, or one of other weights; two of a name; and a set of none of them.
    """
    known = {data.identity: data for data in map(SceneSet.open, sets)}
    entries: dict[str, Any] = {}
    for name, folder in map(_named, evaluations):
        if name in entries:
            raise MsdetError(f"evaluation: two are called '{name}'; give names as in 'other rooms={folder}'")
        entries[name] = _evaluation(folder, known, weights)
    used = {entry["set"]["hash"] for entry in entries.values()}
    for identity, data in known.items():
        if identity not in used:
            raise MsdetError(f"{data.root}: hash is {identity}, no evaluation is of this set")
    return {"schema": SCHEMA_VERSION, "msdet": __version__, "evaluations": entries}


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or Path(text).is_dir():
        return Path(text).resolve().name, Path(text)
    if not name.strip() or not folder:
        raise MsdetError(f"evaluation is '{text}', expected a folder, or a name and a folder: 'name=folder'")
    return name.strip(), Path(folder)


def _evaluation(folder: Path, known: Mapping[str, SceneSet], weights: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise MsdetError(f"{folder}: no such folder, expected an evaluation of msdet evaluate")
    path = folder / SUMMARY_FILE
    summary = read_json(path)
    systems = summary.get("systems") if isinstance(summary, dict) else None
    if not isinstance(systems, dict):
        raise MsdetError(f"{path}: not the summary of an evaluation, 'systems' is missing")
    if MODEL not in systems:
        raise MsdetError(f"{path}: has no scores of a model (msdet evaluate --model){did_you_mean(MODEL, systems)}")
    scored = summary.get("weights")
    if scored not in (None, weights):
        raise MsdetError(
            f"{path}: is of other weights (SHA-256 {str(scored)[:_SHOWN]}...) than the model's "
            f"({weights[:_SHOWN]}...); run msdet evaluate with this model"
        )
    identity = read_provenance(folder / MODEL).data or summary.get("data")
    description = describe_set(known[identity]) if identity in known else None
    try:
        return {
            "set": {"hash": identity, "scenes": summary["scenes"], "description": description},
            "weights": scored,
            "confidence": summary["confidence"],
            "systems": {name: _scores(systems[name]) for name in COMPARED if name in systems},
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MsdetError(f"{path}: not the summary of an evaluation ({type(error).__name__}: {error})") from error


def _scores(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | int | None]]:
    """Value, interval (of two scenes at least) and number of scenes of each metric that has any."""
    scored = {key: metrics[key] for key in METRICS if metrics.get(key, {}).get("value") is not None}
    return {
        key: {
            **{p: None if of[p] is None else round(float(of[p]), 6) for p in ("value", "low", "high")},
            "n": int(of["n"]),
        }
        for key, of in scored.items()
    }


def describe_set(data: SceneSet) -> str:
    """What a data set holds, in a sentence."""
    scenes = data.scenes
    seconds = [scene.duration_s for scene in scenes]
    talkers = sorted({len(scene.sources) for scene in scenes})
    parts = [
        f"{len(scenes)} scenes of {_span(seconds, 's')}",
        f"{' or '.join(map(str, talkers))} talkers at {data.sample_rate / 1000:g} kHz",
        f"array {data.array.name}",
    ]
    t60_s = [scene.t60_s for scene in scenes if scene.t60_s is not None]
    parts.append(f"T60 {_span(t60_s, 's')}" if t60_s else "T60 not known")
    distances_m = [s.distance_m for scene in scenes for s in scene.sources if not math.isnan(s.distance_m)]
    parts += [f"distance {_span(distances_m, 'm')}"] if distances_m else []
    noises = [noise for scene in scenes for noise in scene.noises]
    for kind in sorted({noise.kind for noise in noises}):
        parts.append(f"{kind} noise at {_span([n.snr_db for n in noises if n.kind == kind], 'dB')}")
    if any(scene.mismatch for scene in scenes):
        parts.append("microphones that differ from their description")
    if any(source.track for scene in scenes for source in scene.sources):
        parts.append("talkers who walk")
    parts.append("measured rooms" if all(scene.room_m is None for scene in scenes) else "simulated rooms")
    return "; ".join(parts)


def _span(values: Sequence[float], unit: str) -> str:
    low, high = (f"{value:.3g}" for value in (min(values), max(values)))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
