"""A study: Optuna's data base of trials, and who of several processes is at work on which.

A trial is taken by locking ``trials/0000.lock`` of the study's folder, and a lock ends with its process,
however that ends. So a trial that is running and not locked was left by a process that was killed, and is
taken up again. What a trial tries follows from the seed, its number, and how the trials before it did.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from msdet.components import build
from msdet.errors import MsdetError, UnknownNameError
from msdet.training.callbacks import higher_is_better
from msdet.training.search_space import Option

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

DATABASE = "study.db"

DEFAULT_TRIALS = 20

Direction = Literal["minimize", "maximize"]

State = Literal["done", "pruned", "failed", "running"]

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler"}
"""Optuna's samplers by name; points of a grid are put into its queue, so nothing is left to draw."""

PRUNERS = {"median": "MedianPruner", "hyperband": "HyperbandPruner", "none": "NopPruner"}
"""Optuna's pruners by name."""


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study.

    Attributes:
        search: values or range of each option by its dotted name (`msdet.training.search_space`).
        metric: of validation, such as ``dev/si_sdr_improvement_db``; a trial's value is its best one.
        direction: ``minimize`` or ``maximize``; by the metric's name if not given.
        trials: in all, failed ones counted; 20, or the whole grid, if not given.
        sampler: ``tpe``, ``random`` or ``grid``.
        sampler_options: of Optuna's sampler, such as ``{"n_startup_trials": 5}``.
        pruner: what stops a trial after a validation: ``median``, ``hyperband`` or ``none``.
        pruner_options: of Optuna's pruner, such as ``{"n_startup_trials": 5}``; its steps are validations.
        seed: of what is drawn.
    """

    search: dict[str, Any]
    metric: str = "dev/loss"
    direction: Direction | None = None
    trials: int | None = None
    sampler: str = "tpe"
    sampler_options: dict[str, Any] = field(default_factory=dict)
    pruner: str = "median"
    pruner_options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def maximizes(self) -> bool:
        """Whether larger values of the metric are better."""
        return higher_is_better(self.metric) if self.direction is None else self.direction == "maximize"


@dataclass(frozen=True)
class Record:
    """What is known of a trial.

    Attributes:
        number: from 0 on.
        state: how it ended, or that it is running.
        value: of the metric: the best one, or the last one of a trial that was pruned; None if there is none.
        options: what it tried, by dotted name.
        reason: why it failed.
    """

    number: int
    state: State
    value: float | None
    options: dict[str, Any]
    reason: str | None


class Study:
    """A study's trials, shared by all processes that open the same folder.

    Args:
        out: the folder.
        config: of the study.
        space: what it searches.
        validations: of a trial, as far as that is not searched.

    Raises:
        MsdetError: Optuna is not installed, an unknown sampler, pruner or option, or a grid without points.
    """

    def __init__(self, out: Path, config: StudyConfig, space: Sequence[Option], validations: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MsdetError("msdet tune needs Optuna: pip install 'msdet[tune]'") from error
        if not 0 <= config.seed < 2**32:
            raise MsdetError(f"seed is {config.seed}, expected 0 to {2**32 - 1}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.out = out
        self.config = config
        self.space = space
        self.pruner = _pruner(config, validations)
        self.grid = _grid(space) if config.sampler == "grid" else None
        self.wanted = _wanted(config, self.grid)
        self._sampler(0)  # refuses wrong options now
        self._optuna: optuna.Study

    @contextlib.contextmanager
    def opened(self) -> Iterator[Study]:
        """Open the data base, or make it; closed when the block ends."""
        import optuna

        (self.out / "trials").mkdir(exist_ok=True)
        with _locked(self.out / "study.lock"):
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{(self.out / DATABASE).absolute()}",
                engine_kwargs={"connect_args": {"timeout": 60.0}},  # seconds that another process may write
            )
            self._optuna = optuna.create_study(
                storage=storage,
                study_name="msdet",
                direction="maximize" if self.config.maximizes else "minimize",
                pruner=self.pruner,
                load_if_exists=True,
            )
        try:
            yield self
        finally:
            storage.remove_session()
            storage.engine.dispose()

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[tuple[Trial, dict[str, Any]] | None]:
        """A trial that a killed process left, or a new one, and its options; None if all are taken.

        Nobody else takes it until the block ends.
        """
        with contextlib.ExitStack() as held:
            with _locked(self.out / "study.lock"):
                trial = self._left(held) or self._new(held)
                options = {option.name: option.suggest(trial) for option in self.space} if trial else {}
            yield (trial, options) if trial else None

    def records(self) -> list[Record]:
        """All trials by number."""
        values = {option.name: option.value for option in self.space}
        return [
            Record(
                trial.number,
                _STATES[trial.state.name],
                trial.value,
                {name: values[name](stored) for name, stored in trial.params.items()},
                trial.user_attrs.get("reason"),
            )
            for trial in self._optuna.get_trials()
            if trial.state.name in _STATES
        ]

    def unfinished(self) -> int:
        """Trials that are running or not yet begun."""
        records = self.records()
        running = sum(record.state == "running" for record in records)
        return running + max(0, self.wanted - len(records))

    def reported(self, trial: Trial) -> dict[int, float]:
        """Values of the metric of a trial, by number of the validation."""
        return dict(self._optuna.get_trials()[trial.number].intermediate_values)

    def finish(self, trial: Trial, state: State, value: float | None = None, reason: str = "") -> None:
        """Write down how a trial ended."""
        from optuna.trial import TrialState

        if reason:
            trial.set_user_attr("reason", reason)
        states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._optuna.tell(trial, value, states[state])

    def importances(self) -> dict[str, float]:
        """Share of each option in what parts good trials from others, largest first; they add up to one.

        By PED-ANOVA (S. Watanabe, A. Bansal and F. Hutter, IJCAI 2023) of the trials that came to their end;
        empty where there are fewer than two values to compare.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        values = {record.value for record in self.records() if record.state == "done"}
        if len(values) < 2:
            return {}
        return dict(get_param_importances(self._optuna, evaluator=PedAnovaImportanceEvaluator()))

    def folder(self, number: int) -> Path:
        """Of a trial's run."""
        return self.out / "trials" / f"{number:04d}"

    def _left(self, held: contextlib.ExitStack) -> Trial | None:
        """A trial that was running in a process that is gone."""
        from optuna.trial import Trial, TrialState

        for frozen in self._optuna.get_trials(states=(TrialState.RUNNING,)):
            if self._take(frozen.number, held):
                return Trial(self._optuna, frozen._trial_id)
        return None

    def _new(self, held: contextlib.ExitStack) -> Trial | None:
        from optuna.trial import TrialState

        trials = self._optuna.get_trials(deepcopy=False)
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        if begun >= self.wanted:
            return None
        self._optuna.sampler = self._sampler(begun)
        if self.grid is not None and begun == len(trials):  # not queued by a process that was killed then
            self._optuna.enqueue_trial(self.grid[begun])
        trial = self._optuna.ask()
        if not self._take(trial.number, held):
            raise MsdetError(f"{self.folder(trial.number)}.lock: is locked by another program")
        return trial

    def _take(self, number: int, held: contextlib.ExitStack) -> bool:
        """Lock a trial until `held` ends, unless another process has."""
        file = self.folder(number).with_suffix(".lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        held.enter_context(file)
        return True

    def _sampler(self, number: int) -> BaseSampler:
        """Draws a trial; each has a seed of its own, so that no process repeats what another one drew."""
        import optuna

        config = self.config
        if config.sampler not in SAMPLERS:
            raise UnknownNameError("sampler", config.sampler, SAMPLERS)
        factory = getattr(optuna.samplers, SAMPLERS[config.sampler])
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        sampler: BaseSampler = build(
            factory, config.sampler_options, f"sampler '{config.sampler}'", seed=seed
        )
        return sampler


_STATES: dict[str, State] = {
    "COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running",
}  # fmt: skip


def _pruner(config: StudyConfig, validations: int) -> BasePruner:
    """Optuna's pruner."""
    import optuna

    if config.pruner not in PRUNERS:
        raise UnknownNameError("pruner", config.pruner, PRUNERS)
    options = config.pruner_options
    if config.pruner == "hyperband":
        options = {"max_resource": validations} | options
    factory = getattr(optuna.pruners, PRUNERS[config.pruner])
    pruner: BasePruner = build(factory, options, f"pruner '{config.pruner}'")
    return pruner


def _grid(space: Sequence[Option]) -> list[dict[str, Any]]:
    """Every combination of values, as the data base holds them."""
    points = itertools.product(*(option.grid() for option in space))
    return [dict(zip((option.name for option in space), point, strict=True)) for point in points]


def _wanted(config: StudyConfig, grid: Sequence[Any] | None) -> int:
    """Number of trials in all."""
    most = len(grid) if grid is not None else None
    if config.trials is None:
        return most or DEFAULT_TRIALS
    if config.trials < 1:
        raise MsdetError(f"trials is {config.trials}, expected at least 1")
    return config.trials if most is None else min(config.trials, most)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, once nobody else does."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
