"""A training in stages: each with its objective, data, optimizer and what learns, one after the other.

Each stage is a run of its own in ``stages/01-name`` of the run's folder, with all that a run has; the last
one's model is the run's. A stage draws other mixtures than those before it, unless it sets its own seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msdet.errors import MsdetError, did_you_mean
from msdet.io.files import (
    FolderKind,
    atomic_path,
    check_own_folder,
    plain_name,
    read_json,
    remove_folder,
    write_json,
)
from msdet.io.jobs import IN_PROGRESS, begin_run_dir, finish_run_dir
from msdet.renamed import renaming
from msdet.training.callbacks import TRAINER_STATE
from msdet.training.checks import check, comparable
from msdet.training.config import DataConfig, StageConfig, TrainConfig
from msdet.training.loaders import TrainingData, load_data
from msdet.training.single_stage import FINISHED, rehearse, train_one
from msdet.training.trainer import is_first_process

T = TypeVar("T")

RUN = FolderKind("training", (FINISHED, IN_PROGRESS), "settings", ".*")
"""A stage's own folder; loggers may write anything there."""


def parse_stage(row: Mapping[str, Any], number: int) -> StageConfig:
    """A stage from the settings of a file.

    Raises:
        MsdetError: an unknown key, with the nearest; no name; or a value of the wrong type.
    """
    where = f"stages, {number}"
    known = [field.name for field in dataclasses.fields(StageConfig)]
    for key in row:
        if key not in known:
            raise MsdetError(renaming(key) or f"{where}: unknown key '{key}'{did_you_mean(key, known)}")
    if "name" not in row:
        raise MsdetError(f"{where}: key 'name' is missing")
    return overridden(StageConfig(""), row, where)


def planned(config: TrainConfig) -> list[tuple[str, TrainConfig]]:
    """Folder and settings of each stage; initial weights are those that do not depend on other stages.

    Raises:
        MsdetError: a stage sets what does not exist, or what cannot work.
    """
    plans = []
    for number, stage in enumerate(config.stages, start=1):
        where = f"stages, {number} ({stage.name})"
        seed = {"seed": config.trainer.seed + number - 1}
        init = config.init if number == 1 else None
        plan = dataclasses.replace(
            config,
            data=overridden(config.data, stage.data, f"{where}: data"),
            objective=overridden(config.objective, stage.objective, f"{where}: objective"),
            optimizer=overridden(config.optimizer, stage.optimizer, f"{where}: optimizer"),
            trainer=overridden(config.trainer, seed | stage.trainer, f"{where}: trainer"),
            init=init if stage.init == "previous" else None if stage.init == "none" else Path(stage.init),
            freeze=[*config.freeze, *stage.freeze],
            train=stage.train or config.train,
            stages=[],
        )
        try:
            check(plan)
        except MsdetError as error:
            raise MsdetError(f"{where}: {error}") from error
        plans.append((f"{number:02d}-{stage.name}", plan))
    return plans


def train_stages(
    out: Path,
    config: TrainConfig,
    report: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
    first: int | None = None,
    last: int | None = None,
) -> Path:
    """Train all stages that are not finished yet.

    Args:
        out: the run's folder, which becomes a checkpoint directory: the last stage's.
        config: everything that decides the run.
        report: called with one line after each validation.
        progress: called with steps done and in all after each step, of a stage.
        first: the first stage to train again, from 1; what is there of it and of later ones is deleted.
        last: the last stage to train.

    Raises:
        MsdetError: bad settings or data, or a folder that holds a run with other settings.
    """
    plans = planned(config)
    for option, number in (("stage", first), ("stop_stage", last)):
        if number is not None and not 1 <= number <= len(plans):
            raise MsdetError(f"{option} is {number}, expected 1 to {len(plans)}")
    settings = {
        "stages": {
            folder: comparable(plan) | {"init": stage.init}
            for stage, (folder, plan) in zip(config.stages, plans, strict=True)
        }
    }
    _try_all(out, plans)
    if not _claimed(out, settings, first, report):
        return out
    previous: Path | None = None
    for number, (stage, (folder, plan)) in enumerate(zip(config.stages, plans, strict=True), start=1):
        if last is not None and number > last:
            return out
        init = previous if previous and stage.init == "previous" else plan.init
        report(f"stage {number} of {len(plans)}, {stage.name}:")
        place = out / "stages" / folder
        previous = train_one(place, dataclasses.replace(plan, init=init), report, progress)
    if is_first_process() and previous is not None:
        _finish(out, settings, previous, [folder for folder, _ in plans])
    return out


def _try_all(out: Path, plans: Sequence[tuple[str, TrainConfig]]) -> None:
    """Find what a later stage cannot do before the first one starts.

    Raises:
        MsdetError: names the stage.
    """
    opened: list[tuple[DataConfig, TrainingData]] = []
    earlier: list[Path] = []
    for folder, plan in plans:
        if plan.init and plan.init.resolve() in earlier:
            plan = dataclasses.replace(plan, init=None)  # will be there when its turn comes
        earlier.append((out / "stages" / folder).resolve())
        try:
            data = next((known for settings, known in opened if settings == plan.data), None)
            if data is None:
                data = load_data(plan.data, plan.model, plan.trainer.seed)
                opened.append((plan.data, data))
            rehearse(plan, data)
        except MsdetError as error:
            raise MsdetError(f"stage {folder}: {error}") from error


def overridden(config: T, changes: Mapping[str, Any], where: str) -> T:
    """A dataclass with some fields changed, groups within it field by field, values of the right type.

    >>> from msdet.training.config import OptimizerConfig
    >>> overridden(OptimizerConfig(), {"steps": 7}, "optimizer").steps
    7

    Raises:
        MsdetError: an unknown field, with the nearest; or a value of the wrong type.
    """
    from jsonargparse import ArgumentParser

    if not changes:
        return config
    merged = _merged(config, changes, where)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(type(config), as_group=False)
    try:
        values = parser.instantiate(parser.parse_object(merged))
    except argparse.ArgumentError as error:
        raise MsdetError(f"{where}: {' '.join(str(error).split())}") from error
    return type(config)(**values.as_dict())


def _merged(config: Any, changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of a dataclass, those that change in their new form."""
    fields = [field.name for field in dataclasses.fields(config)]
    merged = dataclasses.asdict(config)
    for key, value in changes.items():
        if key not in fields:
            option = f"{where.split(': ')[-1]}.{key}"
            raise MsdetError(
                renaming(option) or f"{where}: unknown key '{key}'{did_you_mean(str(key), fields)}"
            )
        old = getattr(config, key)
        nested = dataclasses.is_dataclass(old) and isinstance(value, Mapping)
        merged[key] = _merged(old, value, f"{where}.{key}") if nested else value
    return merged


def _claimed(out: Path, settings: dict[str, Any], first: int | None, report: Callable[[str], None]) -> bool:
    """Whether there is something to train; the first process claims the folder."""
    folders = list(settings["stages"])[(first or 1) - 1 :]
    if is_first_process():
        if first is not None:
            _forget(out, settings, first)
        try:
            todo = begin_run_dir(out, settings, FINISHED)
        except MsdetError as error:
            number = _first_changed(out, settings)
            if number is None:
                raise
            raise MsdetError(f"{error}; --stage {number} trains again from there") from error
    else:
        while first is not None and any(_is_old(out / "stages" / folder) for folder in folders):
            time.sleep(0.1)  # the first process deletes them
        todo = first is not None or not (out / FINISHED).is_file()
    if not todo:
        report(f"{out}: training is already finished")
    return todo


def _is_old(stage: Path) -> bool:
    return (stage / FINISHED).exists() or (stage / TRAINER_STATE).exists()


def _first_changed(out: Path, settings: dict[str, Any]) -> int | None:
    """Number of the first stage that differs from what a folder holds; None if that is the first of all."""
    header = next((out / name for name in (FINISHED, IN_PROGRESS) if (out / name).is_file()), None)
    before = read_json(header).get("settings", {}).get("stages") if header else None
    now = settings["stages"]
    kept = itertools.takewhile(lambda f: before and before.get(f) == now[f], now)
    same = len(list(kept))
    return same + 1 if 0 < same < len(now) else None


def _forget(out: Path, settings: dict[str, Any], first: int) -> None:
    """Delete what a run left of a stage and of all later ones; their settings may have changed.

    Raises:
        MsdetError: earlier stages had other settings, the folder is not a run of stages, or what it says is a
            stage is none.
    """
    header = next((out / name for name in (FINISHED, IN_PROGRESS) if (out / name).is_file()), None)
    if header is None:
        return  # nothing, or not ours: claiming says so
    before = read_json(header).get("settings", {}).get("stages")
    if not isinstance(before, dict):
        raise MsdetError(f"{out}: is a run without stages; choose another folder or delete this one")
    kept = list(settings["stages"])[: first - 1]
    for folder in kept:
        if before.get(folder) != settings["stages"][folder]:
            raise MsdetError(
                f"{out}: stage {folder} had other settings; start there or choose another folder"
            )
    old = [out / "stages" / plain_name(folder, "stage", header) for folder in before.keys() - set(kept)]
    for place in old:
        check_own_folder(place, RUN)
    write_json(
        out / IN_PROGRESS, {"kind": RUN.name, "settings": settings}
    )  # from here on the run is unfinished
    for name in (FINISHED, "model.json", "model.safetensors"):
        (out / name).unlink(missing_ok=True)
    for place in old:
        remove_folder(place, RUN)


def _finish(out: Path, settings: dict[str, Any], last: Path, folders: list[str]) -> None:
    """Put the last stage's model into the run's folder, and the header."""
    with (
        atomic_path(out / "model.json") as description,
        atomic_path(out / "model.safetensors") as weights,
    ):
        shutil.copyfile(last / "model.json", description)
        shutil.copyfile(last / "model.safetensors", weights)
    ends = {folder: read_json(out / "stages" / folder / FINISHED) for folder in folders}
    counts = {folder: {"steps": end["steps"], "skipped": end["skipped"]} for folder, end in ends.items()}
    total = {name: sum(count[name] for count in counts.values()) for name in ("steps", "skipped")}
    finish_run_dir(out, settings, FINISHED, {**total, "stages": counts})
