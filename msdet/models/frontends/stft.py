"""The spectra of all microphones as they are, scaled by the level at the reference.

What SpatialNet (Quan and Li, IEEE/ACM TASLP 32, 2024), TF-GridNet (Wang et al., IEEE/ACM TASLP 31, 2023) and
FT-JNF (Tesch and Gerkmann, IEEE/ACM TASLP 31, 2023) see. It keeps the phase from frame to frame, by which
sound can be told from its own reverberation; front ends that turn every bin by the reference's phase lose it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msdet.dsp.streaming_state import State, decay_over
from msdet.models.frontends import FRONT_ENDS, FrontEndOutput, FrontEndSizes, reference_level, running_rms


@FRONT_ENDS.register("stft")
class StftFrontEnd(nn.Module):
    """Real parts of all microphones, then imaginary parts, at unit RMS at the reference.

    Args:
        causal: the level is that of the recording so far.
        time_constant_s: time constant in seconds with which a causal front end forgets levels; null for
            never.
    """

    array_bound = True
    keeps_phase = True

    def __init__(self, sizes: FrontEndSizes, causal: bool = False, time_constant_s: float | None = None) -> None:
        super().__init__()
        self.geometry = sizes.geometry
        self.causal = causal
        self.decay = decay_over(time_constant_s, sizes.geometry.frame_s)
        self.features_out = 2 * sizes.geometry.microphones

    def forward(self, spectrum: Tensor) -> FrontEndOutput:
        """Features of a spectrum ``(batch, mic, freq, frame)``."""
        if self.causal:
            return self.stream(spectrum, None)[0]
        level = reference_level(spectrum[:, self.geometry.reference])
        return self._output(spectrum, spectrum / level[:, None], level)

    def stream(self, spectrum: Tensor, state: State) -> tuple[FrontEndOutput, State]:
        """The next frames, of a causal front end."""
        level, state = running_rms(spectrum[:, self.geometry.reference], self.decay, state)
        return self._output(spectrum, spectrum / level[:, None], level), state

    def _output(self, spectrum: Tensor, leveled: Tensor, level: Tensor) -> FrontEndOutput:
        features = torch.cat([leveled.real, leveled.imag], dim=1).permute(0, 2, 3, 1)
        return FrontEndOutput(spectrum, features, None, level, keeps_phase=True)
