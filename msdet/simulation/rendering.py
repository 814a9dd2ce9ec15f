"""From a scene to sound: convolve, set levels, add noise, scale."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from msdet import audio
from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, rotation_matrix
from msdet.errors import MsdetError
from msdet.simulation.acoustics import RoomResponse, low_cut, room_response
from msdet.simulation.scene import Scene, Target

MIXTURE_RMS = 10 ** (-26 / 20)
"""Level of a mixture at the reference microphone, of full scale; lower where a peak would pass `PEAK`."""

PEAK = 0.9


@dataclass(frozen=True)
class Mixture:
    """A rendered mixture; ``mixture == images.sum(0) + noise``.

    Attributes:
        mixture: ``(mic, time)``.
        images: ``(talker, mic, time)``, each talker's reverberant sound.
        references: ``(talker, time)``, the training target at the reference microphone.
        noise: ``(mic, time)``.
    """

    mixture: Array
    images: Array
    references: Array
    noise: Array


def mix(
    speech: Array,
    response: RoomResponse,
    levels_db: Array,
    snr_db: float,
    target: Target,
    reference_microphone: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Mixture:
    """Mix dry speech ``(talker, time)`` through a room, with white sensor noise.

    Args:
        speech: dry speech of each talker, already at its onset.
        response: responses of as many sources.
        levels_db: ``(talker,)`` level of each image at the reference microphone.
        snr_db: all images against noise, at the reference microphone.
        target: what the references hold.
        reference_microphone: index of the microphone of the references.
        sample_rate: hertz.
        rng: draws the noise.

    Raises:
        MsdetError: a talker is silent.
    """
    samples = speech.shape[-1]
    speech = low_cut(speech, sample_rate)
    images = fftconvolve(speech[:, None], response.rirs, axes=-1)[..., :samples]
    references = fftconvolve(speech, response.target(target, reference_microphone, sample_rate), axes=-1)[
        :, :samples
    ]
    rms = np.sqrt(np.mean(images[:, reference_microphone] ** 2, axis=-1, dtype=np.float64))
    if not (rms > 1e-8).all():
        raise MsdetError(f"talker {int(np.argmin(rms)) + 1} is silent")
    gains = (10 ** (levels_db / 20) / rms).astype(np.float32)
    images = images * gains[:, None, None]
    references = references * gains[:, None]
    clean = images.sum(axis=0)
    clean_rms = np.sqrt(np.mean(clean[reference_microphone] ** 2, dtype=np.float64))
    noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(clean_rms * 10 ** (-snr_db / 20))
    mixture = clean + noise
    peak = max(float(np.abs(mixture).max()), float(np.abs(references).max()))
    scale = np.float32(min(MIXTURE_RMS / clean_rms, PEAK / peak))
    return Mixture(mixture * scale, images * scale, references * scale, noise * scale)


def scene_response(scene: Scene, array: MicrophoneArray) -> RoomResponse:
    """The room's responses from the scene's talkers to the array."""
    rotation = rotation_matrix(scene.array_rotation_deg)
    return room_response(
        scene.room_m,
        scene.t60_asked_s,
        array.positions @ rotation.T + np.asarray(scene.array_centre_m),
        np.array([s.position_m for s in scene.sources]),
        scene.sample_rate,
        scene.speed_of_sound,
    )


def scene_speech(scene: Scene, corpus_root: Path) -> Array:
    """Dry speech ``(talker, time)`` of a scene, each talker at its onset.

    Raises:
        MsdetError: speech that cannot be read, or is silent where the scene uses it.
    """
    speech = np.zeros((len(scene.sources), scene.samples), dtype=np.float32)
    for row, source in zip(speech, scene.sources, strict=True):
        utterance = audio.read_mono(corpus_root / source.path, scene.sample_rate)
        place_speech(row, utterance, source.offset_s, source.onset_s, scene.sample_rate)
        if not row.any():
            raise MsdetError(f"{corpus_root / source.path}: is silent from {source.offset_s:.2f} s on")
    return speech


def place_speech(row: Array, utterance: Array, offset_s: float, onset_s: float, sample_rate: int) -> None:
    """Copy an utterance from its offset into ``row (time,)`` at its onset, as much as fits."""
    offset, onset = round(offset_s * sample_rate), round(onset_s * sample_rate)
    piece = utterance[offset : offset + len(row) - onset]
    row[onset : onset + len(piece)] = piece


def render(scene: Scene, array: MicrophoneArray, corpus_root: Path) -> tuple[Mixture, Scene]:
    """Render a scene; also returns it with the T60 measured.

    Raises:
        MsdetError: speech that cannot be read or is silent, or an impossible room.
    """
    response = scene_response(scene, array)
    rng = np.random.default_rng([scene.seed, 1])  # apart from the stream that sampled the scene
    mixture = mix(
        scene_speech(scene, corpus_root),
        response,
        np.array([s.level_db for s in scene.sources]),
        scene.noise.snr_db,
        scene.target,
        array.reference,
        scene.sample_rate,
        rng,
    )
    return mixture, dataclasses.replace(scene, t60_measured_s=response.t60_measured_s)
