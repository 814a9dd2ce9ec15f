"""Make meetings to test with: people who sit around an array take turns for minutes, each with an RTTM file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from msdet.arrays import load_array
from msdet.cli import run_command
from msdet.conventions import Array
from msdet.corpora import Utterance, load_corpus
from msdet.errors import MsdetError
from msdet.inference.results import segments
from msdet.io import audio
from msdet.io.files import atomic_path
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rendering import MIXTURE_RMS, PEAK
from msdet.scenes.rir.room_response import RoomResponse, room_response
from msdet.scenes.room_geometry import sample_geometry

FRAME_S, QUIET_DB = 0.02, -35.0
"""Frames of speech are louder than this, against the loudest."""

LEVEL_DB, SNR_DB = 2.5, 30.0
"""How much talkers are louder or quieter than others at most, and all than sensor noise."""


@dataclass(frozen=True)
class Turn:
    """Who says what, from when on."""

    talker: int
    utterance: Utterance
    start_s: float


def take_turns(
    people: list[list[Utterance]], duration_s: float, overlap: float, rng: np.random.Generator
) -> list[Turn]:
    """One utterance after another, nobody twice in a row, each so early that a part of the speech overlaps."""
    turns: list[Turn] = []
    last, now_s = -1, 0.0
    said_s = [0.0] * len(people)  # when each ended
    decks: list[list[Utterance]] = [[] for _ in people]
    while True:
        last = int(rng.choice([k for k in range(len(people)) if k != last or len(people) == 1]))
        if not decks[last]:  # from the start again
            decks[last] = [people[last][k] for k in rng.permutation(len(people[last]))]
        utterance = decks[last].pop()
        now_s = max(now_s, said_s[last])
        if now_s + utterance.seconds > duration_s:
            return turns
        turns.append(Turn(last, utterance, now_s))
        said_s[last] = now_s + utterance.seconds
        now_s += utterance.seconds * (1.0 - rng.uniform(0.0, 2.0) * overlap / (1.0 + overlap))


def spoken(speech: Array, sample_rate: int) -> list[tuple[float, float]]:
    """Onset and length in seconds of what somebody says in a signal ``(time,)``; short pauses are none."""
    frame = round(FRAME_S * sample_rate)
    power = np.square(speech[: len(speech) // frame * frame].reshape(-1, frame)).mean(axis=1)
    return segments(power > power.max() * 10 ** (QUIET_DB / 10), FRAME_S)


def mix_turns(
    turns: list[Turn], corpus: Path, response: RoomResponse, sample_rate: int, samples: int, rng: np.random.Generator
) -> tuple[Array, list[tuple[float, float, int]]]:
    """A mixture ``(mic, time)``, and who speaks: onset and length in seconds, and the talker."""
    mixture = np.zeros((response.rirs.shape[1], samples))
    levels_db = rng.uniform(-LEVEL_DB, LEVEL_DB, len(response.rirs))
    said = []
    for turn in turns:
        speech = audio.read_mono(corpus / turn.utterance.path, sample_rate)
        image = scipy.signal.fftconvolve(speech[None], response.rirs[turn.talker], axes=-1)
        gain = 10 ** (levels_db[turn.talker] / 20) / np.sqrt(np.square(image[0, : len(speech)]).mean())
        start = round(turn.start_s * sample_rate)
        end = min(samples, start + image.shape[1])
        mixture[:, start:end] += gain * image[:, : end - start]
        said += [(turn.start_s + onset, long, turn.talker) for onset, long in spoken(speech, sample_rate)]
    level = np.sqrt(np.square(mixture[0]).mean())
    mixture += level * 10 ** (-SNR_DB / 20) * rng.standard_normal(mixture.shape)
    mixture *= min(MIXTURE_RMS / level, PEAK / np.abs(mixture).max())
    return mixture.astype(np.float32), sorted(said)


def make_meetings(
    out: Path, speech: Path, corpus: str = "folder", talkers: list[int] | None = None, count: int = 2,
    minutes: float = 10.0, overlap: float = 0.25, t60_s: float = 0.4, array: str = "circular6_10cm", seed: int = 0,
) -> None:  # fmt: skip
    """Make meetings of test talkers, each a WAV and an RTTM file.

    Args:
        out: folder of the files.
        speech: folder of the corpus.
        corpus: kind of corpus, a file name in msdet/corpora.
        talkers: numbers of people, for so many kinds of meetings; 2, 3 and 4 if not given.
        count: meetings of each.
        minutes: length of each.
        overlap: share of the speech in which two talk.
        t60_s: reverberation time of the rooms.
        array: of microphones, by name or path.
        seed: of everything.
    """
    if not 0.0 <= overlap < 1.0:
        raise MsdetError(f"overlap is {overlap}, expected 0 to 1")
    microphones, utterances = load_array(array), load_corpus(corpus, speech)
    table = utterances.by_speaker("test")
    for people in talkers or [2, 3, 4]:
        for n in range(count):
            rng = np.random.default_rng([seed, people, n])
            scenes = SceneDistribution(
                16000, talkers=people, array=array, t60_s=(t60_s, t60_s), distance_m=(0.8, 1.8), minimum_gap_deg=25.0
            )
            room = sample_geometry(scenes, people, rng)
            there = (room.microphones_m(microphones.positions), np.array(room.positions_m))
            response = room_response(room.room_m, room.t60_s, *there, scenes.sample_rate)
            most = sorted(table, key=lambda who: -len(table[who]))[: 2 * people + 2]  # who have most to say
            chosen = [list(table[str(who)]) for who in rng.permutation(most)[:people]]
            turns = take_turns(chosen, 60.0 * minutes, overlap, rng)
            samples = round(60.0 * minutes * scenes.sample_rate)
            mixture, said = mix_turns(turns, utterances.root, response, scenes.sample_rate, samples, rng)
            name = f"meeting{people}_{n}"
            audio.write(out / f"{name}.wav", mixture, scenes.sample_rate)
            with atomic_path(out / f"{name}.rttm") as path:
                rows = [f"SPEAKER {name} 1 {a:.2f} {long:.2f} <NA> <NA> talker{k} <NA> <NA>" for a, long, k in said]
                path.write_text("\n".join(rows) + "\n", encoding="utf-8")
            print(f"{out / name}.wav: {people} people, {len(turns)} turns", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(make_meetings, None, "make_meetings.py"))
