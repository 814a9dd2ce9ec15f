"""What a study searches: options of a training by dotted name, each with its values or a range of them.

.. code-block:: yaml

    search:
      optimizer.learning_rate: {low: 1e-4, high: 3e-3, log: true}  # with sampler grid also points: 4
      optimizer.accumulate: {low: 1, high: 4}                      # whole numbers
      objective.doa_weight: [0.1, 0.25, 0.5]                       # one of these
      model.encoder_options.hidden: [48, 96]                       # a part of an option
      model: [{encoder: ft_gru}, {encoder: spatialnet}]            # several options that go together
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from msdet.errors import MsdetError, UnknownNameError
from msdet.io.records import read_record
from msdet.training.config import TrainConfig, overridden

if TYPE_CHECKING:
    from optuna.trial import Trial

GROUPS = ("data", "model", "objective", "optimizer", "trainer")
"""Of a training's settings: what can be searched."""

_MAX_POINTS = 100  # of a range of whole numbers on a grid


@dataclass(frozen=True)
class Choices:
    """An option, by its dotted name, that has one of some values, of any type that it takes."""

    name: str
    values: tuple[Any, ...]

    def suggest(self, trial: Trial) -> Any:
        """A value for a trial; the same one each time."""
        return self.value(trial.suggest_categorical(self.name, list(self.grid())))

    def value(self, stored: Any) -> Any:
        """The value that the study's data base holds in its own form."""
        forms = [(type(choice), choice) for choice in self.grid()]
        return self.values[forms.index((type(stored), stored))]

    def corners(self) -> Sequence[Any]:
        """Values that are tried before any training."""
        return self.values

    def grid(self) -> Sequence[Any]:
        """Values of a grid, as the data base holds them: lists and groups as JSON."""
        return [json.dumps(v) if isinstance(v, Mapping | list | tuple) else v for v in self.values]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file says of a range, `low` and `high` included."""

    low: float
    high: float
    log: bool = False  # whether its logarithm is drawn evenly
    step: float | None = None  # between values, from `low` on; None for any number, or any whole one
    points: int | None = None  # number of values on a grid


@dataclass(frozen=True, kw_only=True)
class Range(Limits):
    """An option that is a number, maybe a whole one, within limits."""

    name: str
    whole: bool

    def suggest(self, trial: Trial) -> float:
        """A value for a trial; the same one each time."""
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def value(self, stored: float) -> float:
        """The value that the study's data base holds."""
        return int(stored) if self.whole else float(stored)

    def corners(self) -> Sequence[float]:
        """Values that are tried before any training."""
        return [self.value(self.low), self.value(self.high)]

    def grid(self) -> Sequence[float]:
        """Values of a grid; an error if the range does not say which."""
        step = self.step or (1 if self.whole else None)
        if self.points is not None:
            spaced = np.geomspace if self.log else np.linspace
            points = spaced(self.low, self.high, self.points).tolist()
        elif step is not None and (count := math.floor((self.high - self.low) / step + 1e-9)) < _MAX_POINTS:
            points = [self.low + k * step for k in range(count + 1)]
        else:
            raise MsdetError(f"search, {self.name}: sampler 'grid' needs points, how many values it has")
        return list(dict.fromkeys(round(v) for v in points)) if self.whole else points


Option = Choices | Range


def parse_space(search: Mapping[str, Any], base: TrainConfig) -> list[Option]:
    """The options that a study searches: values or range of each, by its dotted name."""
    if not search:
        raise MsdetError("search is empty: name at least one option, such as optimizer.learning_rate")
    hints = dict(option_hints(TrainConfig))
    for name in search:
        _check_name(name, hints, base)
        inside = [other for other in search if other.startswith(f"{name}.")]
        if inside:
            raise MsdetError(f"search: {inside[0]} is a part of {name}, which is searched as well")
    return [_option(name, values, hints.get(name, Any)) for name, values in search.items()]


def option_hints(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and types of a training's options, groups of options before what is in them."""
    for name, hint in get_type_hints(config).items():
        if not prefix and name not in GROUPS:
            continue
        yield f"{prefix}{name}", hint
        if dataclasses.is_dataclass(hint):
            yield from option_hints(hint, f"{prefix}{name}.")


def applied(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """A training's settings with some options changed, of the right types (`overridden`)."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        target, at = changes, base
        for group in groups:
            at = getattr(at, group) if dataclasses.is_dataclass(at) else dict(at or {}).get(group)
            target = target.setdefault(group, {} if dataclasses.is_dataclass(at) else dict(at or {}))
        target[last] = value
    changed = {group: overridden(getattr(base, group), c, f"search: {group}") for group, c in changes.items()}
    return dataclasses.replace(base, **changed)


def _check_name(name: str, hints: Mapping[str, Any], base: TrainConfig) -> None:
    """Refuse a name that is no option and no part of one that holds named values; the nearest is offered."""
    if name in hints:
        return
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        hint = hints.get(".".join(parts[:length]))
        if hint is not None and typing.get_origin(hint) is dict and all(parts):
            return
    raise UnknownNameError("option in search", name, hints)


def _option(name: str, values: Any, hint: Any) -> Option:
    """An option from what the settings say of it."""
    where = f"search, {name}"
    if isinstance(values, list | tuple):
        if not values:
            raise MsdetError(f"{where}: the list is empty")
        return Choices(name, tuple(values))
    if not isinstance(values, Mapping):
        raise MsdetError(f"{where} is {values!r}, expected a list of values or {{low: ..., high: ...}}")
    limits = read_record(Limits, dict(values), where)
    floats = any(isinstance(values.get(key), float) for key in ("low", "high", "step"))
    whole = not floats and float not in (hint, *typing.get_args(hint))
    _check_limits(where, limits)
    return Range(name=name, whole=whole, **vars(limits))


def _check_limits(where: str, of: Limits) -> None:
    """Refuse limits that hold nothing or cannot be drawn from, by their key."""
    if not of.low <= of.high:
        raise MsdetError(f"{where}: low is {of.low}, high is {of.high}, expected low <= high")
    if of.log and (of.low <= 0 or of.step is not None):
        raise MsdetError(f"{where}: log needs low above 0 and no step, low is {of.low}")
    if of.step is not None and (of.step <= 0 or of.points is not None):
        raise MsdetError(f"{where}: step is {of.step}, expected more than 0, and no points")
    if of.points is not None and of.points < 2:
        raise MsdetError(f"{where}: points is {of.points}, expected at least 2")
