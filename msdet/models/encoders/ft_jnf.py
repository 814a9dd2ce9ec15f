"""FT-JNF: one BLSTM across frequency, then one LSTM across time (Tesch and Gerkmann 2023).

K. Tesch and T. Gerkmann, "Insights into deep non-linear filters for improved multi-channel speech enhancement",
IEEE/ACM TASLP 31, 2023. The sizes are the paper's; its mask layer is the heads', its input the front end's.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from msdet.dsp.streaming_state import State
from msdet.models.encoders import ENCODERS, StreamingBlockEncoder
from msdet.models.encoders.layers import run_rnn_along

TINY = {"hidden_freq": 6, "hidden_time": 5}


@ENCODERS.register("ft_jnf", tiny=TINY)
class FTJNF(StreamingBlockEncoder):
    """Two blocks: a wide-band recurrence within each frame, a narrow-band one within each frequency.

    `hidden_freq` and `hidden_time` are the units of these LSTMs in each direction.
    """

    depth = 2

    def __init__(
        self,
        features_in: int,
        hidden_freq: int = 256,
        hidden_time: int = 128,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.features_out = hidden_time if causal else 2 * hidden_time
        self.across_freq = nn.LSTM(features_in, hidden_freq, bidirectional=True)
        self.across_time = nn.LSTM(2 * hidden_freq, hidden_time, bidirectional=not causal)
        self.dropout = nn.Dropout(dropout)

    def block(self, index: int, x: Tensor) -> Tensor:
        """The first runs across frequency, the second across time."""
        layer, axis = (self.across_freq, 1) if index == 0 else (self.across_time, 2)
        return cast(Tensor, self.dropout(run_rnn_along(layer, x, axis)[0]))

    def stream_block(self, index: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next frames, of a causal encoder."""
        if index == 0:
            return self.block(index, x), None
        encoded, state = run_rnn_along(self.across_time, x, 2, state)
        return self.dropout(encoded), state

    def width(self, index: int) -> int:
        """Units of that recurrence, in all directions."""
        return 2 * self.across_freq.hidden_size if index == 0 else self.features_out
