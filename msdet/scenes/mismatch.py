"""Microphones that differ from the array's description: in gain, in phase and in place.

A simulated array is otherwise perfect, and a model trained on it leans on that. The gain and phase errors do not depend
on frequency and are drawn for each microphone alone, as in Doclo and Moonen, "Design of broadband beamformers robust
against gain and phase errors in the microphone array characteristics", IEEE Trans. Signal Processing 51(10), 2003.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import next_fast_len

from msdet.conventions import Array
from msdet.errors import MsdetError


@dataclass(frozen=True)
class Mismatch:
    """How each microphone differs from the array's description: in gain, in phase, and in place.

    A positive phase advances (see `apply_gain_phase`); offsets are true positions less described ones, in the array's
    frame; rendering adds them.
    """

    gain_db: tuple[float, ...]
    phase_deg: tuple[float, ...]
    offset_m: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        counts = (len(self.gain_db), len(self.phase_deg), len(self.offset_m))
        if len(set(counts)) != 1:
            raise MsdetError(
                f"mismatch: gain_db, phase_deg and offset_m have {counts[0]}, {counts[1]} and {counts[2]} "
                "values, expected one of each a microphone"
            )


def draw_mismatch(
    microphones: int, gain_std_db: float, phase_std_deg: float, position_std_m: float, rng: np.random.Generator
) -> Mismatch:
    """Draw normally distributed errors of zero mean for each microphone, with standard deviations of 0 or more.

    Five numbers a microphone are drawn whatever the deviations, so that changing one changes no other.
    """
    deviations = {"gain_std_db": gain_std_db, "phase_std_deg": phase_std_deg, "position_std_m": position_std_m}
    for name, value in deviations.items():
        if not (math.isfinite(value) and value >= 0):
            raise MsdetError(f"mismatch: {name} is {value}, expected a finite number from 0 up")
    gain, phase = rng.standard_normal((2, microphones))
    offset = rng.standard_normal((microphones, 3)) * position_std_m + 0.0  # + 0.0: no -0.0 in the record
    return Mismatch(
        tuple((gain * gain_std_db + 0.0).tolist()),
        tuple((phase * phase_std_deg + 0.0).tolist()),
        tuple((float(x), float(y), float(z)) for x, y, z in offset),
    )


def apply_gain_phase(signals: Array, mismatch: Mismatch) -> Array:
    """What mismatched microphones make of floating-point signals ``(..., mic, time)``; same shape and type.

    Each microphone's gain g and phase φ make of its signal x, with H its Hilbert transform, g (cos φ x - sin φ H{x}): a
    tone cos(ωt) becomes g cos(ωt + φ). A positive phase thus advances, and multiplies the spectrum by exp(+jφ), as
    being nearer to the source does in `msdet.dsp.spatial`. The phase is the same at all frequencies, so it is no pure
    delay; it rings before and after a click, like 1 / t, and ringing beyond the ends of the signal is cut off.

    A microphone of 0 dB and 0 degrees keeps its samples exactly.
    """
    if signals.shape[-2] != len(mismatch.gain_db):
        described = f"mismatch: describes {len(mismatch.gain_db)} microphones"
        raise MsdetError(f"{described}, the signals have {signals.shape[-2]}")
    gain = 10 ** (np.array(mismatch.gain_db) / 20)
    phase_rad = np.deg2rad(mismatch.phase_deg)
    in_phase = (gain * np.cos(phase_rad)).astype(signals.dtype)[:, None]
    quadrature = (gain * np.sin(phase_rad)).astype(signals.dtype)[:, None]
    changed: Array = signals * in_phase
    if np.any(mismatch.phase_deg):
        samples = signals.shape[-1]
        padded = next_fast_len(2 * samples)  # or the ringing of one end would wrap round to the other
        from scipy.signal import hilbert  # not when a command only shows its options

        changed -= quadrature * hilbert(signals, N=padded, axis=-1).imag[..., :samples]
    return changed
