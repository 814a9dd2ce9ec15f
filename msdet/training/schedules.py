"""How the learning rate goes over a run, by name; each is a share of the largest rate.

Warm-up multiplies every schedule. ``linear``, ``cosine`` and ``exponential`` stay until
``optimiser.decay_from`` and end at ``optimiser.final_share``; the others take ``optimiser.schedule_options``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from msdet.components import check_options
from msdet.errors import MsdetError, UnknownNameError
from msdet.training.config import OptimiserConfig


class Place(NamedTuple):
    """Where a run is.

    Attributes:
        through: share of all steps that are done.
        decayed: share of the steps after ``decay_from`` that are done.
        final_share: rate at the end.
        plateaus: how often the watched metric stopped improving.
    """

    through: float
    decayed: float
    final_share: float
    plateaus: int


Schedule = Callable[[Place], float]


def constant(place: Place) -> float:
    """The largest rate throughout."""
    return 1.0


def linear(place: Place) -> float:
    """Straight down to the final share."""
    return 1.0 - place.decayed * (1.0 - place.final_share)


def cosine(place: Place) -> float:
    """Half a cosine down to the final share (Loshchilov and Hutter, SGDR, 2017, without restarts)."""
    return place.final_share + (1.0 - place.final_share) * (1.0 + math.cos(math.pi * place.decayed)) / 2.0


def exponential(place: Place) -> float:
    """By the same factor each step, down to the final share."""
    return float(place.final_share**place.decayed)


def step(place: Place, *, every: float = 0.25, factor: float = 0.5) -> float:
    """Down by a factor each time a share of all steps is done.

    >>> [step(Place(through, 0.0, 0.0, 0)) for through in (0.0, 0.24, 0.25, 0.5)]
    [1.0, 1.0, 0.5, 0.25]
    """
    if every <= 0.0:
        raise ValueError("expected more than 0")
    return float(factor ** math.floor(place.through / every + 1e-9))


def cyclic(place: Place, *, cycles: int = 4, lowest: float = 0.1) -> float:
    """Up and down in straight lines, from and to the lowest share (Smith, cyclical learning rates, 2017)."""
    phase = place.through * cycles % 1.0
    return lowest + (1.0 - lowest) * (1.0 - abs(2.0 * phase - 1.0))


def plateau(
    place: Place, *, metric: str = "dev/loss", patience: int = 3, factor: float = 0.5, lowest: float = 0.0
) -> float:
    """Down by a factor each time a metric has not improved in `patience` validations."""
    if patience < 1:
        raise ValueError("expected at least 1")
    return float(max(factor**place.plateaus, lowest))


SCHEDULES = {f.__name__: f for f in (constant, linear, cosine, exponential, step, cyclic, plateau)}


def build_schedule(settings: OptimiserConfig) -> Schedule:
    """The schedule that the settings name, with their options.

    Raises:
        MsdetError: an unknown name or option, with the nearest; or values that give no rate.
    """
    name, options = settings.schedule, settings.schedule_options
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    check_options(SCHEDULES[name], options, f"schedule '{name}'", list(_defaults(name)))
    schedule: Schedule = partial(SCHEDULES[name], **options)
    for number in range(11):
        try:
            rate = schedule(Place(number / 10, number / 10, settings.final_share, number))
            usable = math.isfinite(rate) and rate >= 0.0
        except (TypeError, ValueError, ArithmeticError):
            usable = False
        if not usable:
            shown = ", ".join(f"{k}={v!r}" for k, v in options.items())
            raise MsdetError(f"schedule '{name}' gives no learning rate with {shown or 'its defaults'}")
    return schedule


def plateau_options(settings: OptimiserConfig) -> tuple[str, int] | None:
    """Metric and patience that the plateau schedule watches; None for another."""
    if settings.schedule != "plateau":
        return None
    options = _defaults("plateau") | settings.schedule_options
    return str(options["metric"]), int(options["patience"])


def relative_rate(schedule: Schedule, settings: OptimiserConfig, step: int, plateaus: int) -> float:
    """Learning rate at a step, relative to the largest."""
    total = settings.total_steps
    warm = min(1.0, (step + 1) / max(settings.warm_up, 1))
    start = settings.decay_from * total
    decayed = max(0.0, (step - start) / max(total - start, 1.0))
    place = Place(min(step / total, 1.0), min(decayed, 1.0), settings.final_share, plateaus)
    return warm * schedule(place)


def _defaults(name: str) -> dict[str, Any]:
    parameters = list(inspect.signature(SCHEDULES[name]).parameters.values())
    return {p.name: p.default for p in parameters[1:]}
