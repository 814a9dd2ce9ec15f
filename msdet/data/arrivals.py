"""When and from where a reference arrives in its mixture: what the sound itself says about the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, direction_vector, wrap_signed_deg
from msdet.scenes.scene import Scene, Source

FRAME_S = 0.064  # about; the length of a frame in samples is a power of two
AZIMUTH_STEP_DEG = 5.0  # directions that are tried lie this far apart
HOLD_S = 0.25  # a moving talker is taken to stand this long
LAG_TOLERANCE_S = 0.0005  # a reference within this time of the mixture counts as in time with it
AUDIBLE_DB = -40.0  # frames in which a reference is weaker than this, against its loudest, are left out
_WHITENING_FLOOR = 1e-3
_FINER_LAGS = 4


@dataclass(frozen=True)
class Arrival:
    """How a reference arrives in the mixture; what needs a label of its direction is NaN without one.

    It is later by `lag_s`; `in_time` is the correlation without lag, over that at `lag_s`. It comes from an azimuth
    `offset_deg` counter-clockwise from its label; `at_label` is the steered response there, over that at the offset.
    """

    lag_s: float
    in_time: float
    offset_deg: float
    at_label: float


def arrivals(mixture: Array, references: Array, scene: Scene, array: MicrophoneArray) -> list[Arrival]:
    """How each talker of a scene arrives at the microphones.

    The cross-spectrum of reference and microphones, divided by the reference's power spectrum, is the sum of
    the paths that the talker's sound took. The direct one stands out: at all microphones it is when the label
    says, without lag at the reference microphone. Other talkers and reverberation are spread. The mixture is
    ``(mic, time)``, references are ``(talker, time)``, none of them silent.
    """
    size = 2 ** round(math.log2(FRAME_S * scene.sample_rate))
    microphones_m = array.positions + (np.array(scene.mismatch.offset_m) if scene.mismatch else 0.0)
    received = _spectra(mixture, size)
    times_s = (np.arange(received.shape[1]) * (size // 2) + size / 2) / scene.sample_rate
    talkers = []
    for source, reference in zip(scene.sources, references, strict=True):
        spectra = _spectra(reference[None], size)[0]
        labels, place = _labels(source, times_s)
        paths = _paths(received, spectra, place)
        lag_s, in_time = _lag(paths[:, array.reference].sum(axis=0), scene.sample_rate)
        offset_deg, at_label = math.nan, math.nan
        if scene.located:
            samples_a_meter = scene.sample_rate / scene.speed_of_sound
            offset_deg, at_label = _offset(paths, labels, microphones_m, array.reference, samples_a_meter)
        talkers.append(Arrival(lag_s, in_time, offset_deg, at_label))
    return talkers


def _spectra(signals: Array, size: int) -> Array:
    """Spectra ``(channel, frame, freq)`` of signals ``(channel, time)``, frames overlapping by half."""
    padded = np.pad(signals, ((0, 0), (0, max(0, size - signals.shape[-1]))))
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, :: size // 2] * window
    return np.asarray(np.fft.rfft(frames))


def _labels(source: Source, times_s: Array) -> tuple[Array, Array]:
    """Azimuth, elevation and distance ``(place, 3)`` of a talker, and the place ``(frame,)`` at each time."""
    if not source.track:
        label = np.array([[source.azimuth_deg, source.elevation_deg, source.distance_m]])
        return label, np.zeros(len(times_s), dtype=np.int64)
    place = (times_s / HOLD_S).astype(np.int64)
    middles_s = (np.arange(place.max() + 1) + 0.5) * HOLD_S
    track_s = np.array([d.time_s for d in source.track])
    nearest = np.abs(middles_s[:, None] - track_s).argmin(axis=1)
    track = np.array([[d.azimuth_deg, d.elevation_deg, d.distance_m] for d in source.track])
    return track[nearest], place


def _paths(received: Array, reference: Array, place: Array) -> Array:
    """Cross-spectra ``(place, mic, freq)`` over the reference's mean power, of the frames at each place."""
    power = np.abs(reference) ** 2
    level = power.sum(axis=-1)
    loud = level > level.max() * 10 ** (AUDIBLE_DB / 10)
    mean = power[loud].mean(axis=0)
    whitened = np.conj(reference) / (mean + _WHITENING_FLOOR * mean.max())
    chosen = [loud & (place == number) for number in range(place.max() + 1)]
    return np.stack([np.einsum("mlf,lf->mf", received[:, c], whitened[c]) for c in chosen])


def _lag(paths: Array, sample_rate: int) -> tuple[float, float]:
    """`Arrival.lag_s` and `Arrival.in_time` from cross-spectra ``(freq,)`` at the reference microphone.

    Their phases alone count (Knapp and Carter, IEEE Trans. ASSP 24(4), 1976), for a narrower peak.
    """
    rate = _FINER_LAGS * sample_rate
    phases = paths / np.maximum(np.abs(paths), 1e-12)
    correlation = np.fft.irfft(phases, _FINER_LAGS * 2 * (len(paths) - 1))
    lags_s = np.fft.fftfreq(len(correlation), 1 / len(correlation)) / rate
    in_time = correlation[np.abs(lags_s) <= LAG_TOLERANCE_S].max() / correlation.max()
    return float(lags_s[correlation.argmax()]), float(in_time)


def _offset(
    paths: Array, labels: Array, microphones_m: Array, reference: int, samples_a_meter: float
) -> tuple[float, float]:
    """`Arrival.offset_deg` and `Arrival.at_label` from cross-spectra ``(place, mic, freq)``."""
    offsets_deg = np.arange(0.0, 360.0, AZIMUTH_STEP_DEG)
    bins = paths.shape[-1]
    turn_rad = np.pi * np.arange(bins) / (bins - 1)  # of each frequency, a sample
    azimuth_deg, elevation_deg, distance_m = labels.T
    responses = []
    for offset_deg in offsets_deg:
        places = distance_m[:, None] * direction_vector(azimuth_deg + offset_deg, elevation_deg)
        path_m = np.linalg.norm(places[:, None] - microphones_m, axis=-1)
        delay = (path_m - path_m[:, reference, None]) * samples_a_meter
        responses.append(np.real(paths * np.exp(1j * turn_rad * delay[..., None])).sum())
    best = int(np.argmax(responses))
    return float(wrap_signed_deg(offsets_deg[best])), float(responses[0] / responses[best])
