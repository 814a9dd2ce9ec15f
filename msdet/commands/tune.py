"""``msdet tune``."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msdet.commands._progress import quiet_lightning
from msdet.models.config import ModelConfig
from msdet.training.config import DataConfig, ObjectiveConfig, OptimizerConfig, TrainConfig, TrainerConfig

if TYPE_CHECKING:
    from msdet.training.study import Record, StudyConfig
    from msdet.training.tuning import Outcome

_SHOWN = 20  # trials in the printed table


def tune(
    out: Path,
    search: dict[str, Any],
    data: DataConfig,
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen dataclasses)
    objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    trainer: TrainerConfig = TrainerConfig(),  # noqa: B008
    init: Path | None = None,
    freeze: list[str] = [],  # noqa: B006 (never changed)
    train_only: list[str] = [],  # noqa: B006
    metric: str = "dev/loss",
    direction: Literal["minimize", "maximize"] | None = None,
    trials: int | None = None,
    sampler: str = "tpe",
    sampler_options: dict[str, Any] = {},  # noqa: B006
    pruner: str = "median",
    pruner_options: dict[str, Any] = {},  # noqa: B006
    seed: int = 0,
) -> None:
    """Search options of training for the best; run the same command again to go on after a kill.

    A trial that was running goes on from its last checkpoint; commands on one folder share its trials.
    Writes a run's folder for each, trials.csv, importance.png, and best.yaml for msdet train --config.

    Args:
        out: folder of the study.
        search: by an option's dotted name, such as optimizer.learning_rate, a list of values, or a range: low and
            high, and log, step or points (on a grid).
        data: what to train and validate on.
        model: the model.
        objective: assignment, losses and their weights.
        optimizer: how long and how fast to learn.
        trainer: when to validate and stop, and what to run on.
        init: checkpoint directory to start each trial from.
        freeze: parameters that do not learn, by patterns of names such as ``sharing.*``.
        train_only: the only parameters that learn, by patterns of names.
        metric: of validation; a trial counts by its best one.
        direction: of better values; by the metric's name if not given.
        trials: in all; 20, or the whole grid, if not given. More of them continue a finished study.
        sampler: draws options: tpe, random or grid.
        sampler_options: of Optuna's sampler, such as n_startup_trials.
        pruner: ends trials that are worse than others at the same validation: median, hyperband or none.
        pruner_options: of Optuna's pruner, such as n_startup_trials; its steps are validations.
        seed: of what is drawn; those of training are the trainer's.
    """
    from msdet.training.study import StudyConfig

    base = TrainConfig(data, model, objective, optimizer, trainer, init, freeze, train_only)
    study = StudyConfig(search, metric, direction, trials, sampler, sampler_options, pruner, pruner_options, seed)
    _run(out, base, study)


def _run(out: Path, base: TrainConfig, study: StudyConfig) -> None:
    from msdet.training.tuning import tune as run

    quiet_lightning()
    outcome = run(out, base, study, lambda line: print(line, flush=True))
    print(_table(outcome, study), end="")
    if outcome.running:
        print(f"trials still running in other processes: {outcome.running}; the last one writes what was found")
    else:
        _write(out, outcome, study)


def _write(out: Path, outcome: Outcome, study: StudyConfig) -> None:
    """Write the table of trials, the best options and the plot."""
    from msdet.io.files import write_bytes, write_text
    from msdet.plots.histograms import importance_figure
    from msdet.plots.theme import to_png

    write_text(out / "trials.csv", _csv(outcome, study.metric))
    if outcome.best and outcome.config:
        note = f"# trial {outcome.best.number} of {out.name}: {study.metric} {outcome.best.value:.6g}\n"
        write_text(out / "best.yaml", note + as_yaml(outcome.config))
        print(f"{out}/best.yaml: options of trial {outcome.best.number}, for msdet train --config")
    if outcome.importances:
        done = sum(record.state == "done" for record in outcome.records)
        figure = importance_figure(outcome.importances, study.metric, done)
        write_bytes(out / "importance.png", to_png(figure))


def as_yaml(config: TrainConfig) -> str:
    """Settings of a training as ``msdet train --config`` takes them."""
    import yaml

    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    settings["train_only"] = settings.pop("train")
    settings.pop("stages")  # a trial has none
    text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text


def _csv(outcome: Outcome, metric: str) -> str:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for record in outcome.records for name in record.options))
    writer = csv.writer(stream)
    writer.writerow(["trial", "state", metric, *names, "reason"])
    for record in outcome.records:
        options = [_exact(record.options[name]) if name in record.options else "" for name in names]
        value = "" if record.value is None else record.value
        writer.writerow([record.number, record.state, value, *options, record.reason or ""])
    return stream.getvalue()


def _table(outcome: Outcome, study: StudyConfig) -> str:
    """The best trials, and the importance of each option."""
    from msdet.scoring.tables import Table, plain

    def order(record: Record) -> tuple[bool, bool, float]:
        value = record.value if record.value is not None else float("inf")
        return record.state != "done", record.state != "pruned", -value if study.maximizes else value

    shown = sorted(outcome.records, key=order)[:_SHOWN]
    names = list(dict.fromkeys(name for record in shown for name in record.options))
    share = {name: f"\n{100 * value:.0f} %" for name, value in outcome.importances.items()}
    parted = (name.replace(".", ".\n") + share.get(name, "") for name in names)
    header = ["trial", "state", study.metric.replace("/", "/\n"), *parted]
    columns: list[list[str]] = [
        [str(record.number) for record in shown],
        [record.state for record in shown],
        ["-" if record.value is None else f"{record.value:.4g}" for record in shown],
        *([_cell(record.options.get(name, "-")) for record in shown] for name in names),
    ]
    notes = ["Of a pruned trial the value is its last one."]
    if share:
        notes.append("In per cent: importance of the option, by PED-ANOVA (Watanabe et al., IJCAI 2023).")
    if len(outcome.records) > len(shown):
        notes.append(f"The best {len(shown)} of {len(outcome.records)} trials; all of them are in trials.csv.")
    title = f"Trials, {'largest' if study.maximizes else 'smallest'} {study.metric} first"
    return plain([Table(title, header, columns, 0)], notes)


def _cell(value: Any) -> str:
    """A value of an option for people."""
    return f"{value:.6g}" if isinstance(value, float) else _exact(value)


def _exact(value: Any) -> str:
    """A value of an option as text that says all of it."""
    return value if isinstance(value, str) else json.dumps(value)
