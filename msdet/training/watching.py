"""Metrics of validation by name: which way is better, and for how long there was no better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msdet.errors import UnknownNameError

HIGHER_IS_BETTER = ("accuracy", "improvement", "precision", "recall", "f1", "si_sdr", "correlation", "_area")
"""Parts of names of metrics that grow as a model gets better; losses and errors fall."""


def higher_is_better(metric: str) -> bool:
    """Whether a metric grows as a model gets better.

    >>> higher_is_better("dev/si_sdr_improvement_db"), higher_is_better("dev/doa_mae_deg")
    (True, False)
    """
    return any(part in metric for part in HIGHER_IS_BETTER)


class Watch:
    """The best value of a metric so far, and how many validations ago that was.

    >>> watch = Watch("dev/accuracy_5deg")
    >>> [watch.update({"dev/accuracy_5deg": value}) for value in (0.2, 0.3, 0.3, float("nan"))]
    [True, True, False, False]
    >>> watch.best, watch.since
    (0.3, 2)
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.best = -math.inf if higher_is_better(metric) else math.inf
        self.since = 0

    def update(self, scores: Mapping[str, Any]) -> bool:
        """Note the scores of a validation; whether the metric is the best so far. NaN never is.

        Raises:
            UnknownNameError: there is no such metric; the nearest is offered.
        """
        value = float(find_metric(scores, self.metric))
        improved = value > self.best if higher_is_better(self.metric) else value < self.best
        self.best, self.since = (value, 0) if improved else (self.best, self.since + 1)
        return improved

    def state_dict(self) -> dict[str, Any]:
        """Best value and how long ago."""
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.best, self.since = float(state["best"]), int(state["since"])


def find_metric(scores: Mapping[str, Any], metric: str) -> Any:
    """The value of a metric of validation.

    Raises:
        UnknownNameError: there is no such metric; the nearest is offered.
    """
    if metric not in scores:
        raise UnknownNameError("metric", metric, [name for name in scores if name.startswith("dev/")])
    return scores[metric]
