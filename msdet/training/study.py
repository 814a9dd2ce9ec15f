"""A study's trials in Optuna's data base, shared by several processes.

A process takes a trial by locking ``trials/0000.lock`` of the study's folder. One that is running and not locked was
left by a process that was killed, and is taken up again. What a trial tries follows from the seed and those before it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

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


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study, as `msdet.commands.tune.tune` describes them."""

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
    """What is known of a trial."""

    number: int
    state: State
    value: float | None
    """Of the metric: the best one, or the last one of a trial that was pruned; None if there is none."""
    options: dict[str, Any]  # what it tried, by dotted name
    reason: str | None  # why it failed


class Study:
    """A study's trials, shared by all processes that open the same folder, of a number of validations each."""

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
        resource = {"max_resource": validations} if config.pruner == "hyperband" else {}
        self.pruner: BasePruner = _from_optuna("pruner", PRUNERS, config.pruner, resource | config.pruner_options)
        self.grid: list[dict[str, Any]] | None = None
        if config.sampler == "grid":
            points = itertools.product(*(option.grid() for option in space))
            self.grid = [dict(zip((option.name for option in space), point, strict=True)) for point in points]
        if config.trials is not None and config.trials < 1:
            raise MsdetError(f"trials is {config.trials}, expected at least 1")
        most = config.trials or len(self.grid or range(DEFAULT_TRIALS))
        self.wanted = most if self.grid is None else min(most, len(self.grid))
        self._sampler(0)  # refuses wrong options now
        self._optuna: optuna.Study

    @contextlib.contextmanager
    def opened(self) -> Iterator[Study]:
        """Open the data base, or make it; closed when the block ends."""
        import optuna

        (self.out / "trials").mkdir(exist_ok=True)
        with _locked(self.out / "study.lock"):
            # 60 seconds are how long another process may write; a folder with ? or { in its name would be no URL
            connect = partial(sqlite3.connect, self.out / DATABASE, timeout=60.0, check_same_thread=False)
            storage = optuna.storages.RDBStorage(f"sqlite:///{DATABASE}", engine_kwargs={"creator": connect})
            direction: Direction = "maximize" if self.config.maximizes else "minimize"
            self._optuna = optuna.create_study(
                storage=storage, study_name="msdet", direction=direction, pruner=self.pruner, load_if_exists=True
            )
        try:
            yield self
        finally:
            storage.remove_session()
            storage.engine.dispose()

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[tuple[Trial, dict[str, Any]] | None]:
        """A trial that a killed process left, or a new one, and its options; None if all are taken.

        It is locked until the block ends.
        """
        with contextlib.ExitStack() as locks:
            with _locked(self.out / "study.lock"):
                trial = self._abandoned(locks) or self._new(locks)
                options = {option.name: option.suggest(trial) for option in self.space} if trial else {}
            yield (trial, options) if trial else None

    def records(self) -> list[Record]:
        """All trials by number."""
        values = {option.name: option.value for option in self.space}
        records = []
        for trial in self._optuna.get_trials():
            if state := _STATES.get(trial.state.name):
                options = {name: values[name](stored) for name, stored in trial.params.items()}
                records.append(Record(trial.number, state, trial.value, options, trial.user_attrs.get("reason")))
        return records

    def unfinished(self) -> int:
        """Trials that are running or not yet begun."""
        states = [record.state for record in self.records()]
        return states.count("running") + max(0, self.wanted - len(states))

    def reported(self, trial: Trial) -> dict[int, float]:
        """Values of the metric of a trial, by number of the validation."""
        return dict(self._optuna.get_trials()[trial.number].intermediate_values)

    def finish(self, trial: Trial, state: State, value: float | None = None, reason: str = "") -> None:
        """Write down how a trial ended."""
        from optuna.trial import TrialState

        if reason:
            trial.set_user_attr("reason", reason)
        names = {ours: theirs for theirs, ours in _STATES.items()}
        self._optuna.tell(trial, value, TrialState[names[state]])

    def importances(self) -> dict[str, float]:
        """Share of each option in what parts good trials from others, largest first; they add up to one.

        By PED-ANOVA (S. Watanabe, A. Bansal and F. Hutter, IJCAI 2023) of trials that ended; empty of fewer than two.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        values = {record.value for record in self.records() if record.state == "done"}
        if len(values) < 2:
            return {}
        return dict(get_param_importances(self._optuna, evaluator=PedAnovaImportanceEvaluator()))

    def folder(self, number: int) -> Path:
        """Of a trial's run."""
        return self.out / "trials" / f"{number:04d}"

    def _abandoned(self, locks: contextlib.ExitStack) -> Trial | None:
        """A trial that was running in a process that is gone."""
        from optuna.trial import Trial, TrialState

        for frozen in self._optuna.get_trials(states=(TrialState.RUNNING,)):
            if self._take(frozen.number, locks):
                return Trial(self._optuna, frozen._trial_id)
        return None

    def _new(self, locks: contextlib.ExitStack) -> Trial | None:
        from optuna.trial import TrialState

        trials = self._optuna.get_trials(deepcopy=False)
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        if begun >= self.wanted:
            return None
        self._optuna.sampler = self._sampler(begun)
        if self.grid is not None and begun == len(trials):  # not queued by a process that was killed then
            self._optuna.enqueue_trial(self.grid[begun])
        trial = self._optuna.ask()
        if not self._take(trial.number, locks):
            raise MsdetError(f"{self.folder(trial.number)}.lock: is locked by another program")
        return trial

    def _take(self, number: int, locks: contextlib.ExitStack) -> bool:
        """Lock a trial until `locks` ends, unless another process has."""
        file = self.folder(number).with_suffix(".lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        locks.enter_context(file)
        return True

    def _sampler(self, number: int) -> BaseSampler:
        """Draws a trial; each has a seed of its own, so that no process repeats what another one drew."""
        c, seed = self.config, int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])
        return cast("BaseSampler", _from_optuna("sampler", SAMPLERS, c.sampler, c.sampler_options, seed=seed))


_STATES: dict[str, State] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
"""Ours by Optuna's."""


def _from_optuna(kind: str, names: Mapping[str, str], name: str, options: dict[str, Any], **derived: Any) -> Any:
    """A sampler or pruner of Optuna by our name."""
    import optuna

    if name not in names:
        raise UnknownNameError(kind, name, names)
    factory = getattr(getattr(optuna, f"{kind}s"), names[name])
    return build(factory, options, f"{kind} '{name}'", **derived)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, waiting while another process holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
