"""Simulated conversations: two talkers who sit still, take turns, pause, and sometimes talk at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _common import speech_like

from msdet.arrays import load_array
from msdet.conventions import Array
from msdet.corpora import load_corpus
from msdet.io import audio
from msdet.methods.base import Separation
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rendering import mix, reverberate_sources
from msdet.scenes.rir.room_response import room_response
from msdet.scenes.room_geometry import sample_geometry

TURN_S, PAUSE_S = (2.0, 9.0), (0.3, 2.0)
"""Lengths of turns, and of pauses between them."""

OVERLAP_SHARE, OVERLAP_S = 0.35, (0.5, 3.0)
"""How often the next turn begins before the last one has ended, and by how much."""

LONG_PAUSE_SHARE, LONG_PAUSE_S = 0.15, (12.0, 25.0)
"""How many turns are long, so that the other talker is silent for whole blocks, and how long."""


@dataclass(frozen=True)
class Conversation:
    """A rendered conversation.

    Attributes:
        mixture: ``(mic, time)``.
        references: ``(talker, time)``, the direct paths at the reference microphone.
        azimuths_deg: ``(talker,)``.
        separated: what was found in blocks of the mixture, by their content.
    """

    mixture: Array
    references: Array
    azimuths_deg: Array
    separated: dict[int, Separation] = field(default_factory=dict)


def conversation(
    seed: int, seconds: float, distribution: SceneDistribution, speech: Path | None = None
) -> Conversation:
    """Render a conversation of two.

    Args:
        seed: decides everything.
        seconds: length.
        distribution: of room, positions and noise.
        speech: folder of a corpus; made-up talkers if not given.
    """
    rng = np.random.default_rng([20, seed])
    rate, array = distribution.sample_rate, load_array(distribution.array)
    geometry = sample_geometry(distribution, 2, rng)
    samples = round(seconds * rate)
    turns = _turns(seconds, rng)
    dry = np.zeros((2, samples), dtype=np.float32)
    spoken, said = _spoken(speech, samples, rate, rng), [0, 0]
    for talker, onset_s, end_s in turns:
        start, stop = round(onset_s * rate), min(round(end_s * rate), samples)
        words = (said[talker] + np.arange(stop - start)) % spoken[talker].size
        dry[talker, start:stop] = spoken[talker][words]
        said[talker] += stop - start
    response = room_response(
        geometry.room_m, geometry.t60_s, geometry.microphones_m(array.positions), np.array(geometry.positions_m), rate
    )
    talking_s = [sum(end - onset for t, onset, end in turns if t == talker) for talker in range(2)]
    paths = [(np.array([talker]), np.zeros(1)) for talker in range(2)]
    heard = reverberate_sources(list(dry), talking_s, response, paths, "direct", array.reference, rate, None)
    noise = rng.standard_normal((array.microphones, samples), dtype=np.float32)
    levels_db = rng.uniform(*distribution.level_db, size=2)
    made = mix(heard, levels_db, [(noise, rng.uniform(*distribution.snr_db))], array.reference, rate)
    return Conversation(made.mixture, made.references, geometry.from_array()[0][:2])


def _turns(seconds: float, rng: np.random.Generator) -> list[tuple[int, float, float]]:
    """Talker, onset and end in seconds of each turn."""
    turns: list[tuple[int, float, float]] = []
    talker, now = int(rng.integers(2)), float(rng.uniform(0.2, 1.0))
    while now < seconds - 1.0:
        alone = rng.random() < LONG_PAUSE_SHARE
        end = min(now + float(rng.uniform(*(LONG_PAUSE_S if alone else TURN_S))), seconds - 0.1)
        turns.append((talker, now, end))
        overlap = rng.random() < OVERLAP_SHARE
        step = -float(rng.uniform(*OVERLAP_S)) if overlap else float(rng.uniform(*PAUSE_S))
        talker, now = 1 - talker, max(end + step, now + 0.5)
    return turns


def _spoken(folder: Path | None, samples: int, rate: int, rng: np.random.Generator) -> list[Array]:
    """What each talker says, ``(time,)`` peak 1: made up, or all that a speaker of the test split says."""
    if folder is None:
        spoken = [speech_like(samples, rate, np.random.default_rng(s)) for s in rng.integers(2**31, size=2)]
    else:
        speakers = load_corpus("folder", folder).by_speaker("test")
        chosen = rng.choice(sorted(speakers), size=2, replace=False)
        spoken = [np.concatenate([audio.read_mono(folder / u.path, rate) for u in speakers[name]]) for name in chosen]
    return [own / np.abs(own).max() for own in spoken]
