"""A search over options of a training: trials, one run each, that Optuna draws and prunes.

T. Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD 2019. Samplers:
``tpe`` (J. Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011), ``random``,
``grid``. Pruners: ``median``, ``hyperband`` (L. Li et al., JMLR 18, 2018), ``none``.

The folder of a study holds the data base ``study.db`` and a run's folder for each trial, ``trials/0000`` and so on. A
killed study goes on where it was. Several processes of one machine share a study by running the same command.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from msdet.errors import MsdetError
from msdet.io.files import write_json
from msdet.io.jobs import IN_PROGRESS, begin_run_dir, finish_run_dir
from msdet.training.callbacks import Report
from msdet.training.checks import check, comparable, on_one_device
from msdet.training.config import TrainConfig
from msdet.training.run import train
from msdet.training.search_space import Option, applied, parse_space
from msdet.training.single_run import prepare
from msdet.training.study import Record, Study, StudyConfig
from msdet.training.trainer import restored_determinism
from msdet.training.transfer import init_setting

if TYPE_CHECKING:
    from optuna.trial import Trial

FINISHED = "study.json"
"""Written last into a study's folder."""

PRUNED = "pruned.json"
"""Marks the folder of a trial that was pruned."""

_WEIGHTED = ("doa_weight", "task_weights", "consistency", "separation_loss", "separation_options", "doa_loss",
             "doa_options")  # fmt: skip
"""Of the objective: what ``dev/loss`` is made of, so that its values cannot be compared."""


class TrialPruned(Exception):
    """Ends a run that its pruner gives up."""


@dataclass(frozen=True)
class Outcome:
    """What a study has shown so far."""

    records: list[Record]
    best: Record | None  # the best trial that came to its end, if any
    config: TrainConfig | None  # of a training as the best trial had it
    importances: dict[str, float]  # share of each option, largest first (`Study.importances`)
    running: int  # trials that other processes are at work on


def tune(out: Path, base: TrainConfig, config: StudyConfig, report: Report = print) -> Outcome:
    """Run the trials of a study that are not finished yet, in a new study or an older one.

    A trial whose training fails, for one because the GPU's memory is too small for it, is noted with its reason, and
    the others go on; an error if all failed. `base` are settings of every trial's training but for what is searched.
    Those that cannot work, with one of the values or an end of a range, are refused before any training.
    """
    original, base = base, on_one_device(base, "a trial has one; run the same command once for each device")
    check(base)
    space = parse_space(config.search, base)
    study = Study(out, config, space, base.validations)
    identity = _check_options(base, config, space)
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    settings.pop("trials")  # with more of them a study goes on
    settings = {"study": settings, "training": comparable(base), "data": identity, **init_setting(base.init)}
    todo = begin_run_dir(out, settings, FINISHED)
    with study.opened():
        if not todo and study.unfinished():
            write_json(out / IN_PROGRESS, {"settings": settings})
            (out / FINISHED).unlink()
        while _take_trial(study, base, report):
            pass
        outcome = _outcome(study, original)
    if outcome.running == 0:
        states = [record.state for record in outcome.records]
        counts = {state: states.count(state) for state in sorted(set(states))}
        finish_run_dir(out, settings, FINISHED, {"trials": counts, "best": outcome.best and outcome.best.number})
    if outcome.best is None and outcome.running == 0:
        last = outcome.records[-1]
        raise MsdetError(f"{out}: no trial came to its end; trial {last.number} {last.state}: {last.reason}")
    return outcome


def _take_trial(study: Study, base: TrainConfig, report: Report) -> bool:
    """Take a trial and run it; False if none is left."""
    with study.next_trial() as taken:
        if taken is None:
            return False
        trial, options = taken
        shown = ", ".join(f"{name} {_short(value)}" for name, value in options.items())
        report(f"trial {trial.number}: {shown}")
        _run(study, trial, applied(base, options), report)
    return True


def _run(study: Study, trial: Trial, config: TrainConfig, report: Report) -> None:
    """Train a trial to its end, or until it is pruned or fails."""
    number, metric = trial.number, study.config.metric
    folder, seen = study.folder(number), study.reported(trial)

    def watch(line: str) -> None:
        """Pass on what the training reports, and after each validation but the last ask the pruner."""
        report(f"trial {number}: {line}")
        values = dict(enumerate(validations(folder, metric), start=1))
        new = {count: value for count, value in values.items() if count not in seen}
        seen.update(new)
        for count, value in new.items():
            trial.report(value, count)
        if new and len(values) < config.validations and trial.should_prune():
            raise TrialPruned

    (folder / PRUNED).unlink(missing_ok=True)  # of a process that was killed before it said so
    try:
        train(folder, config, watch)
        finite = [value for value in validations(folder, metric) if math.isfinite(value)]
        if not finite:
            raise MsdetError(f"no validation had a finite {metric}")
        value = max(finite) if study.config.maximizes else min(finite)
    except TrialPruned:
        step, value = len(seen), seen[len(seen)]
        write_json(folder / PRUNED, {"trial": number, "validations": step, "metric": metric, "value": value})
        study.finish(trial, "pruned")
        report(f"trial {number}: pruned after {step} validations, {metric} {value:.4g}")
    except (MsdetError, torch.OutOfMemoryError) as error:
        reason = " ".join(str(error).split())
        study.finish(trial, "failed", reason=reason)
        report(f"trial {number}: failed: {reason}")
    else:
        study.finish(trial, "done", value)
        report(f"trial {number}: done, {metric} {value:.4g}")


def validations(folder: Path, metric: str) -> list[float]:
    """The values of a metric in all validations of a run, from its logs; of a step done twice, the later."""
    logs = folder / "logs"
    values: dict[int, float] = {}
    for part in sorted(logs.glob("metrics*.csv")):  # metrics-001.csv and so on before metrics.csv
        with part.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get(metric):
                    values[int(row["step"])] = float(row[metric])
    return [values[step] for step in sorted(values)]


def _outcome(study: Study, base: TrainConfig) -> Outcome:
    """What is known by now."""
    records = study.records()
    done = [record for record in records if record.state == "done" and record.value is not None]
    choose = max if study.config.maximizes else min
    best = choose(done, key=lambda record: record.value or 0.0, default=None)
    running = sum(record.state == "running" for record in records)
    return Outcome(records, best, applied(base, best.options) if best else None, study.importances(), running)


def _check_options(base: TrainConfig, config: StudyConfig, space: list[Option]) -> dict[str, str]:
    """Build what every value or end of a range would train; hashes of the data."""
    weighted = {"objective", *(f"objective.{name}" for name in _WEIGHTED)}
    decides = [o.name for o in space if ".".join(o.name.split(".")[:2]) in weighted]
    if config.metric == "dev/loss" and decides:
        advice = "choose a score, such as dev/si_sdr_improvement_db"
        raise MsdetError(f"metric dev/loss cannot compare trials that differ in {decides[0]}; {advice}")
    watching = dataclasses.replace(base, trainer=dataclasses.replace(base.trainer, monitor=config.metric))
    with restored_determinism():
        data = prepare(watching, lambda line: None).data
    for option in space:
        for value in option.corners():
            try:
                trial = applied(base, {option.name: value})
                check(trial)
                read = [(c.data, c.model.talkers, c.model.variable_num_speakers) for c in (trial, base)]
                with restored_determinism():
                    prepare(trial, lambda line: None, data if read[0] == read[1] else None)
            except MsdetError as error:
                raise MsdetError(f"search, {option.name} = {_short(value)}: {error}") from error
    return data.identity


def _short(value: Any) -> str:
    """A value of an option for people."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
