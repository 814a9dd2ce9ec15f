"""``msdet evaluate``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from msdet.commands._progress import progress_bar, usable_cores
from msdet.commands._results import EXIT_NOT_ALL_SCORED, Format, show_results, split_names, tell_failures
from msdet.errors import MsdetError
from msdet.evaluation.breakdowns import DEFAULT_BREAKDOWNS, find_breakdowns
from msdet.evaluation.metrics import DEFAULT_METRICS, check_metrics

if TYPE_CHECKING:
    from msdet.data.manifest import SceneSet
    from msdet.evaluation.baselines import Oracle
    from msdet.evaluation.values import Row
    from msdet.inference.offline import Separator

    System = Path | Mapping[int, Separator | Oracle]

METHODS = ["srp_beam"]

ALL = "all"

UNPROCESSED, MODEL = "unprocessed", "model"


def evaluate(
    data: Path,
    out: Path,
    model: Path | None = None,
    methods: list[str] = METHODS,
    metrics: str = ",".join(DEFAULT_METRICS),
    by: str = ",".join(DEFAULT_BREAKDOWNS),
    format: Format = "text",
    jobs: int = 0,
) -> int:
    """Run a model and baselines over a data set and score them beside the unprocessed mixture.

    Writes, for each system, estimates and scores.jsonl, and for all together summary.json and summary.md.
    Exit code 1 if anything could not be scored.

    Args:
        data: rendered data set.
        out: folder of the evaluation.
        model: checkpoint directory; without one, only the baselines are run.
        methods: baselines by name (file names in msdet/evaluation/baselines) or import path module:function,
            with options as in lcmv,doa=oracle; folders of estimates; all: every baseline that needs nothing.
        metrics: of the audio, between commas, as for msdet score.
        by: breakdowns, between commas, as for msdet score.
        format: of what is printed: text to read, or md, latex, csv or json to paste.
        jobs: processes that score; 0 for one a core.
    """
    from msdet.data.manifest import SceneSet
    from msdet.evaluation.curves import curve_notes, curves
    from msdet.evaluation.directions import read_directions
    from msdet.evaluation.scoring import score_set, score_unprocessed
    from msdet.evaluation.submission import listed, unknown_scenes
    from msdet.files import write_json

    chosen, breakdowns = check_metrics(split_names(metrics)), split_names(by)
    find_breakdowns(breakdowns)
    scene_set = SceneSet.open(data)
    systems = dict(_systems(scene_set, methods))
    if model is not None:
        systems[MODEL] = _model_separators(model, scene_set)
    workers, lines = jobs or usable_cores(), format == "text"
    with progress_bar(f"score {UNPROCESSED}", lines) as progress:
        scores = out / UNPROCESSED / "scores.jsonl"
        mixtures = score_unprocessed(scene_set, scores, workers, progress, chosen)
    rows, remarks = dict.fromkeys((UNPROCESSED, *systems), mixtures), []
    # others' folders come first: they may be refused
    failures = []
    for name, system in sorted(systems.items(), key=lambda item: not isinstance(item[1], Path)):
        try:
            estimates = _estimates(scene_set, name, system, out, lines)
        except MsdetError as error:  # the others are still worth their tables
            failures.append(f"{name}: nothing separated: {error}")
            del rows[name]
            continue
        with progress_bar(f"score {name}", lines) as progress:
            scores = out / name / "scores.jsonl"
            rows[name] = score_set(scene_set, estimates, scores, workers, progress, chosen, mixtures)
        if unknown := unknown_scenes(scene_set, estimates):
            remarks.append(
                f"{name}: estimates of {len(unknown)} scenes that the set has not ({listed(unknown)})."
            )
        certainty = curves(scene_set, read_directions(estimates) or {}, rows[name])
        write_json(out / name / "curves.json", certainty)
        remarks += curve_notes(name, certainty)
    if failures and len(failures) == len(systems):
        raise MsdetError(failures[0])
    show_results(rows, out, list(rows)[-1], {"data": scene_set.identity}, breakdowns, format, remarks)
    return _tell(rows, out, failures, sys.stdout if lines else sys.stderr)


def _tell(rows: dict[str, list[Row]], out: Path, failures: list[str], stream: TextIO) -> int:
    """Print what each system failed at; the exit code.

    Raises:
        MsdetError: nothing of any system could be scored.
    """
    scored = [name for name in rows if name != UNPROCESSED]
    wanted, complete = len(failures) + len(scored), True
    for name in scored:
        try:
            complete &= tell_failures(rows[name], out / name / "scores.jsonl", stream, name)
        except MsdetError as error:
            failures.append(str(error))
    if failures and len(failures) == wanted:
        raise MsdetError(failures[0])
    for failure in failures:
        print(f"failed: {failure}", file=stream)
    return EXIT_NOT_ALL_SCORED if failures or not complete else 0


def _estimates(scene_set: SceneSet, name: str, system: System, out: Path, lines: bool) -> Path:
    """The folder of a system's estimates, in which its separators first write them."""
    from msdet.evaluation.estimates import write_estimates

    if isinstance(system, Path):
        return system
    estimates = out / name / "estimates"
    with progress_bar(f"separate {name}", lines) as progress:
        write_estimates(scene_set, system, estimates, progress)
    return estimates


def _systems(scene_set: SceneSet, methods: list[str]) -> Iterator[tuple[str, System]]:
    """Each method's name in the tables, and its separators or its folder of estimates.

    What `ALL` stands for comes first, `METHODS` last of it; what this set does not suit is told and left out.
    """
    from msdet.evaluation.baselines import baseline_names, ready_baselines

    taken = {UNPROCESSED: UNPROCESSED, MODEL: MODEL}
    known = baseline_names()
    ready = [name for name in ready_baselines() if name not in methods] if ALL in methods else []
    for method in sorted(ready, key=METHODS.count) + [m for m in methods if m != ALL]:
        if method == UNPROCESSED:  # it always is among the systems
            continue
        is_folder = method not in known and ("/" in method.split(",")[0] or Path(method).is_dir())
        name = _folder_name(Path(method)) if is_folder else re.sub(r"[^\w.,=:+\[\]-]", "_", method)
        if name in taken:
            raise MsdetError(f"methods '{taken[name]}' and '{method}' would both be called '{name}'")
        taken[name] = method
        if is_folder:
            yield name, Path(method)
            continue
        try:
            yield name, _separators(scene_set, method)
        except MsdetError as error:
            if method not in ready:
                raise
            print(f"left out: {method}: {error}", file=sys.stderr)


def _folder_name(folder: Path) -> str:
    """The folder's name, or its parent's if it is called estimates, as those of an evaluation are."""
    resolved = folder.resolve()
    return resolved.parent.name if resolved.name == "estimates" else resolved.name


def _separators(scene_set: SceneSet, method: str) -> dict[int, Separator | Oracle]:
    """A baseline by the number of talkers of a scene."""
    from msdet.evaluation.baselines import baseline_separator

    counts = sorted({len(scene.sources) for scene in scene_set.scenes})
    return {n: baseline_separator(method, scene_set.array, scene_set.sample_rate, n) for n in counts}


def _model_separators(folder: Path, scene_set: SceneSet) -> dict[int, Separator | Oracle]:
    """The model, which has one number of talkers.

    Raises:
        MsdetError: the data set is not what the model is for.
    """
    from msdet.inference.offline import model_separator
    from msdet.training.checkpoint import load_model

    model = load_model(folder)
    counts = sorted({len(scene.sources) for scene in scene_set.scenes})
    found = {
        "sample rate": (scene_set.sample_rate, model.sample_rate),
        "array": (scene_set.array.positions_m, model.array.positions_m),
        "reference microphone": (scene_set.array.reference, model.array.reference),
        "number of talkers": (" or ".join(map(str, counts)), str(model.config.talkers)),
    }
    for what, (of_data, of_model) in found.items():
        if of_data != of_model:
            shown = (scene_set.array.name, model.array.name) if what == "array" else (of_data, of_model)
            raise MsdetError(f"{scene_set.root}: {what} is {shown[0]}, the model {folder} expects {shown[1]}")
    return {model.config.talkers: model_separator(model)}
