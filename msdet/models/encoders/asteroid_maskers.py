"""Maskers of asteroid as encoders, on the STFT: frequencies are folded into channels, and unfolded again.

The learned encoders and decoders of Conv-TasNet and DPRNN give way to the front end and the heads.
"""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State, with_past
from msdet.models.encoders import ENCODERS


class GlobalNorm(nn.Module):
    """Norm over channels and time of `FoldedMasker`'s maskers, asteroid's ``gLN`` with its parameters' names.

    asteroid's own counts the axes by a tensor, which can be neither traced nor exported.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Norm of ``(batch, channel, ...)``."""
        return nn.functional.group_norm(x, 1, self.gamma, self.beta, eps=1e-8)


class FoldedMasker(nn.Module):
    """A network over ``(batch, channel, frame)`` whose channels are the features of all frequencies.

    Each bin is projected to `per_bin` features, all frequencies of a frame are one vector, and what the masker, a class
    of ``asteroid.masknn``, gives for it is split into bins again. A linear path keeps the resolution of single bins,
    which the masker's bottleneck takes. The heads make the masks, so its activation is left out. The masker's own
    dropout, within one-layer LSTMs, does nothing: a share is dropped before and after it.
    """

    def __init__(
        self, masker: str, features_in: int, freqs: int, per_bin: int, features_out: int, dropout: float, **options: Any
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of asteroid and its own dependencies
            from asteroid import masknn
        self.causal = bool(options.get("causal"))
        self.features_out = features_out
        self.project = nn.Linear(features_in, per_bin)
        self.dropout = nn.Dropout(dropout)
        self.bypass = nn.Linear(features_in, features_out)
        self.masker: nn.Module = getattr(masknn, masker)(
            freqs * per_bin, n_src=1, out_chan=freqs * features_out, mask_act="linear", **options
        )

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; keeps the first three axes."""
        return self._unfolded(self.masker(self._folded(features))[:, 0], features)

    def _folded(self, features: Tensor) -> Tensor:
        """``(batch, channel, frame)`` for the masker."""
        return cast(Tensor, self.dropout(self.project(features)).transpose(2, 3).flatten(1, 2))

    def _unfolded(self, masks: Tensor, features: Tensor) -> Tensor:
        """Bins ``(batch, freq, frame, feature)`` of what the masker gave, with the linear path."""
        unfolded = self.dropout(masks).unflatten(1, (features.shape[1], self.features_out)).transpose(2, 3)
        return nn.functional.relu(unfolded + self.bypass(features))


TINY = {"bottleneck": 6, "repeats": 1, "per_bin": 2, "features_out": 4}


@ENCODERS.register("conv_tasnet", tiny=TINY | {"hidden": 8, "skip": 5, "blocks": 2})
class ConvTasNet(FoldedMasker):
    """Stacks of dilated depthwise convolutions over frames: asteroid's `TDConvNet`.

    Y. Luo and N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
    separation", IEEE/ACM TASLP 27, 2019; the sizes are the paper's. If causal, the norm is over channels of a frame.

    Args:
        bottleneck: channels between blocks (B).
        hidden: channels inside a block (H).
        skip: channels of the skip connections (Sc); 0 leaves them out.
        kernel: frames that a convolution sees (P), odd.
        blocks: convolutions in a stack (X), each twice as far apart as the one before.
        repeats: stacks (R).
    """

    def __init__(
        self,
        features_in: int,
        freqs: int,
        bottleneck: int = 128,
        hidden: int = 512,
        skip: int = 128,
        kernel: int = 3,
        blocks: int = 8,
        repeats: int = 3,
        per_bin: int = 8,
        features_out: int = 16,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is even")
        options: dict[str, Any] = {
            "bn_chan": bottleneck, "hid_chan": hidden, "skip_chan": skip, "conv_kernel_size": kernel,
            "n_blocks": blocks, "n_repeats": repeats, "norm_type": "cLN" if causal else GlobalNorm, "causal": causal,
        }  # fmt: skip
        super().__init__("TDConvNet", features_in, freqs, per_bin, features_out, dropout, **options)
        if skip:  # asteroid's last block has a residual path that leads nowhere
            last = cast(nn.ModuleList, self.masker.TCN)[-1]
            cast(nn.Module, last.res_conv).requires_grad_(False)

    def stream(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder: asteroid's forward pass, convolutions with their past."""
        masker = cast(Any, self.masker)
        x = masker.bottleneck(self._folded(features))
        skips: Tensor | float = 0.0
        after = []
        for block, before in zip(masker.TCN, state or [None] * len(masker.TCN), strict=True):
            enter, rectify, norm, convolve, *leave = block.shared_block
            conv = convolve[0]
            past = conv.dilation[0] * (conv.kernel_size[0] - 1)
            joined, kept = with_past(norm(rectify(enter(x))), past, -1, before)
            after.append(kept)
            shared = nn.functional.conv1d(joined, conv.weight, conv.bias, dilation=conv.dilation, groups=conv.groups)
            for layer in leave:
                shared = layer(shared)
            if block.skip_out_chan:
                skips = skips + block.skip_conv(shared)
            x = x + block.res_conv(shared)
        return self._unfolded(masker.mask_net(skips if masker.skip_chan else x), features), after


@ENCODERS.register("dprnn", tiny=TINY | {"hidden": 5, "chunk": 4})
class DualPathRNN(FoldedMasker):
    """Blocks of two BLSTMs, inside chunks of frames and across chunks: asteroid's `DPRNN`.

    Y. Luo, Z. Chen and T. Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain single-channel
    speech separation", ICASSP 2020; the sizes are the paper's, but for the chunk, which is shorter because STFT frames
    are fewer than samples. There is no causal variant: the recurrence inside a chunk runs both ways. `bottleneck`
    channels are between the `repeats` blocks; `hidden` units has each LSTM in each direction; chunks of frames overlap
    by half, and about sqrt(2 · frames) balances the two recurrences.
    """

    def __init__(
        self,
        features_in: int,
        freqs: int,
        bottleneck: int = 128,
        hidden: int = 128,
        chunk: int = 20,
        repeats: int = 6,
        per_bin: int = 8,
        features_out: int = 16,
        dropout: float = 0.0,
    ) -> None:
        if chunk < 2:
            raise ValueError(f"chunk {chunk} is less than 2 frames")
        options = {"bn_chan": bottleneck, "hid_size": hidden, "chunk_size": chunk, "n_repeats": repeats}
        super().__init__("DPRNN", features_in, freqs, per_bin, features_out, dropout, norm_type=GlobalNorm, **options)

    def forward(self, features: Tensor) -> Tensor:
        """Encode ``(batch, freq, frame, feature)``; recurrences run in float32, as `run_rnn` does it."""
        folded = self._folded(features)
        with torch.autocast(folded.device.type, enabled=False):
            masks = self.masker(folded.float())[:, 0]
        return self._unfolded(masks.to(folded.dtype), features)
