"""Convolutions around the circle and over time, on features of directions, that end in maps of talkers.

As on maps of steered responses (Diaz-Guerra, Miguel and Beltran, IEEE/ACM TASLP 29, 2021), the same weights serve every
direction, so a scene that is turned gives maps that are turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from msdet.models.encoders import ENCODERS, BlockEncoder

TINY = {"hidden": 8, "dilations": [1, 2]}

CLIP = 6.0
"""Features are limited to so many standard deviations."""

_REACH = 2  # classes to either side that a convolution sees, times its dilation

_NEVER = -20.0  # logit of a second talker, where none is looked for


class DirectionMaps(NamedTuple):
    """What the features of directions end in.

    Attributes:
        recording: logit of a talker in each direction, ``(batch, class)``.
        moments: the same of each moment, ``(batch, class, moment)``.
        second: logit of a second one near who is there, ``(batch, class)``.
        offsets_deg: of both from the class, clockwise first, ``(batch, class, 2)``.
    """

    recording: Tensor
    moments: Tensor
    second: Tensor
    offsets_deg: Tensor


MAP_FEATURES = 5


def split_maps(features: Tensor) -> DirectionMaps:
    """The maps in features ``(batch, direction, moment, feature)``; all but one are the same in all moments."""
    mean = features[..., -MAP_FEATURES:].mean(2)
    return DirectionMaps(mean[..., -1], features[..., -2], mean[..., -3], mean[..., -5:-3])


@ENCODERS.register("direction_cnn", tiny=TINY, of_directions=True)
class DirectionCNN(BlockEncoder):
    """Blocks of a dilated convolution over directions and frames, each told the means over time and over directions.

    The last features of what comes out are maps (`split_maps`): logits of a talker in each direction, in the recording
    and in each moment; and whether there are two close together, and where.

    Args:
        features_in: features of a direction. Their means and scales are estimated while training.
        hidden: width.
        dilations: of each block's convolution over directions, in classes.
        pairs: learn where two talkers are close together; models of before there was this have not.
    """

    causal = False

    def __init__(
        self, features_in: int, hidden: int = 40, dilations: Sequence[int] = (1, 2, 4, 8, 2, 1), pairs: bool = False
    ) -> None:
        super().__init__()
        if hidden < 1 or not dilations or min(dilations) < 1:
            raise ValueError(f"hidden {hidden} and dilations {list(dilations)}, expected at least 1")
        self.depth = len(dilations)
        self.hidden = hidden
        self.features_out = hidden + MAP_FEATURES
        self.normalize = nn.BatchNorm1d(features_in, affine=False, momentum=0.01)
        self.enter = nn.Linear(features_in, hidden)
        self.blocks = nn.ModuleList(_DirectionBlock(hidden, dilation) for dilation in dilations)
        self.pairs = pairs
        self.maps = _Maps(hidden, pairs)

    def start(self, features: Tensor) -> Tensor:
        """``(batch, direction, frame, width)``."""
        normal: Tensor = self.normalize(features.reshape(-1, features.shape[-1])).view_as(features)
        entered: Tensor = self.enter(normal.clamp(-CLIP, CLIP))
        return entered

    def block(self, index: int, x: Tensor) -> Tensor:
        """One convolution."""
        convolved: Tensor = self.blocks[index](x)
        return convolved

    def finish(self, x: Tensor, features: Tensor) -> Tensor:
        """Features and both maps."""
        encoded: Tensor = self.maps(x)
        return encoded

    def width(self, index: int) -> int:
        """As everywhere between blocks."""
        return self.hidden

    def exit_after(self, index: int) -> nn.Module:
        """Maps of its own."""
        return _Exit(self.hidden, self.pairs)


class _Maps(nn.Module):
    """Logits of talkers in each direction: in each frame, and by attention over frames in the recording."""

    def __init__(self, hidden: int, pairs: bool, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.frame = nn.Linear(hidden, 1)
        self.attend = nn.Linear(hidden, heads)
        self.pool = nn.Linear(heads * hidden + 2, 2 * hidden)
        self.recording = nn.Linear(2 * hidden, 1)
        self.pair = nn.Linear(2 * hidden, MAP_FEATURES - 2) if pairs else None
        nn.init.constant_(self.recording.bias, -2.5)  # most directions are empty
        nn.init.constant_(self.frame.bias, -3.0)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, direction, frame, hidden)`` to the same with some features more."""
        x = self.norm(x)
        frame = self.frame(x)
        attention = self.attend(x).softmax(2)
        pooled = (attention.mT @ x).flatten(2)
        there = frame[..., 0].sigmoid()
        pooled = torch.cat([pooled, there.mean(2)[..., None], there.amax(2)[..., None]], dim=-1)
        pooled = nn.functional.gelu(self.pool(pooled))
        recording = self.recording(pooled)
        if self.pair is None:
            nobody = torch.full_like(recording, _NEVER)
            pair = nn.functional.pad(nobody, (MAP_FEATURES - 3, 0))
        else:
            pair = self.pair(pooled)
        same = torch.cat([pair, recording], dim=-1)[:, :, None].expand(-1, -1, x.shape[2], -1)
        return torch.cat([x, same[..., :-1], frame, same[..., -1:]], dim=-1)


class _Exit(nn.Module):
    """A way out after a block."""

    def __init__(self, hidden: int, pairs: bool) -> None:
        super().__init__()
        self.features_out = hidden + MAP_FEATURES
        self.maps = _Maps(hidden, pairs)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Features and both maps."""
        encoded: Tensor = self.maps(x)
        return encoded


class _DirectionBlock(nn.Module):
    """A convolution around the circle and over neighboring frames, added to its input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.wrapped = _REACH * dilation
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, width, (2 * _REACH + 1, 3), dilation=(dilation, 1), padding=(0, 1))
        self.over_time, self.over_directions = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, direction, frame, width)`` to the same."""
        y = self.norm(x)
        around = y.permute(0, 3, 1, 2)
        turns = torch.arange(-self.wrapped, x.shape[1] + self.wrapped, device=x.device) % x.shape[1]
        convolved = self.conv(around[:, :, turns]).permute(0, 2, 3, 1)
        context = self.over_time(y.mean(2, keepdim=True)) + self.over_directions(y.mean(1, keepdim=True))
        added: Tensor = x + self.out(nn.functional.gelu(convolved + context))
        return added
