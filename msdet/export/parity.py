"""Whether an exported file gives what the model gives: how far its voices are off, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from msdet.conventions import SPEED_OF_SOUND, Array, direction_vector
from msdet.dsp.spatial import decode_azimuth
from msdet.export import StftPlace
from msdet.export.formats import Runner
from msdet.methods.base import Separation, Separator
from msdet.models.joint import JointModel

LIMIT = 1e-4  # of the parity of voices, relative to their peak
ROUNDS = 5  # times that a file and the model are timed
TIMED_S = 4.0  # length of the recording that they are timed on


@dataclass(frozen=True)
class Deviation:
    """How far a file's outputs are from the model's, over all examples."""

    estimates: float  # largest deviation of a sample, relative to the peak of that voice
    doa: float  # largest deviation of a probability
    si_sdr_db: float  # of the file's voices, the model's being the references; the mean


def examples(model: JointModel) -> Iterator[Array]:
    """Mixtures ``(batch, mic, time)`` of several lengths, a whole number of hops: of noise and of syllables.

    As many talkers as the model has slots, far away, in free field, and sensor noise 20 dB below.
    """
    rate, hop = model.sample_rate, model.stft.hop
    for seed, (batch, seconds, voiced) in enumerate([(1, 0.7, False), (3, 1.1, True), (1, 2.3, True)]):
        rng = np.random.default_rng(seed)
        samples = hop * round(seconds * rate / hop)
        yield np.stack([_scene(model, samples, voiced, rng) for _ in range(batch)]).astype(np.float32)


def _scene(model: JointModel, samples: int, voiced: bool, rng: np.random.Generator) -> Array:
    """Talkers evenly around the array, ``(mic, time)``."""
    rate = model.sample_rate
    positions = model.array.positions
    frequency_hz = np.fft.rfftfreq(samples, 1 / rate)
    mixture = np.zeros((len(positions), samples))
    azimuths_deg = rng.uniform(0, 360) + 360 * np.arange(model.config.talkers) / model.config.talkers
    for azimuth_deg in azimuths_deg:
        source = rng.standard_normal(samples)
        if voiced:
            t = np.arange(samples) / rate
            pitch_rad = 2 * np.pi * rng.uniform(100, 220) * t
            tones = sum(np.sin(h * pitch_rad + rng.uniform(0, 6)) / h for h in range(1, 20))
            loudness = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * t + rng.uniform(0, 6)), 0.02, None)
            source = loudness * (tones + 0.2 * source)
        lead_s = positions @ direction_vector(np.array(azimuth_deg)).reshape(3) / SPEED_OF_SOUND
        shifted = np.fft.rfft(source / source.std()) * np.exp(2j * np.pi * frequency_hz * lead_s[:, None])
        mixture += np.fft.irfft(shifted, samples)
    return 0.05 * (mixture + 10 ** (-20 / 20) * rng.standard_normal(mixture.shape))


def deviation(model: JointModel, runner: Runner, stft: StftPlace) -> Deviation:
    """How far a file's outputs are from the model's."""
    voices, doa, ratios = 0.0, 0.0, []
    for mixture in examples(model):
        with torch.inference_mode():
            output = model(torch.from_numpy(mixture))
        wanted = output.waveforms.numpy()
        found = run_on_waveforms(model, runner, stft, mixture)
        error = found["estimates"] - wanted
        voices = max(voices, float((np.abs(error).max(-1) / np.abs(wanted).max(-1)).max()))
        doa = max(doa, float(np.abs(found["doa"] - output.doa_logits.softmax(-1).numpy()).max()))
        ratios.append(np.square(wanted).sum(-1).ravel() / np.maximum(np.square(error).sum(-1).ravel(), 1e-30))
    return Deviation(voices, doa, float(10 * np.log10(np.concatenate(ratios)).mean()))


def run_on_waveforms(model: JointModel, runner: Runner, stft: StftPlace, mixture: Array) -> dict[str, Array]:
    """A file's outputs for mixtures ``(batch, mic, time)``, float32, of any length, the voices as waveforms."""
    if stft == "inside":
        return runner(mixture)
    with torch.inference_mode():
        found = runner(torch.view_as_real(model.stft(torch.from_numpy(mixture))).numpy())
        spectra = torch.view_as_complex(torch.from_numpy(found["estimates"]).contiguous())
        return {**found, "estimates": model.stft.inverse(spectra, mixture.shape[-1]).numpy()}


def file_separator(model: JointModel, runner: Runner, stft: StftPlace) -> Separator:
    """A separator that runs an exported file; empty slots are left out."""

    def separate(mixture: Array) -> Separation:
        found = run_on_waveforms(model, runner, stft, mixture[None])
        logits = torch.from_numpy(found["doa"][0]).clamp_min(1e-30).log()
        azimuth_deg, confidence = (value.double().numpy() for value in decode_azimuth(logits))
        there = found.get("occupancy", np.ones(logits.shape[:1])[None])[0]
        kept = (there > 0.5) | (there == there.max())
        return Separation(found["estimates"][0][kept], azimuth_deg[kept], confidence[kept])

    return separate


def speeds(model: JointModel, runner: Runner, stft: StftPlace) -> tuple[float, float]:
    """Real-time factors of a file and of its model, the STFT counted: medians of turns, the first left out."""
    samples = round(TIMED_S * model.sample_rate)
    mixture = np.random.default_rng(0).standard_normal((1, model.array.microphones, samples), dtype=np.float32)
    times = []
    for _ in range(ROUNDS + 1):
        start_s = time.perf_counter()
        with torch.inference_mode():
            model(torch.from_numpy(mixture))
        between_s = time.perf_counter()
        run_on_waveforms(model, runner, stft, mixture)
        times.append((time.perf_counter() - between_s, between_s - start_s))
    file_s, model_s = np.median(times[1:], axis=0) / TIMED_S
    return float(file_s), float(model_s)
