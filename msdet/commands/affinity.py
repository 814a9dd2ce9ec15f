"""``msdet affinity``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar, quiet_lightning
from msdet.models.config import ModelConfig
from msdet.training.config import DataConfig, ObjectiveConfig, OptimizerConfig, TrainConfig, TrainerConfig

if TYPE_CHECKING:
    from msdet.training.affinity import Affinities


def affinity(
    out: Path,
    data: DataConfig,
    tasks: list[str] = ["separation", "doa", "activity", "distance"],  # noqa: B006 (never changed)
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen dataclasses)
    objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(steps=200),  # noqa: B008
    trainer: TrainerConfig = TrainerConfig(),  # noqa: B008
    init: Path | None = None,
    freeze: list[str] = [],  # noqa: B006
    train_only: list[str] = [],  # noqa: B006
    every: int = 5,
    step_size: float | None = None,
    groups: int = 2,
) -> None:
    """Measure how much tasks help each other, and which to train together.

    Trains all tasks together for a while. Every few steps it looks how the loss of each task changes when the
    shared parameters make a step for one task alone (inter-task affinity, Fifty et al., NeurIPS 2021). Prints
    the matrix and the grouping it suggests; writes affinity.json and affinity.csv. What is found holds for
    these data, this model and these steps.

    Args:
        out: folder for what is measured.
        data: what to train on; labeled for every task.
        tasks: separation, doa, and file names in ``msdet/tasks`` or your own ``module:Task``.
        model: the model; its auxiliary tasks are those of `tasks` and its own.
        objective: assignment, losses and their weights.
        optimizer: how long and how fast to learn.
        trainer: when to validate and stop, and what to run on.
        init: checkpoint directory to start from.
        freeze: parameters that do not learn, by patterns of names such as ``sharing.*``.
        train_only: the only parameters that learn, by patterns of names.
        every: steps between measurements.
        step_size: learning rate of the step that is looked ahead; that of the optimizer if not given.
        groups: the most groups that the tasks are parted into.
    """
    from msdet.training.affinity import AffinityConfig, measure_affinities

    quiet_lightning()
    config = TrainConfig(data, model, objective, optimizer, trainer, init, freeze, train_only)
    with progress_bar("affinity") as progress:
        found = measure_affinities(out, config, AffinityConfig(tasks, every, step_size, groups), progress)
    print(_shown(found), end="")
    print(f"{out}/affinity.json, {out}/affinity.csv")


def _shown(found: Affinities) -> str:
    """The matrix and the grouping."""
    from msdet.scoring.tables import Table, plain

    cells = [
        [f"{100 * m:+.3g}" + (f" ± {100 * e:.1g}" if e == e else "") for m, e in zip(means, errors, strict=True)]
        for means, errors in zip(found.mean.T.tolist(), found.standard_error.T.tolist(), strict=True)
    ]
    header = ["step of", *(f"onto {name}" for name in found.tasks)]
    title = "Affinity: by how much a step of one task lowers the loss of another (%)"
    groups = " | ".join(", ".join(group) for group in found.grouping.groups)
    notes = [
        f"Means and standard errors of {found.measured.diagonal().max()} measurements.",
        f"Grouping: {groups}",
        f"Mean affinity onto a task from its group: {100 * found.grouping.mean:+.3g} % (0 for a task alone).",
        "This holds for these data, this model, and these steps of training.",
    ]
    return plain([Table(title, header, [list(found.tasks), *cells], 1)], notes)
