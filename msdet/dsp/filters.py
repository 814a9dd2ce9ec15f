"""Filters of a signal that comes in pieces: a high-pass that turns no phase, and the band that speech is told by."""

from __future__ import annotations

import numpy as np
import scipy

from msdet.conventions import Array

SPEECH_BAND_HZ = (200.0, 3800.0)
"""Holds what makes speech loud, and little of rumble, mains hum and hiss. On four conversations of half a minute,
without noise and with a hum 12 dB above the speech, 92 and 74 % of the speech was found in it, of all below 4 kHz 94
and 26 %."""

TRANSITION = 2 / 3  # of the cutoff: from half an octave below it to as much above, the gain rises from 0 to 1
_HAMMING_WIDTH = 3.3  # transition of a Hamming window's filter, in sample rates a tap


class Highpass:
    """Takes a signal ``(channel, time)`` in pieces; gives it without what is below a cutoff, as long and in phase.

    The filter is symmetric: -6 dB at the cutoff, -50 dB at two thirds of it. Beyond its ends the signal is taken to be
    mirrored. A causal filter would turn the phase of low voices: of order 2, it left 10 dB of SI-SDR against the
    unfiltered speech of 16 people; this one leaves 28 dB. A cutoff of 0 gives all, at once.
    """

    def __init__(self, cutoff_hz: float, sample_rate: int) -> None:
        self._half = round(_HAMMING_WIDTH * sample_rate / (TRANSITION * cutoff_hz)) // 2 if cutoff_hz else 0
        taps = (
            scipy.signal.firwin(2 * self._half + 1, cutoff_hz, pass_zero=False, fs=sample_rate) if cutoff_hz else [1.0]
        )
        self._taps = np.array(taps)[None]
        self._waiting: Array | None = None
        self._begun = False
        self.delay_s = self._half / sample_rate

    def push(self, piece: Array) -> Array:
        """Take the next samples; give what is final."""
        if not self._half:
            return piece
        waiting = piece if self._waiting is None else np.concatenate([self._waiting, piece], axis=1)
        if not self._begun and waiting.shape[1] >= self._half:
            waiting, self._begun = np.pad(waiting, ((0, 0), (self._half, 0)), "symmetric"), True
        if not self._begun or waiting.shape[1] <= 2 * self._half:
            self._waiting = waiting
            return piece[:, :0]
        self._waiting = waiting[:, -2 * self._half :]
        return self._filtered(waiting)

    def finish(self) -> Array | None:
        """What is left after the last samples; None if there were none, or nothing is."""
        if self._waiting is None or not self._waiting.size:
            return None
        before = 0 if self._begun else self._half
        return self._filtered(np.pad(self._waiting, ((0, 0), (before, self._half)), "symmetric"))

    def _filtered(self, signal: Array) -> Array:
        """What does not depend on anything outside."""
        return np.asarray(scipy.signal.oaconvolve(signal, self._taps, mode="valid", axes=-1), dtype=np.float32)


class SpeechBand:
    """Takes a signal ``(channel, time)`` in pieces, as if it had been constant before; gives `SPEECH_BAND_HZ` of it."""

    def __init__(self, sample_rate: int) -> None:
        low, high = SPEECH_BAND_HZ
        band = (low, min(high, 0.45 * sample_rate))
        self._sections = scipy.signal.butter(4, band, "bandpass", fs=sample_rate, output="sos")
        self._state: Array | None = None

    def __call__(self, piece: Array) -> Array:
        """The next piece, float64; its phase is not that of the signal."""
        if not piece.shape[1]:
            return piece
        if self._state is None:
            self._state = scipy.signal.sosfilt_zi(self._sections)[:, None] * piece[None, :, :1].astype(np.float64)
        filtered, self._state = scipy.signal.sosfilt(self._sections, piece, axis=-1, zi=self._state)
        return np.asarray(filtered)
