"""DoA classifier on features pooled over time and frequency, one distribution an output slot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.models.frontend import Observation
from msdet.models.heads import HeadSizes
from msdet.running import Memory, decay_over, sum_so_far


class Head(nn.Module):
    """Pooling weights are learned per slot (attention); a hidden layer follows.

    Pools over the whole recording, unless causal.

    Args:
        sizes: what its sizes follow from.
        causal: give a word in each frame, on what came so far. The weights are those of a head that is not.
        memory_s: time constant in seconds with which a causal head forgets; null for never.
    """

    def __init__(self, sizes: HeadSizes, causal: bool = False, memory_s: float | None = None) -> None:
        super().__init__()
        self.causal = causal
        self.decay = decay_over(memory_s, sizes.geometry.frame_s)
        features = sizes.features
        classes, freqs, _ = sizes.geometry.steering.shape
        self.attention = nn.Linear(features, sizes.talkers)
        self.embed = nn.Linear(features, features)
        self.frequency = nn.Parameter(torch.randn(freqs, features) * 0.1)
        self.classify = nn.Sequential(
            nn.Linear(2 * features, 4 * features), nn.ReLU(), nn.Linear(4 * features, classes + sizes.vacancy)
        )

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Logits ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame, outputs)``."""
        if self.causal:
            return self.stream(features, observation, None)[0]
        weights = self.attention(features).flatten(1, 2).softmax(1)
        logits: Tensor = self.classify(weights.mT @ self._values(features).flatten(1, 2))
        return logits

    def stream(self, features: Tensor, observation: Observation, memory: Memory) -> tuple[Tensor, Memory]:
        """Logits ``(batch, talker, frame, outputs)`` of the next frames, of a causal head."""
        sums, shares = memory or (None, None)
        attention = self.attention(features).float().permute(0, 2, 3, 1)  # (batch, frame, talker, freq)
        highest = attention.amax(-1, keepdim=True)
        share = (attention - highest).exp()
        of_frames = share @ self._values(features).float().transpose(1, 2)
        scale = highest.double().exp()  # which half the range of a double holds
        total, sums = sum_so_far(of_frames * scale, 1, self.decay, sums)
        weight, shares = sum_so_far(share.sum(-1, keepdim=True) * scale, 1, self.decay, shares)
        pooled = (total / weight).to(features.dtype).transpose(1, 2)
        return self.classify(pooled), (sums, shares)

    def _values(self, features: Tensor) -> Tensor:
        """What is pooled, ``(batch, freq, frame, value)``."""
        embedded = torch.relu(self.embed(features))
        placed = embedded * self.frequency[None, :, None]  # phase differences mean a direction per frequency
        return torch.cat([embedded, placed], dim=-1)
