"""Dual-path RNN on the STFT: asteroid's `DPRNN`, frequencies folded into channels.

Y. Luo, Z. Chen and T. Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain
single-channel speech separation", ICASSP 2020; the sizes are the paper's, but for the chunk, which is shorter
because STFT frames are fewer than samples. Deviations: the learned encoder and decoder give way to the front
end and the heads, see `msdet.models.encoders._asteroid.FoldedMasker`. There is no causal variant: the
recurrence inside a chunk runs both ways.
"""

from __future__ import annotations

from msdet.models.encoders._asteroid import FoldedMasker, GlobalNorm

TINY = {"bottleneck": 6, "hidden": 5, "chunk": 4, "repeats": 1, "per_bin": 2, "features_out": 4}


class Encoder(FoldedMasker):
    """Blocks of two BLSTMs, inside chunks of frames and across chunks.

    Args:
        features_in: features of a bin.
        freqs: number of frequencies.
        bottleneck: channels between blocks.
        hidden: units of each LSTM, in each direction.
        chunk: frames of a chunk; chunks overlap by half. About the square root of twice the number of frames
            balances the two recurrences.
        repeats: number of blocks.
        per_bin: features of a bin that the network sees.
        features_out: features of a bin that it gives.
        dropout: share dropped before and after the network.
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
        options = {
            "bn_chan": bottleneck,
            "hid_size": hidden,
            "chunk_size": chunk,
            "n_repeats": repeats,
            "norm_type": GlobalNorm,
        }
        super().__init__("DPRNN", features_in, freqs, per_bin, features_out, False, dropout, options)
