"""What the study asks, fixed before its trainings: which rows are compared, and when the answer is a yes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from list_runs import SEEDS

from msdet.scoring.comparison import Difference
from msdet.scoring.metrics import METRICS


class Claim(NamedTuple):
    """A question that the difference of two rows answers, and the metrics that it is asked of."""

    question: str
    first: str
    second: str
    metrics: tuple[str, ...]


class Answer(NamedTuple):
    """What the difference of a claim is in one metric, over all seeds and for each."""

    claim: Claim
    metric: str
    difference: Difference
    of_seeds: list[float]

    @property
    def verdict(self) -> str:
        """In a word; none unless all seeds are there."""
        if len(self.of_seeds) < len(SEEDS["main"]):
            return ""
        d, higher = self.difference, METRICS[self.metric].higher_is_better
        if d.low is None or d.high is None or d.low <= 0.0 <= d.high:
            return "not shown"
        if any(seed * np.sign(d.value) <= NO_DIFFERENCE for seed in self.of_seeds):
            return "not shown"
        return "better" if (d.value > 0.0) == higher else "worse"


NO_DIFFERENCE = 1e-9  # rounding of a mean

GAIN, WITHIN = "si_sdr_improvement_db", "own_accuracy_5deg"

MAIN = (
    Claim("Is the azimuth order as good as the best permutation, for separation alone?",
          "azimuth_separation", "pit_separation", (GAIN,)),
    Claim("And for both tasks?", "azimuth_joint", "pit_joint", (GAIN, WITHIN)),
    Claim("Does the DoA task help separation, in azimuth order?",
          "azimuth_joint", "azimuth_separation", (GAIN,)),
    Claim("And with the best permutation?", "pit_joint", "pit_separation", (GAIN,)),
    Claim("Does separation help the DoA?", "azimuth_joint", "azimuth_doa", (WITHIN,)),
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
    Claim("Nothing shared?", "none_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Soft sharing?", "soft_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Cross-stitch?", "cross_stitch_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Weights by uncertainty?", "uncertainty_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Dynamic weight average?", "dynamic_weight_average_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("GradNorm?", "gradnorm_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("PCGrad?", "pcgrad_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("MGDA?", "mgda_joint", "azimuth_joint", (GAIN, WITHIN)),
    Claim("Half the units: does the DoA task help separation?", "half_joint", "half_separation", (GAIN,)),
    Claim("Twice the units: does the DoA task help separation?",
          "double_joint", "double_separation", (GAIN,)),
    Claim("The default, whose DoA steers the beam: does the DoA loss help its separation?",
          "steered_joint", "steered_separation", (GAIN, WITHIN)),
    Claim("The default against sibling heads?", "steered_joint", "azimuth_joint", (GAIN, WITHIN)),
)  # fmt: skip
"""Of single trainings: what they show may be the seed."""
