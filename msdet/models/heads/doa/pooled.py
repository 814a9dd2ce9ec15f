"""DoA classifier on features pooled over time and frequency, one distribution an output slot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes


class Head(nn.Module):
    """Pooling weights are learned per slot (attention); a hidden layer follows.

    Pools over the whole recording.
    """

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        features = sizes.features
        classes, freqs, _ = sizes.geometry.steering.shape
        self.attention = nn.Linear(features, sizes.talkers)
        self.embed = nn.Linear(features, features)
        self.frequency = nn.Parameter(torch.randn(freqs, features) * 0.1)
        self.classify = nn.Sequential(
            nn.Linear(2 * features, 4 * features), nn.ReLU(), nn.Linear(4 * features, classes + sizes.vacancy)
        )

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Logits ``(batch, talker, outputs)``."""
        weights = self.attention(features).flatten(1, 2).softmax(1)
        embedded = torch.relu(self.embed(features))
        placed = embedded * self.frequency[None, :, None]  # phase differences mean a direction per frequency
        values = torch.cat([embedded, placed], dim=-1).flatten(1, 2)
        logits: Tensor = self.classify(weights.mT @ values)
        return logits
