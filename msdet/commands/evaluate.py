"""``msdet evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.commands._progress import progress_bar, usable_cores
from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.data.manifest import SceneSet
    from msdet.evaluation.scoring import Row

BASELINE = "srp_beam"


def evaluate(
    data: Path, out: Path, model: Path | None = None, methods: tuple[str, ...] = (BASELINE,), jobs: int = 0
) -> None:
    """Run a model and baselines over a data set and score them beside the unprocessed mixture.

    Writes, for each system, estimates and scores.jsonl, and for all together summary.json and summary.md.

    Args:
        data: rendered data set.
        out: folder of the evaluation.
        model: checkpoint directory; without one, only the baselines are run.
        methods: baselines by name, file names in msdet/evaluation/baselines.
        jobs: processes that score; 0 for one a core.
    """
    from msdet.data.manifest import SceneSet
    from msdet.evaluation.baselines import baseline_separator
    from msdet.evaluation.estimates import write_estimates

    scene_set = SceneSet.open(data)
    counts = {len(scene.sources) for scene in scene_set.scenes}
    if len(counts) != 1:
        raise MsdetError(f"{data}: scenes have {sorted(counts)} talkers, expected one number")
    separators = {
        name: baseline_separator(name, scene_set.array, scene_set.sample_rate, min(counts))
        for name in methods
    }
    if model is not None:
        separators["model"] = _model_separator(model, scene_set, min(counts))
    rows: dict[str, list[Row]] = {}
    for name, separator in separators.items():
        with progress_bar(f"separate {name}") as progress:
            write_estimates(scene_set, separator, out / name / "estimates", progress)
    for name in ("unprocessed", *separators):
        rows[name] = score(scene_set, out, name, jobs or usable_cores())
    report(rows, out, list(rows)[-1], {"data": scene_set.identity})


def score(scene_set: SceneSet, out: Path, name: str, jobs: int) -> list[Row]:
    """Score the estimates of one system into ``<out>/<name>/scores.jsonl``."""
    from msdet.evaluation.scoring import score_set, score_unprocessed

    scores = out / name / "scores.jsonl"
    with progress_bar(f"score {name}") as progress:
        if name == "unprocessed":
            return score_unprocessed(scene_set, scores, jobs, progress)
        return score_set(scene_set, out / name / "estimates", scores, jobs, progress)


def report(rows: dict[str, list[Row]], out: Path, of: str, notes: dict[str, Any]) -> None:
    """Print the summary and system `of`'s paired differences; write ``summary.json`` and ``summary.md``."""
    from rich.console import Console

    from msdet.evaluation.comparison import all_differences, differences_markdown
    from msdet.evaluation.summary import print_summary, summarise, to_json, to_markdown
    from msdet.files import write_json, write_text

    summary = summarise(rows)
    differences = all_differences(rows, of)
    table = differences_markdown(differences, of)
    write_json(out / "summary.json", {**to_json(summary), "paired_differences": {of: differences}, **notes})
    write_text(out / "summary.md", f"{to_markdown(summary)}\n{table}")
    print_summary(summary, Console(width=110))
    print(f"\n{table}")


def _model_separator(folder: Path, scene_set: SceneSet, talkers: int) -> Any:
    from msdet.inference.offline import model_separator
    from msdet.training.checkpoint import load_model

    model = load_model(folder)
    found = {
        "sample rate": (scene_set.sample_rate, model.sample_rate),
        "array": (scene_set.array.positions_m, model.array.positions_m),
        "reference microphone": (scene_set.array.reference, model.array.reference),
        "number of talkers": (talkers, model.config.talkers),
    }
    for what, (of_data, of_model) in found.items():
        if of_data != of_model:
            shown = (scene_set.array.name, model.array.name) if what == "array" else (of_data, of_model)
            raise MsdetError(f"{scene_set.root}: {what} is {shown[0]}, the model {folder} expects {shown[1]}")
    return model_separator(model)
