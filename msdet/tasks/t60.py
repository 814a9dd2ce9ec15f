"""T60: the scene's reverberation time."""

from __future__ import annotations

from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes
from msdet.tasks._pooling import Pool, classifier, hidden_width
from msdet.tasks._regression import log_loss
from msdet.tasks.truth import Labelled, Truth


class Head(nn.Module):
    """One logarithm a scene, from pooled features.

    Args:
        sizes: what its sizes follow from.
        hidden: width of the pooled features; that of the features, 32 at most, if not given.
    """

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        width = hidden_width(sizes, hidden)
        self.pool = Pool(sizes, 1, width)
        self.estimate = classifier(self.pool.features_out, width, 1)

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Natural logarithms ``(batch,)`` of seconds."""
        log_s: Tensor = self.estimate(self.pool(features))
        return log_s[:, 0, 0]


class Task:
    """Smooth L1 loss of the logarithm; a scene without reverberation has no label."""

    Head = Head

    def loss(self, prediction: Tensor, truth: Truth) -> Labelled:
        """Loss ``(batch,)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.t60_s, truth.t60_s > 0.0)

    def scores(self, prediction: Tensor, truth: Truth) -> dict[str, Tensor]:
        """Absolute error of each scene."""
        return {"t60_error_s": (prediction.float().exp() - truth.t60_s).abs()}
