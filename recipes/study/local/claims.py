"""What the study asks, fixed before its trainings: which rows are compared, and when the answer is a yes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from msdet.scoring.comparison import Difference
from msdet.scoring.metrics import METRICS


class Claim(NamedTuple):
    """A question that the difference of two rows answers, and the metrics that it is asked of."""

    question: str
    first: str
    second: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What the difference of a claim is in one metric, at each budget.

    Attributes:
        claim: what was asked.
        metric: of which.
        budgets: core-hours of the first row's trainings, ascending, a mean over seeds.
        along: the difference at each budget, over all seeds.
        by_seed: at each budget, the difference of each seed.
        seeds: how many there are to be.
        scatter: at each budget, standard deviation of differences of single seeds, of all claims of as many seeds
            together; none if it is not known.
        freedom: degrees of freedom that it is known with.
    """

    claim: Claim
    metric: str
    budgets: list[float]
    along: list[Difference]
    by_seed: list[list[float]]
    seeds: int
    scatter: tuple[float, ...] = ()
    freedom: int = 0

    @property
    def difference(self) -> Difference:
        """At the largest budget."""
        return self.along[-1]

    def interval(self, budget: int = -1) -> tuple[float, float] | None:
        """95 % of what other scenes and other seeds would give; none if it is not known."""
        d, number = self.along[budget], len(self.by_seed[budget])
        if d.low is None or d.high is None or not self.scatter:
            return None
        of_seeds = float(student_t.ppf(0.975, self.freedom)) * self.scatter[budget] / math.sqrt(number)
        return d.value - math.hypot(d.value - d.low, of_seeds), d.value + math.hypot(d.high - d.value, of_seeds)

    @property
    def verdict(self) -> str:
        """In a word, at the largest budget; none unless all seeds are there."""
        if len(self.by_seed[-1]) < self.seeds:
            return ""
        value, interval = self.difference.value, self.interval()
        if interval is None or interval[0] <= 0.0 <= interval[1]:
            return "not shown"
        if any(seed * np.sign(value) <= NO_DIFFERENCE for seed in self.by_seed[-1]):
            return "not shown"
        return "better" if (value > 0.0) == METRICS[self.metric].higher_is_better else "worse"


def with_scatter(answers: list[Answer]) -> list[Answer]:
    """Answers that know how much seeds differ: in each metric and at each budget, from all of them together."""
    known = []
    for answer in answers:
        alike = [other.by_seed for other in answers if other.metric == answer.metric]
        freedom = sum(len(by_seed[0]) - 1 for by_seed in alike)
        squares = (sum(_square(by_seed[n]) for by_seed in alike) for n in range(len(answer.along)))
        scatter = tuple(math.sqrt(square / freedom) for square in squares) if freedom else ()
        known.append(dataclasses.replace(answer, scatter=scatter, freedom=freedom))
    return known


def _square(values: list[float]) -> float:
    """Sum of squares around the mean."""
    return float(np.var(values) * len(values))


NO_DIFFERENCE = 1e-9  # rounding of a mean

GAIN, WITHIN = "si_sdr_improvement_db", "own_accuracy_5deg"

FLAT = {GAIN: 0.2, WITHIN: 0.02}
"""A row's curve in a metric is flat if the last doubling of its budget gains less: the upper end of the interval."""

MAIN = (
    Claim("Is the azimuth order as good as the best permutation, for separation alone?",
          "azimuth_separation", "pit_separation", (GAIN,)),
    Claim("And for both tasks?", "azimuth_joint", "pit_joint", (GAIN, WITHIN)),
    Claim("Does the DoA task help separation, in azimuth order?",
          "azimuth_joint", "azimuth_separation", (GAIN,)),
    Claim("And with the best permutation?", "pit_joint", "pit_separation", (GAIN,)),
    Claim("Does separation help the DoA?", "azimuth_joint", "azimuth_doa", (WITHIN,)),
    Claim("Is one network better than one for each task, as large together?",
          "azimuth_joint", "two_networks", (GAIN, WITHIN)),
    Claim("Does it help to localize first, and to separate knowing where?",
          "hierarchical", "azimuth_joint", (GAIN, WITHIN)),
)  # fmt: skip
"""Of rows with three seeds."""

AROUND = (
    Claim("Two talkers: azimuth order or best permutation, for both tasks?",
          "two_azimuth_joint", "two_pit_joint", (GAIN, WITHIN)),
    Claim("Two talkers: does the DoA task help separation, in azimuth order?",
          "two_azimuth_joint", "two_azimuth_separation", (GAIN,)),
    Claim("Two talkers: and with the best permutation?", "two_pit_joint", "two_pit_separation", (GAIN,)),
    Claim("Order by distance instead of azimuth?", "distance_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Order on the half circle?", "folded_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Soft sharing?", "soft_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Cross-stitch?", "cross_stitch_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("DoA weight 0.05 instead of 0.25?", "weight_05_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("DoA weight 0.5?", "weight_50_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("DoA weight 0.9?", "weight_90_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Weights by uncertainty?", "uncertainty_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("GradNorm?", "gradnorm_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("PCGrad?", "pcgrad_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Half the units: does the DoA task help separation?", "half_joint", "half_separation", (GAIN,)),
    Claim("Twice the units: does the DoA task help separation?",
          "double_joint", "double_separation", (GAIN,)),
    Claim("Four times the units: does the DoA task help separation?",
          "fourfold_joint", "fourfold_separation", (GAIN,)),
    Claim("A third of the data: does the DoA task help separation?", "third_joint", "third_separation", (GAIN,)),
    Claim("A tenth of the data: does the DoA task help separation?", "tenth_joint", "tenth_separation", (GAIN,)),
    Claim("References of a tenth of the scenes: do directions of all help separation?",
          "eavesdropping_joint", "eavesdropping_separation", (GAIN,)),
    Claim("A classifier on pooled features instead of mask-weighted SRP-PHAT?",
          "pooled_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("SpatialNet: is the azimuth order as good as the best permutation, for both tasks?",
          "spatialnet_azimuth_joint", "spatialnet_pit_joint", (GAIN, WITHIN)),
    Claim("SpatialNet: does the DoA task help separation, in azimuth order?",
          "spatialnet_azimuth_joint", "spatialnet_azimuth_separation", (GAIN,)),
    Claim("SpatialNet: and with the best permutation?",
          "spatialnet_pit_joint", "spatialnet_pit_separation", (GAIN,)),
    Claim("The default, whose DoA steers the beam: does the DoA loss help its separation?",
          "steered_joint", "steered_separation", (GAIN, WITHIN)),
    Claim("The default against sibling heads?", "steered_joint", "azimuth_joint", (GAIN, WITHIN)),
)  # fmt: skip
"""Of rows with two seeds."""

ELSEWHERE = {
    "test": "as trained",
    "test_long_t60": "T60 0.6–0.9 s",
    "test_noise": "diffuse noise, 0–5 dB",
    "test_misplaced": "microphones 5 mm off",
}
"""Test sets of three talkers that main rows are scored on, at their largest budget."""
