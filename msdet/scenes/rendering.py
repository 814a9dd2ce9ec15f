"""From a scene to sound: reverberate the speech, set levels, add noise, scale."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.mismatch import Mismatch, apply_gain_phase
from msdet.scenes.noise import diffuse
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.rir.room_response import RoomResponse, room_response
from msdet.scenes.room_geometry import positions_along
from msdet.scenes.scene import Noise, Scene, Source, Target

MIXTURE_RMS = 10 ** (-26 / 20)  # at the reference microphone, of full scale; lower where a peak would pass `PEAK`
PEAK = 0.9
MIN_RMS = 1e-8  # of a talker's image before its level is set; less is silence
PATH_STEP_M = 0.05  # a moving talker's path is rendered from positions at most this far apart


@dataclass(frozen=True)
class Mixture:
    """A rendered mixture ``(mic, time)``, equal to ``images.sum(0) + noise``.

    `images` ``(talker, mic, time)`` are each talker's reverberant sound, `references` ``(talker, time)`` the
    training targets at the reference microphone, `noise` is ``(mic, time)``.
    """

    mixture: Array
    images: Array
    references: Array
    noise: Array


@dataclass(frozen=True)
class SourceImage:
    """A talker alone, at any scale: ``image (mic, time)``, ``reference (time,)``, and how long it talks."""

    image: Array
    reference: Array
    duration_s: float


def reverberate(speech: Array, responses: Array, times_s: Array, sample_rate: int) -> Array:
    """Speech ``(time,)`` through responses ``(position, channel, tap)``: ``(channel, time)``.

    The talker is at position ``p`` at time ``times_s[p]``. What it says in between goes through the responses
    before and after, cross-faded by the time of emission: sound already under way keeps its path.
    """
    samples = len(speech)
    if len(responses) == 1:
        return np.asarray(scipy.signal.fftconvolve(speech[None], responses[0], axes=-1)[:, :samples])
    corners = times_s * sample_rate
    mixed = np.zeros((responses.shape[1], samples), dtype=np.float32)
    for p, response in enumerate(responses):
        start = 0 if p == 0 else max(0, math.ceil(corners[p - 1]))
        stop = samples if p == len(responses) - 1 else min(samples, math.ceil(corners[p + 1]))
        weight = np.interp(np.arange(start, stop), corners, np.arange(len(responses)) == p)
        piece = scipy.signal.fftconvolve((speech[start:stop] * weight).astype(np.float32)[None], response, axes=-1)
        end = min(samples, start + piece.shape[-1])
        mixed[:, start:end] += piece[:, : end - start]
    return mixed


def mix(
    talkers: Sequence[SourceImage],
    levels_db: Array,
    noises: Sequence[tuple[Array, float]],
    reference_microphone: int,
    sample_rate: int,
) -> Mixture:
    """Set the levels of talkers and noises, none of them silent, and sum.

    Levels ``(talker,)`` are of each image at the reference microphone while it talks; noises are signals
    ``(mic, time)`` at any scale, and all images against each in dB there.
    """
    images, references = np.stack([t.image for t in talkers]), np.stack([t.reference for t in talkers])
    energy = np.sum(images[:, reference_microphone] ** 2, axis=-1, dtype=np.float64)
    rms = np.sqrt(energy / (np.array([t.duration_s for t in talkers]) * sample_rate))
    if not (rms > MIN_RMS).all():
        raise MsdetError(f"talker {int(np.argmin(rms)) + 1} is silent")
    gains = (10 ** (levels_db / 20) / rms).astype(np.float32)
    images *= gains[:, None, None]
    references *= gains[:, None]
    clean = images.sum(axis=0)
    clean_rms = _rms(clean[reference_microphone])
    noise = np.zeros_like(clean)
    for signal, snr_db in noises:
        signal_rms = _rms(signal[reference_microphone])
        if signal_rms == 0:
            raise MsdetError("a noise is silent")
        noise += signal * np.float32(clean_rms * 10 ** (-snr_db / 20) / signal_rms)
    mixture = clean + noise
    peak = max(float(np.abs(mixture).max()), float(np.abs(references).max()))
    scale = np.float32(min(MIXTURE_RMS / clean_rms, PEAK / peak))
    return Mixture(mixture * scale, images * scale, references * scale, noise * scale)


def reverberate_sources(
    speech: Sequence[Array],
    durations_s: Sequence[float],
    response: RoomResponse,
    paths: Sequence[tuple[Array, Array]],
    target: Target,
    reference_microphone: int,
    sample_rate: int,
    mismatch: Mismatch | None,
) -> list[SourceImage]:
    """Each talker alone, as the array receives it.

    Dry speech is ``(time,)``, already at its onset; paths are the positions that each talker takes, and the times in
    seconds at which it is there. The response is from all positions.
    """
    targets = response.target(target, reference_microphone, sample_rate)
    at_reference = slice(reference_microphone, reference_microphone + 1)
    images = []
    for dry, duration_s, (positions, times_s) in zip(speech, durations_s, paths, strict=True):
        image, reference = (
            reverberate(dry, responses, times_s, sample_rate)
            for responses in (response.rirs[positions], targets[positions, None])
        )
        if mismatch:
            own = Mismatch(*(values[at_reference] for values in dataclasses.astuple(mismatch)))
            image, reference = apply_gain_phase(image, mismatch), apply_gain_phase(reference, own)
        images.append(SourceImage(image, reference[0], duration_s))
    return images


class DryNoise(NamedTuple):
    """A noise before it reaches the array: signals ``(signal, time)``, and a point source's response ``(mic, tap)``."""

    noise: Noise
    signals: Array
    response: Array | None


@dataclass(frozen=True)
class DryScene:
    """What a scene is mixed from: dry speech ``(time,)`` at its onset, where it goes through, and noises.

    `response` is from all positions, `paths` are those that each talker takes with the times in seconds that it is
    there, one that stands being at one position.
    """

    speech: list[Array]
    response: RoomResponse
    paths: list[tuple[Array, Array]]
    noises: list[DryNoise]


def render(scene: Scene, array: MicrophoneArray, sounds: Sounds, bank: RirBank | None = None) -> tuple[Mixture, Scene]:
    """Render a scene; also returns it with the T60 measured.

    A scene that was made from an RIR bank takes its responses from it. An `MsdetError` says that speech cannot be
    read or is silent, or that the room is impossible.
    """
    dry = dry_scene(scene, array, sounds, bank)
    durations_s = [source.duration_s for source in scene.sources]
    how = (scene.target, array.reference, scene.sample_rate, scene.mismatch)
    images = reverberate_sources(dry.speech, durations_s, dry.response, dry.paths, *how)
    noises = [(_noise_at_array(scene, array, noise), noise.noise.snr_db) for noise in dry.noises]
    levels_db = np.array([s.level_db for s in scene.sources])
    mixture = mix(images, levels_db, noises, array.reference, scene.sample_rate)
    return mixture, dataclasses.replace(scene, t60_measured_s=dry.response.t60_measured_s)


def dry_scene(scene: Scene, array: MicrophoneArray, sounds: Sounds, bank: RirBank | None = None) -> DryScene:
    """Read and draw what a scene is mixed from; errors as those of `render`."""
    speech = [sounds.source(source, scene.samples) for source in scene.sources]
    response, paths, noise_positions = scene_response(scene, array, bank)
    rng = np.random.default_rng([scene.seed, 1])  # apart from the stream that sampled the scene
    responses = iter(response.rirs[noise_positions.start :])
    noises = []
    for noise in scene.noises:
        if noise.kind == "sensor":
            signals = rng.standard_normal((array.microphones, scene.samples), dtype=np.float32)
        else:
            signals = sounds.noise(noise, 1 if noise.kind == "point" else array.microphones, scene.samples, rng)
        noises.append(DryNoise(noise, signals, next(responses) if noise.kind == "point" else None))
    return DryScene(speech, response, paths, noises)


def _noise_at_array(scene: Scene, array: MicrophoneArray, dry: DryNoise) -> Array:
    """A noise ``(mic, time)`` as the array receives it, at any scale."""
    kind, signal = dry.noise.kind, dry.signals
    if kind == "sensor":
        return signal
    if kind == "point":
        signal = scipy.signal.fftconvolve(signal, dry.response, axes=-1)[:, : scene.samples]
    else:
        microphones_m = scene.microphones_m(array.positions)
        signal = diffuse(signal, microphones_m, scene.sample_rate, kind, scene.speed_of_sound)
    return apply_gain_phase(signal, scene.mismatch) if scene.mismatch else signal


def scene_response(
    scene: Scene, array: MicrophoneArray, bank: RirBank | None = None
) -> tuple[RoomResponse, list[tuple[Array, Array]], range]:
    """The room's responses from all positions, and which of these belong to which sound.

    For each talker these are the positions that it takes, with the times that it is there, then those of the point
    noises. An `MsdetError` says that the room is impossible, or that the bank of the scene is not given.
    """
    times = [_path_times(source, scene.duration_s) for source in scene.sources]
    ends = list(itertools.accumulate(map(len, times)))
    paths = [(np.arange(end - len(t), end), t) for t, end in zip(times, ends, strict=True)]
    points = [noise for noise in scene.noises if noise.kind == "point"]
    noise_positions = range(ends[-1], ends[-1] + len(points))
    if scene.rir_room is not None:
        if bank is None:
            raise MsdetError(f"scene {scene.id} takes its responses from an RIR bank, but none was given")
        chosen = [p for source in scene.sources for p in source.rir_path or (source.rir,)]
        chosen += [noise.rir for noise in points]
        return bank.room(scene.rir_room, [p for p in chosen if p is not None]), paths, noise_positions
    if scene.room_m is None or scene.t60_target_s is None:
        raise MsdetError(f"scene {scene.id} has no room_m and t60_target_s to render it with")
    positions = [
        positions_along(source.waypoints, t) if source.waypoints else np.array([source.position_m])
        for source, t in zip(scene.sources, times, strict=True)
    ]
    positions += [np.array([noise.position_m]) for noise in points]
    where = (scene.room_m, scene.t60_target_s, scene.microphones_m(array.positions), np.concatenate(positions))
    how = (scene.sample_rate, scene.speed_of_sound, scene.image_order, scene.seed)
    return room_response(*where, *how, rule=scene.t60_rule), paths, noise_positions


def _path_times(source: Source, duration_s: float) -> Array:
    """Times ``(position,)`` at which a talker's responses are made; one if it stands."""
    if source.rir_path:
        return np.linspace(0.0, duration_s, len(source.rir_path))
    if not source.waypoints:
        return np.zeros(1)
    corners = np.array([w.position_m for w in source.waypoints])
    length_m = np.linalg.norm(np.diff(corners, axis=0), axis=-1).sum()
    return np.linspace(0.0, duration_s, math.ceil(length_m / PATH_STEP_M) + 1)


def _rms(signal: Array) -> float:
    return math.sqrt(np.mean(signal**2, dtype=np.float64))
