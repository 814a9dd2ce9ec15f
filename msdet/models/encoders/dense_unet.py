"""Dense U-Net: densely connected convolutions at every scale of frequency, recurrence in the middle.

The network of multi-microphone complex spectral mapping (Z.-Q. Wang and D. Wang, "Multi-microphone complex spectral
mapping for speech dereverberation", ICASSP 2020; Z.-Q. Wang, P. Wang and D. Wang, "Multi-microphone complex spectral
mapping for utterance-wise and continuous speech separation", IEEE/ACM TASLP 29, 2021) and, with dense blocks that map
across frequency, of location-based training (H. Taherian, K. Tan and D. Wang, IEEE/ACM TASLP 30, 2022). The middle is
the BLSTM of the former or the TCN of Z.-Q. Wang, G. Wichern and J. Le Roux (2021).

Deviations from the published code (ESPnet, ``tcndenseunet.py``), whose weights do not fit: frequency is halved until
one bin is left, so that the number of scales follows from the number of frequencies; the first layer keeps all of them
and has activation and norm; dense blocks on the way up give half as many channels, and narrow scales have one layer
each; what is mapped across frequency is normalized by channel, not by frequency; edges of time are padded with zeros,
not mirrored; and no connection skips the middle. Time keeps its resolution throughout. The output layer is the
heads'. `causal` replaces instance norm, whose statistics look ahead, by a norm over channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State, with_past
from msdet.errors import UnknownNameError
from msdet.models.encoders import ENCODERS
from msdet.models.encoders.layers import AxesNorm, run_block, run_rnn

TINY = {"channels": 4, "layers": 3, "middle_width": 8, "middle_layers": 1}


@ENCODERS.register("dense_unet", tiny=TINY)
class DenseUNet(nn.Module):
    """Encoder and decoder over frequency with skip connections, around a recurrent middle.

    Args:
        channels: of a layer; the two scales above the middle have 2 and 4 times as many.
        layers: convolutions in a dense block; the one in the middle maps across frequency.
        middle: ``lstm`` or ``tcn``.
        middle_width: features of a frame in the middle, even.
        middle_layers: LSTMs, or stacks of 7 dilated convolutions.
    """

    def __init__(
        self,
        features_in: int,
        freqs: int,
        channels: int = 32,
        layers: int = 5,
        middle: str = "lstm",
        middle_width: int = 384,
        middle_layers: int = 2,
        dropout: float = 0.0,
        causal: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if middle not in MIDDLES:
            raise UnknownNameError("middle", middle, MIDDLES)
        self.causal = causal
        self.checkpoint = checkpoint
        sizes = [freqs >> scale for scale in range(freqs.bit_length())]  # halved until one is left
        widths = [channels] * (len(sizes) - 3) + [2 * channels, 4 * channels, middle_width][-len(sizes) :]
        self.features_out = widths[0]
        self.enter = _Conv(features_in, widths[0], causal)
        self.dense_down, self.halving = nn.ModuleList(), nn.ModuleList()
        self.dense_up, self.doubling = nn.ModuleList(), nn.ModuleList()
        for size, width, below in zip(sizes[:-1], widths[:-1], widths[1:], strict=True):
            depth = layers if width == channels else 1
            self.dense_down.append(_DenseBlock(width, width, channels, depth, size, causal))
            self.halving.append(_Conv(width, below, causal, halve=True))
            self.dense_up.append(_DenseBlock(2 * width, width, channels, depth, size, causal))
            self.doubling.append(_Double(below, width, causal))
        self.middle = MIDDLES[middle](middle_width, middle_layers, causal)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; keeps the first three axes."""

        def apply(part: nn.Module, x: Tensor) -> Tensor:
            return run_block(part, x, checkpoint=self.checkpoint and isinstance(part, _DenseBlock))

        return self._through(features, apply)

    def stream(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """Encode the next frames ``(batch, freq, frame, feature)``, of a causal encoder."""
        before = iter(state or [])
        after = []

        def apply(part: nn.Module, x: Tensor) -> Tensor:
            x, kept = cast(Any, part).stream(x, next(before, None))
            after.append(kept)
            return x

        return self._through(features, apply), after

    def _through(self, features: Tensor, apply: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        """Down, through the middle and up again, each part as `apply` does it."""
        x = apply(self.enter, features.permute(0, 3, 1, 2))
        skips = []
        for block, halve in zip(self.dense_down, self.halving, strict=True):
            x = apply(block, x)
            skips.append(x)
            x = apply(halve, x)
        frame = self.dropout(x[:, :, 0])
        x = self.dropout(apply(self.middle, frame))[:, :, None]
        for block, double in zip(reversed(self.dense_up), reversed(self.doubling), strict=True):
            skip = skips.pop()
            x = torch.cat([apply(double, x)[:, :, : skip.shape[2]], skip], dim=1)
            x = apply(block, x)
        return x.permute(0, 2, 3, 1)


class _ActNorm(nn.Module):
    """ELU, then instance norm, or a norm over channels where instance norm would look ahead."""

    def __init__(self, channels: int, causal: bool) -> None:
        super().__init__()
        self.norm = AxesNorm((1,) if causal else (2, 3), channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(nn.functional.elu(x)))


class _Conv(nn.Module):
    """Convolution over 3 bins and 3 frames, ELU and norm; ``(batch, channel, freq, frame)`` to the same axes.

    Keeps the number of frames, and ``n`` frequencies or halves them to ``n // 2``. If causal, it sees the past alone.
    """

    def __init__(self, channels_in: int, channels_out: int, causal: bool, halve: bool = False) -> None:
        super().__init__()
        self.past = 2 if causal else 1
        self.halve = halve
        stride, padding = ((2, 1), (0, 0)) if halve else ((1, 1), (1, 0))
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding)
        self.finish = _ActNorm(channels_out, causal)

    def forward(self, x: Tensor) -> Tensor:
        return self._convolved(nn.functional.pad(x, (self.past, 2 - self.past)))

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal convolution."""
        joined, kept = with_past(x, self.past, 3, state)
        return self._convolved(joined), kept

    def _convolved(self, x: Tensor) -> Tensor:
        if self.halve:  # an odd number of frequencies, by another one of zeros
            x = nn.functional.pad(x, (0, 0, 0, 1 - x.shape[2] % 2))
        return cast(Tensor, self.finish(self.conv(x)))


class _Double(nn.Module):
    """From ``n`` frequencies to ``2 n + 1``, ``(batch, channel, freq, frame)``."""

    def __init__(self, channels_in: int, channels_out: int, causal: bool) -> None:
        super().__init__()
        self.first = 0 if causal else 1
        self.conv = nn.ConvTranspose2d(channels_in, channels_out, 3, stride=(2, 1))
        self.finish = _ActNorm(channels_out, causal)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.finish(self.conv(x)[..., self.first : self.first + x.shape[3]]))

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal convolution."""
        joined, kept = with_past(x, 2, 3, state)
        return self.finish(self.conv(joined)[..., 2 : 2 + x.shape[3]]), kept


class _DenseBlock(nn.Module):
    """Layers that each see ``(batch, channel, freq, frame)`` of all before; the middle one maps frequencies."""

    def __init__(self, channels_in: int, channels_out: int, growth: int, layers: int, freqs: int, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for layer in range(layers):
            seen = channels_in + layer * growth
            grown = growth if layer < layers - 1 else channels_out
            maps = 0 < layer == layers // 2 < layers - 1
            self.layers.append(_FrequencyMap(seen, grown, freqs, causal) if maps else _Conv(seen, grown, causal))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(torch.cat(outputs, dim=1)))
        return outputs[-1]

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of causal layers."""
        outputs, after = [x], []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            y, kept = cast(Any, layer).stream(torch.cat(outputs, dim=1), before)
            outputs.append(y)
            after.append(kept)
        return outputs[-1], after


class _FrequencyMap(nn.Module):
    """Fewer channels of ``(batch, channel, freq, frame)``, then a linear layer across all frequencies."""

    def __init__(self, channels_in: int, channels_out: int, freqs: int, causal: bool) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, channels_out, 1)
        self.map = nn.Linear(freqs, freqs)
        self.before, self.after = _ActNorm(channels_out, causal), _ActNorm(channels_out, causal)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.before(self.squeeze(x))
        return cast(Tensor, self.after(self.map(squeezed.transpose(2, 3)).transpose(2, 3)))

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, each for itself."""
        return self(x), None


class _Lstm(nn.Module):
    """LSTMs over frames, in both directions unless causal, ``(batch, width, frame)`` to the same."""

    def __init__(self, width: int, layers: int, causal: bool) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"middle_width {width} is odd")
        hidden = width if causal else width // 2
        self.lstm = nn.LSTM(width, hidden, layers, bidirectional=not causal)

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x, None)[0]

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        encoded, state = run_rnn(self.lstm, x.permute(2, 0, 1), state)
        return encoded.permute(1, 2, 0), state


class _Tcn(nn.Module):
    """Stacks of residual depthwise separable convolutions of ``(batch, width, frame)``, 1, 2 ... 64 frames apart."""

    def __init__(self, width: int, layers: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        for dilation in [2**n for n in range(7)] * layers:
            self.norms.append(AxesNorm((1,) if causal else (2,), width, 1))
            apart = nn.Conv1d(width, width, 3, dilation=dilation, groups=width)
            self.convs.append(nn.Sequential(apart, nn.Conv1d(width, width, 1)))

    def forward(self, x: Tensor) -> Tensor:
        for layer, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            span = 2 * 2 ** (layer % 7)
            sides = (span, 0) if self.causal else (span // 2, span // 2)
            x = x + conv(nn.functional.pad(nn.functional.elu(norm(x)), sides))
        return x

    def stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of causal convolutions."""
        after = []
        layers = zip(self.norms, self.convs, state or [None] * len(self.convs), strict=True)
        for layer, (norm, conv, before) in enumerate(layers):
            joined, kept = with_past(nn.functional.elu(norm(x)), 2 * 2 ** (layer % 7), 2, before)
            x = x + conv(joined)
            after.append(kept)
        return x, after


MIDDLES = {"lstm": _Lstm, "tcn": _Tcn}
