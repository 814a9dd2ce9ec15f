"""Conv-TasNet's separator on the STFT: asteroid's `TDConvNet`, frequencies folded into channels.

Y. Luo and N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
separation", IEEE/ACM TASLP 27, 2019; the sizes are the paper's. Deviations: the learned encoder and decoder
give way to the front end and the heads, see `msdet.models.encoders._asteroid.FoldedMasker`.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from msdet.models.encoders._asteroid import FoldedMasker, GlobalNorm
from msdet.running import Memory, with_past

TINY = {"bottleneck": 6, "hidden": 8, "skip": 5, "blocks": 2, "repeats": 1, "per_bin": 2, "features_out": 4}


class Encoder(FoldedMasker):
    """Stacks of dilated depthwise convolutions over frames.

    Args:
        features_in: features of a bin.
        freqs: number of frequencies.
        bottleneck: channels between blocks (B).
        hidden: channels inside a block (H).
        skip: channels of the skip connections (Sc); 0 leaves them out.
        kernel: frames that a convolution sees (P), odd.
        blocks: convolutions in a stack (X), each twice as far apart as the one before.
        repeats: stacks (R).
        per_bin: features of a bin that the network sees.
        features_out: features of a bin that it gives.
        dropout: share dropped before and after the network.
        causal: see no later frame; the norm is then over the channels of one frame.
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
            "bn_chan": bottleneck,
            "hid_chan": hidden,
            "skip_chan": skip,
            "conv_kernel_size": kernel,
            "n_blocks": blocks,
            "n_repeats": repeats,
            "norm_type": "cLN" if causal else GlobalNorm,
            "causal": causal,
        }
        super().__init__("TDConvNet", features_in, freqs, per_bin, features_out, causal, dropout, options)
        if skip:  # asteroid's last block has a residual path that leads nowhere
            last = cast(nn.ModuleList, self.masker.TCN)[-1]
            cast(nn.Module, last.res_conv).requires_grad_(False)

    def stream(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The next frames, of a causal encoder: asteroid's forward pass, convolutions with their past."""
        masker = cast(Any, self.masker)
        state = masker.bottleneck(self._folded(features))
        skips: Tensor | float = 0.0
        after = []
        for block, before in zip(masker.TCN, memory or [None] * len(masker.TCN), strict=True):
            enter, rectify, norm, convolve, *leave = block.shared_block
            conv = convolve[0]
            past = conv.dilation[0] * (conv.kernel_size[0] - 1)
            joined, kept = with_past(norm(rectify(enter(state))), past, -1, before)
            after.append(kept)
            shared = nn.functional.conv1d(
                joined, conv.weight, conv.bias, dilation=conv.dilation, groups=conv.groups
            )
            for layer in leave:
                shared = layer(shared)
            if block.skip_out_chan:
                skips = skips + block.skip_conv(shared)
            state = state + block.res_conv(shared)
        return self._unfolded(masker.mask_net(skips if masker.skip_chan else state), features), after
