"""Who speaks when: activity of each separated voice by its energy in the band of speech, in frames of 0.1 s.

A voice is active in a frame if two things hold over the 0.3 s around it:

- **it is loud enough**: its level is above a threshold between the recording's noise floor and its speech
  (`Levels.threshold_db`);
- **it is not merely what leaked from others**: the share of the mixture's energy in the time-frequency bins
  in which it is the strongest voice is at least `OWN_SHARE`. Separated voices hardly meet in a bin (Yilmaz
  and Rickard 2004), so a talker who speaks has bins of his own, and what leaks into an empty slot has few.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import stft

from msdet.conventions import Array
from msdet.dsp.filters import SpeechBand

OWN_SHARE = 0.18
"""Of the energy in a frame; voices below it are taken for leakage. On simulated conversations, 94 % of the
frames found are speech and 96 % of the speech is found, with voices by `srp_beam` or by a trained model."""

FLOOR_MARGIN_DB = 6.0  # a voice is this much above the noise floor

DEEPEST_DB, SHALLOWEST_DB = -35.0, -15.0
"""Bounds of the threshold relative to the speech level: in silence, and where there are no pauses."""

OCCUPIED_S = 0.3  # a slot with less speech in a block is empty there
_SMOOTH = 3  # frames
_WINDOW_S = 0.032
_LEVELS_DB = np.arange(-140.0, 20.5, 0.5)


@dataclass
class Levels:
    """How loud a recording is in the band of speech, as a histogram ``(level,)`` of its frames' levels.

    The lowest is digital silence.
    """

    counts: Array = field(default_factory=lambda: np.zeros(_LEVELS_DB.size, dtype=np.int64))

    def add(self, signal: Array, frame: int) -> None:
        """Count the frames of a piece ``(time,)`` of a `SpeechBand`; an incomplete one at its end is left out."""
        whole = signal[: signal.size // frame * frame].reshape(-1, frame)
        level_db = _decibels(np.square(whole, dtype=np.float64).mean(axis=1))
        places = np.clip(np.searchsorted(_LEVELS_DB, level_db), 0, _LEVELS_DB.size - 1)
        np.add.at(self.counts, places, 1)

    def quantile_db(self, share: float) -> float:
        """Level below which a share of the frames lies, digital silence left out."""
        audible = self.counts[1:].cumsum()
        return float(_LEVELS_DB[1 + int(np.searchsorted(audible, share * audible[-1]))]) if audible[-1] else -140.0

    @property
    def threshold_db(self) -> float:
        """From here on a voice is speech: `FLOOR_MARGIN_DB` above the quietest 5 % of frames, in bounds."""
        floor, speech = self.quantile_db(0.05), self.quantile_db(0.95)
        return float(np.clip(floor + FLOOR_MARGIN_DB, speech + DEEPEST_DB, speech + SHALLOWEST_DB))


def active_frames(
    voices: Array | None, mixture: Array, talkers: int, levels: Levels, sample_rate: int, frame: int
) -> Array:
    """Which voices ``(talker, time)`` speak when, bool ``(talker, frame)``, in frames of so many samples.

    `mixture` is ``(time,)`` at the reference microphone. Without voices, all talkers are taken to speak wherever it is
    loud enough.
    """
    mixture = SpeechBand(sample_rate)(mixture[None])[0]
    if voices is None:
        return np.repeat(_loud(mixture[None], levels, frame), talkers, axis=0)
    voices = SpeechBand(sample_rate)(voices)
    loud = _loud(voices, levels, frame)
    if talkers < 2:
        return loud
    return loud & (_own_share(voices, mixture, sample_rate, frame, loud.shape[1]) >= OWN_SHARE)


def _loud(signals: Array, levels: Levels, frame: int) -> Array:
    starts = np.arange(0, signals.shape[-1], frame)
    sums = np.add.reduceat(np.square(signals, dtype=np.float64), starts, axis=-1)
    power = sums / np.diff(np.append(starts, signals.shape[-1]))  # the last one of what there is
    return _decibels(_smooth(power)) > levels.threshold_db


def _own_share(voices: Array, mixture: Array, sample_rate: int, frame: int, frames: int) -> Array:
    """Share ``(talker, frame)`` of the mixture's energy where each voice is the strongest."""
    if mixture.size < 2:  # no spectrum to share
        return np.ones((len(voices), frames))
    size = min(2 * round(_WINDOW_S * sample_rate / 2), mixture.size // 2 * 2)
    options = {"nperseg": size, "noverlap": size // 2, "padded": True}
    _, times, spectrum = stft(mixture, 1.0, **options)
    strongest = np.abs(stft(voices, 1.0, **options)[2]).argmax(axis=0)
    power = np.square(np.abs(spectrum))
    place = np.minimum(times // frame, frames - 1).astype(int)
    share = np.zeros((len(voices), frames))
    for talker in range(len(voices)):
        np.add.at(share[talker], place, np.where(strongest == talker, power, 0.0).sum(axis=0))
    share = _smooth(share)
    total = np.broadcast_to(share.sum(axis=0), share.shape)
    return np.asarray(np.divide(share, total, out=np.zeros_like(share), where=total > 0))


def _smooth(frames: Array) -> Array:
    return np.asarray(uniform_filter1d(frames, _SMOOTH, axis=-1, mode="nearest"))


def _decibels(power: Array) -> Array:
    return 10.0 * np.log10(np.maximum(power, 1e-14))
