"""A training run from its settings: of one stage, or of several one after the other.

Each stage has its own objective, data, optimizer and choice of what learns. It is a run of its own in
``stages/01-name`` of the run's folder, with all that a run has; the last one's model is the run's. A stage
draws other mixtures than those before it, unless it sets its own seed.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from msdet.errors import MsdetError
from msdet.io.files import (
    FolderKind,
    atomic_path,
    check_own_folder,
    held,
    plain_name,
    read_json,
    remove_folder,
    write_json,
)
from msdet.io.jobs import IN_PROGRESS, begin_run_dir, finish_run_dir
from msdet.renamed import translated
from msdet.training.callbacks import TRAINER_STATE, Report, StepProgress
from msdet.training.checks import check, comparable
from msdet.training.config import DataConfig, TrainConfig, overridden
from msdet.training.loaders import TrainingData, load_data
from msdet.training.single_run import FINISHED, dry_run_single, prepare, train_single
from msdet.training.trainer import is_first_process, restored_determinism

RUN = FolderKind("training", (FINISHED, IN_PROGRESS), "settings", ".*")
"""A stage's own folder; loggers may write anything there."""


def train(
    out: Path,
    config: TrainConfig,
    report: Report = print,
    progress: StepProgress | None = None,
    stage: int | None = None,
    stop_stage: int | None = None,
) -> Path:
    """Train a model into the folder `out`, or go on from the last checkpoint that a killed run left there; gives `out`.

    It becomes a checkpoint directory: the best model by ``trainer.monitor``, of the last stage.

    Args:
        out: the run's folder; an error if it holds a run with other settings.
        config: everything that decides the run.
        report: called with one line after each validation and for each thing of note.
        progress: called after each step of a stage (`StepProgress`).
        stage: train from this stage on (from 1); what is there of it and of later ones is deleted.
        stop_stage: the last stage to train.
    """
    check(config)

    def say(line: str) -> None:
        if is_first_process():
            report(line)

    def count(done: int, total: int, note: str) -> None:
        if progress and is_first_process():
            progress(done, total, note)

    if config.stages:
        return _train_stages(out, config, say, count, stage, stop_stage)
    if stage is not None or stop_stage is not None:
        raise MsdetError("stage and stop_stage choose among stages, the settings name none")
    return train_single(out, config, say, count)


def dry_run(config: TrainConfig, report: Report = print) -> None:
    """Take two steps and validate on one batch, of each stage; say how long all would take. Writes nothing."""
    check(config)
    for folder, stage in planned(config) if config.stages else [("", config)]:
        if folder:
            report(f"stage {folder}:")
        dry_run_single(stage, report)


def planned(config: TrainConfig) -> list[tuple[str, TrainConfig]]:
    """Folder and settings of each stage; initial weights are those that do not depend on other stages."""
    plans = []
    for number, stage in enumerate(config.stages, start=1):
        where = f"stages, {number} ({stage.name})"
        trainer = {"seed": config.trainer.seed + number - 1} | stage.trainer
        changes = {"data": stage.data, "objective": stage.objective, "optimizer": stage.optimizer, "trainer": trainer}
        groups = {name: overridden(getattr(config, name), new, f"{where}: {name}") for name, new in changes.items()}
        init = Path(stage.init) if stage.init not in ("previous", "none") else None
        if stage.init == "previous" and number == 1:
            init = config.init
        freeze, learning = [*config.freeze, *stage.freeze], stage.train or config.train
        plan = dataclasses.replace(config, **groups, init=init, freeze=freeze, train=learning, stages=[])
        try:
            check(plan)
        except MsdetError as error:
            raise MsdetError(f"{where}: {error}") from error
        plans.append((f"{number:02d}-{stage.name}", plan))
    return plans


def _train_stages(
    out: Path, config: TrainConfig, report: Report, progress: StepProgress, first: int | None, last: int | None
) -> Path:
    """Train the stages that are not finished yet, from stage `first` to stage `last`."""
    plans = planned(config)
    for option, number in (("stage", first), ("stop_stage", last)):
        if number is not None and not 1 <= number <= len(plans):
            raise MsdetError(f"{option} is {number}, expected 1 to {len(plans)}")
    of_stages = zip(config.stages, plans, strict=True)
    settings = {"stages": {folder: comparable(plan) | {"init": stage.init} for stage, (folder, plan) in of_stages}}
    _prepare_all(out, plans)
    # a new folder is that of its first stage, which is held, too
    with held(out) if is_first_process() and out.is_dir() else nullcontext():
        if not _begin(out, settings, first, report):
            return out
        previous: Path | None = None
        for number, (stage, (folder, plan)) in enumerate(zip(config.stages, plans, strict=True), start=1):
            if last is not None and number > last:
                return out
            init = previous if previous and stage.init == "previous" else plan.init
            report(f"stage {number} of {len(plans)}, {stage.name}:")
            previous = train_single(out / "stages" / folder, dataclasses.replace(plan, init=init), report, progress)
        if is_first_process() and previous is not None:
            _finish(out, settings, previous, [folder for folder, _ in plans])
    return out


def _prepare_all(out: Path, plans: Sequence[tuple[str, TrainConfig]]) -> None:
    """Find what a later stage cannot do before the first one starts."""
    opened: list[tuple[DataConfig, TrainingData]] = []
    earlier: list[Path] = []
    threads = torch.get_num_threads()
    for folder, plan in plans:
        if plan.init and plan.init.resolve() in earlier:
            plan = dataclasses.replace(plan, init=None)  # will be there when its turn comes
        earlier.append((out / "stages" / folder).resolve())
        try:
            data = next((data for read, data in opened if read == plan.data), None)
            if data is None:
                data = load_data(plan.data, plan.model, plan.trainer.seed)
                opened.append((plan.data, data))
            with restored_determinism():
                prepare(plan, lambda line: None, data)
        except MsdetError as error:
            raise MsdetError(f"stage {folder}: {error}") from error
        finally:
            torch.set_num_threads(threads)


def _begin(out: Path, settings: dict[str, Any], first: int | None, report: Report) -> bool:
    """Whether there is something to train; the first process begins the folder."""
    folders = list(settings["stages"])[(first or 1) - 1 :]
    if is_first_process():
        if first is not None:
            _delete_from(out, settings, first)
        try:
            todo = begin_run_dir(out, settings, FINISHED)
        except MsdetError as error:
            number = _first_changed(out, settings)
            if number is None:
                raise
            raise MsdetError(f"{error}; --stage {number} trains again from there") from error
    else:
        old = [out / "stages" / folder / file for folder in folders for file in (FINISHED, TRAINER_STATE)]
        while first is not None and any(file.exists() for file in old):
            time.sleep(0.1)  # the first process deletes them
        todo = first is not None or not (out / FINISHED).is_file()
    if not todo:
        report(f"{out}: training is already finished")
    return todo


def _trained_stages(out: Path) -> tuple[Path | None, Any]:
    """The file of a folder that says what it holds, if any, and the settings of stages that it names, if any."""
    header = next((out / name for name in (FINISHED, IN_PROGRESS) if (out / name).is_file()), None)
    return header, translated(read_json(header).get("settings", {})).get("stages") if header else None


def _first_changed(out: Path, settings: dict[str, Any]) -> int | None:
    """Number of the first stage that differs from what a folder holds; None if that is the first of all."""
    before, now = _trained_stages(out)[1], settings["stages"]
    same = len(list(itertools.takewhile(lambda name: before and before.get(name) == now[name], now)))
    return same + 1 if 0 < same < len(now) else None


def _delete_from(out: Path, settings: dict[str, Any], first: int) -> None:
    """Delete what a run left of a stage and of all later ones; their settings may have changed."""
    header, before = _trained_stages(out)
    if header is None:
        return  # nothing, or not ours: `begin_run_dir` says so
    if not isinstance(before, dict):
        raise MsdetError(f"{out}: is a run without stages; choose another folder or delete this one")
    kept = list(settings["stages"])[: first - 1]
    for folder in kept:
        if before.get(folder) != settings["stages"][folder]:
            raise MsdetError(f"{out}: stage {folder} had other settings; start there or choose another folder")
    old = [out / "stages" / plain_name(folder, "stage", header) for folder in before.keys() - set(kept)]
    for stage in old:
        check_own_folder(stage, RUN)
    # from here on the run is unfinished
    write_json(out / IN_PROGRESS, {"kind": RUN.name, "settings": settings})
    for name in (FINISHED, "model.json", "model.safetensors"):
        (out / name).unlink(missing_ok=True)
    for stage in old:
        remove_folder(stage, RUN)


def _finish(out: Path, settings: dict[str, Any], last: Path, folders: list[str]) -> None:
    """Put the last stage's model into the run's folder, and the header."""
    with atomic_path(out / "model.json") as description, atomic_path(out / "model.safetensors") as weights:
        shutil.copyfile(last / "model.json", description)
        shutil.copyfile(last / "model.safetensors", weights)
    ends = {folder: read_json(out / "stages" / folder / FINISHED) for folder in folders}
    counts = {folder: {"steps": end["steps"], "skipped": end["skipped"]} for folder, end in ends.items()}
    total = {name: sum(count[name] for count in counts.values()) for name in ("steps", "skipped")}
    finish_run_dir(out, settings, FINISHED, {**total, "stages": counts})
