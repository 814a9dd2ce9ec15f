"""The signals of SMS-WSJ for a set of ours, rendered again: what its own reader reads, each at all microphones.

A set keeps its references at one microphone; SMS-WSJ has dry speech, early part, tail and noise, at all of them, and
the responses. Early part and tail together are a talker's image, all images and the noise the mixture.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.formats.sms_wsj import EARLY_KEY, TAIL_KEY
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.jobs import Job, Progress, Workers, run_jobs
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.rendering import render, reverberate_sources, scene_response
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.rir.room_response import RoomResponse
from msdet.scenes.scene import Scene

ROUNDING = 2 / 32768  # a set's mixture may differ from the one that is rendered again by so much
SOURCE_KEY, NOISE_KEY, RIR_KEY = "original_source", "noise_image", "rir"


@dataclass(frozen=True)
class Material:
    """What the scenes of a set were made of: folders of speech and noise, and an RIR bank."""

    speech: Path
    noise: Path | None = None
    bank: Path | None = None


def write_signals(
    scene_set: SceneSet, material: Material, out: Path, jobs: Workers, progress: Progress | None = None
) -> dict[str, dict[str, object]]:
    """Render the scenes of a set again and write their signals into `out`; by scene, what is to be said of them.

    That is ``audio_path``, and ``offset``, the sample at which a talker first arrives, where SMS-WSJ puts its dry
    speech. An `MsdetError` says that the material is not the set's.
    """
    small = dataclasses.replace(scene_set, scenes=())  # sent to the workers
    work = [Job(_write, (small, scene, material, out.resolve())) for scene in scene_set.scenes]
    found = run_jobs(work, jobs, progress)
    return {scene.id: values for scene, values in zip(scene_set.scenes, found, strict=True)}


def _write(scene_set: SceneSet, scene: Scene, material: Material, out: Path) -> dict[str, object]:
    bank = RirBank.open(material.bank) if material.bank else None
    sounds = Sounds(material.speech, scene.sample_rate, material.noise)
    signals, arrival = _signals(scene_set, scene, sounds, bank)
    paths: dict[str, str | list[str]] = {}
    for key, of_key in signals.items():
        names = [f"{key}/{scene.id}{f'_{k}' if key != NOISE_KEY else ''}.wav" for k in range(len(of_key))]
        for name, samples in zip(names, of_key, strict=True):
            audio.write(out / name, samples, scene.sample_rate, "FLOAT")
        paths[key] = str(out / names[0]) if key == NOISE_KEY else [str(out / name) for name in names]
    offsets = [round(source.onset_s * scene.sample_rate) + arrival[k] for k, source in enumerate(scene.sources)]
    return {"audio_path": paths, "offset": offsets}


def _signals(
    scene_set: SceneSet, scene: Scene, sounds: Sounds, bank: RirBank | None
) -> tuple[dict[str, list[Array]], list[int]]:
    """Signals ``(mic, time)`` by key, one a talker or one for all; and when each talker's direct path first arrives."""
    array, rate = scene_set.array, scene.sample_rate
    mixture, _ = render(scene, array, sounds, bank)
    if np.abs(mixture.mixture - scene_set.mixture(scene)).max() > ROUNDING:
        raise MsdetError(f"{scene.id}: rendered again it is another mixture; give the speech that the set was made of")
    response, places, _ = scene_response(scene, array, bank)
    speech = [sounds.source(source, scene.samples) for source in scene.sources]
    durations_s = [source.duration_s for source in scene.sources]

    def alone(responses: RoomResponse) -> list[Array]:
        how = (places, scene.target, array.reference, rate, scene.mismatch)
        return [talker.image for talker in reverberate_sources(speech, durations_s, responses, *how)]

    images, early = alone(response), alone(_early(response, array, rate))
    gains = [np.linalg.norm(image) / np.linalg.norm(raw) for image, raw in zip(mixture.images, images, strict=True)]
    early = [gain.astype(np.float32) * part for gain, part in zip(gains, early, strict=True)]
    dry = []
    for source, samples in zip(scene.sources, speech, strict=True):
        onset = round(source.onset_s * rate)
        dry.append(samples[None, onset : onset + round(source.duration_s * rate)])
    first = [int(np.abs(response.direct[positions[0]]).argmax(axis=-1).min()) for positions, _ in places]
    tails = [image - part for image, part in zip(mixture.images, early, strict=True)]
    rirs = [response.rirs[positions[0]] for positions, _ in places]
    signals = {SOURCE_KEY: dry, EARLY_KEY: early, TAIL_KEY: tails, NOISE_KEY: [mixture.noise], RIR_KEY: rirs}
    return signals, first


def _early(response: RoomResponse, array: MicrophoneArray, sample_rate: int) -> RoomResponse:
    """Responses of which all microphones have the early part alone."""
    parts = [response.target("early", microphone, sample_rate) for microphone in range(array.microphones)]
    return dataclasses.replace(response, rirs=np.stack(parts, axis=1))
