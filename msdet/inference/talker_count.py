"""Whether a recording contradicts the number of talkers that a system with fixed slots was made or told to find.

Speech is sparse: most moments are dominated by one talker, whose direction is where the steered response (SRP-PHAT,
DiBiase 2000) of a fraction of a second is highest. Moments that agree on a direction where no talker was found speak
for one more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from msdet.arrays import MicrophoneArray
from msdet.conventions import DOA_CLASSES, Array, angular_distance_deg, class_azimuths_deg
from msdet.dsp.filters import SPEECH_BAND_HZ
from msdet.dsp.spatial import phase_normalize, srp_from_covariance, steering_vectors, weighted_covariance
from msdet.dsp.stft import Stft, window_samples

_WINDOW_S, _FRAMES = 0.064, 6  # of a moment: 0.2 s
_LOUD_DB = -15.0  # against the loudest 5 % of moments
_MAX_MICROPHONES = 8
AWAY_DEG, _NEAR_DEG = 25.0, 12.0  # from all talkers, and around one direction
SAME_DEG = 7.0  # two people are hardly this near to each other, the parts of one voice often are
_MIN_MOMENTS = 6

MORE, FEWER = 0.12, 0.03
"""Shares of the loud moments: elsewhere, from which on there are more talkers; and at one, below which there is nobody.
On 21 simulated scenes of one to three, a direction where nobody was had 8 % at most, a talker 14 % at least."""


class TalkerCount:
    """Takes blocks of a recording of an array, but for some channels, and what was found in them."""

    def __init__(self, array: MicrophoneArray, left_out: Sequence[int], sample_rate: int) -> None:
        there = np.setdiff1d(np.arange(array.microphones), left_out)
        spread = np.linspace(0, len(there) - 1, min(len(there), _MAX_MICROPHONES)).round().astype(int)
        self._channels, self._sample_rate = there[spread], sample_rate
        self._positions = array.positions[self._channels]
        self._moments = 0
        self._elsewhere = np.zeros(DOA_CLASSES)  # moments around each class, away from all that was found
        self._near: Array | None = None  # moments nearest to each talker of the last block

    def add(self, mixture: Array, azimuth_deg: Array | None) -> None:
        """Look at a block ``(mic, time)``, in which talkers ``(talker,)`` were found, NaN for empty slots."""
        if azimuth_deg is None or not np.isfinite(azimuth_deg).any():
            return
        moments_deg = dominant_directions(mixture[self._channels], self._positions, self._sample_rate)
        apart_deg = np.nan_to_num(angular_distance_deg(moments_deg[:, None], azimuth_deg), nan=180.0)
        away = moments_deg[apart_deg.min(axis=1) > AWAY_DEG]
        around = angular_distance_deg(class_azimuths_deg()[:, None], away) <= _NEAR_DEG
        self._elsewhere += around.sum(axis=1)
        self._moments += len(moments_deg)
        self._near = np.bincount(apart_deg.argmin(axis=1), minlength=len(azimuth_deg))

    def contradiction(self, azimuth_deg: Array, whole: bool) -> str | None:
        """What speaks against the number of talkers ``(talker,)``, in words; fewer only where a block was all."""
        count, most = len(azimuth_deg), int(self._elsewhere.max())
        highest = np.flatnonzero(self._elsewhere == most)
        place = int(highest[len(highest) // 2])
        if most >= max(MORE * self._moments, _MIN_MOMENTS):
            return (
                f"more than {count} talkers, one who moves, or a loud noise: {100 * most / self._moments:.0f} % of the "
                f"loud moments come from about {class_azimuths_deg()[place]:.0f}°, where nobody was found"
            )
        if not whole or self._near is None or count < 2:
            return None
        apart_deg = angular_distance_deg(azimuth_deg[:, None], azimuth_deg) + 360.0 * np.eye(count)
        if np.nanmin(apart_deg) < SAME_DEG:
            return f"perhaps fewer than {count} talkers: two were found {np.nanmin(apart_deg):.0f}° apart"
        faint = np.flatnonzero(self._near < FEWER * self._moments)
        if self._moments < 3 * _MIN_MOMENTS or not len(faint):
            return None
        listed = ", ".join(f"{azimuth_deg[talker]:.0f}°" for talker in faint)
        return f"perhaps fewer than {count} talkers: no loud moment, or hardly one, comes from {listed}"


def dominant_directions(mixture: Array, positions_m: Array, sample_rate: int) -> Array:
    """Azimuth in degrees of what dominates each loud moment ``(moment,)`` of a mixture ``(mic, time)``."""
    stft = Stft(window_samples(_WINDOW_S, sample_rate))
    frequency_hz = torch.linspace(0.0, sample_rate / 2, stft.freqs, dtype=torch.float64)
    band = (frequency_hz >= SPEECH_BAND_HZ[0]) & (frequency_hz <= SPEECH_BAND_HZ[1])
    azimuth_deg = class_azimuths_deg()
    steering = steering_vectors(torch.from_numpy(positions_m), torch.from_numpy(azimuth_deg), frequency_hz[band], 0)
    spectrum = stft(torch.from_numpy(np.ascontiguousarray(mixture))[None])[:, :, band]
    moments = spectrum.shape[-1] // _FRAMES
    if not moments:
        return np.zeros(0)
    split = spectrum[..., : moments * _FRAMES].unflatten(-1, (moments, _FRAMES))[0].permute(2, 0, 1, 3)
    power = split.abs().square().mean(dim=(1, 2, 3))
    loud = 10 * power.clamp_min(1e-20).log10()
    split = split[loud > loud.quantile(0.95) + _LOUD_DB]
    weights = split[:, :1].abs()
    covariance = weighted_covariance(phase_normalize(split), weights)
    response = srp_from_covariance(covariance, steering)[:, 0]
    return np.asarray(azimuth_deg[response.argmax(dim=-1).numpy()])
