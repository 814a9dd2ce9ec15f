"""Does `msdet array check` find what is wrong with an array, and nothing where nothing is?

Each scene is half a conversation: people at four places around an array, one to three of them talking at
once, in rooms of a T60 of 0.2 to 0.8 s, with sensor noise, diffuse noise and microphones that differ from
their description in gain, phase and place. The same scene is checked as it is, and with one fault of each
kind. A fault counts as detected if it is all that is found: this kind, these channels (of a swap, or one that
sounds the same), and of a delay its size. Swaps are drawn among those that can be told at all: to swap
opposite microphones of a square, say, is to mirror it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from _common import report, run, speech_like

from msdet.arrays import MicrophoneArray, load_array
from msdet.commands._progress import progress_bar, usable_cores
from msdet.conventions import Array
from msdet.corpora import load_corpus
from msdet.diagnostics.check import ArrayReport, check_array
from msdet.inference.sources import MemorySource
from msdet.io import audio
from msdet.io.jobs import worker_pool
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.mismatch import draw_mismatch
from msdet.scenes.noise import diffuse
from msdet.scenes.rendering import mix, reverberate_sources
from msdet.scenes.rir.room_response import room_response
from msdet.scenes.room_geometry import sample_geometry

ARRAYS = (
    "circular6_10cm", "respeaker_4mic_square", "linear8_3cm", "chime_tablet", "circular8_10cm",
    "respeaker_6mic_ring", "circular4_10cm", "linear4_5cm",
)  # fmt: skip
PLACES = 4
MAX_AT_ONCE = 3
GAIN_DB, PHASE_DEG, POSITION_M = 1.0, 5.0, 0.002
"""Standard deviations of the microphones' errors."""

SENSOR_SNR_DB, DIFFUSE_SNR_DB = (15.0, 30.0), (10.0, 25.0)
DELAY_S = (8e-5, 5e-3)
"""Sizes of delays, evenly on a logarithmic scale; either sign."""

DELAY_TOLERANCE_S = 6e-5
DEAD_DB = -80.0
SAME = 0.02
"""A swap that changes no distance by more than this share of the aperture is a mirror image."""

Fault = Literal["none", "swapped", "inverted", "delayed", "dead"]
FAULTS: tuple[Fault, ...] = ("none", "swapped", "inverted", "delayed", "dead")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A scene's number, what is done to it, and how long it is."""

    number: int
    seconds: float
    sample_rate: int
    speech: Path | None


def array_check(
    quick: bool = False, scenes: int = 120, seconds: float = 12.0, sample_rate: int = 16000, speech: Path | None = None
) -> None:
    """Measure how many faults of each kind are found, and how often one is found where none is.

    Args:
        quick: 8 scenes.
        scenes: how many; each is checked without a fault and with one of each kind.
        seconds: length of each.
        sample_rate: hertz.
        speech: corpus of the kind folder, whose test split talks; made-up talkers if not given.
    """
    drawn = [Drawn(n, seconds, sample_rate, speech) for n in range(8 if quick else scenes)]
    results: list[dict[str, object]] = []
    with worker_pool(usable_cores()) as pool, progress_bar("array_check") as progress:
        for found in pool.map(check_scene, drawn):
            results.append(found)
            progress(len(results), len(drawn))
    rows = [
        _row("all", results),
        *(_row(name, [r for r in results if r["array"] == name]) for name in ARRAYS),
        *(_row(f"{k} at once", [r for r in results if r["at_once"] == k]) for k in (1, 2, 3)),
        _row("T60 < 0.5 s", [r for r in results if float(str(r["t60_s"])) < 0.5]),
        _row("T60 >= 0.5 s", [r for r in results if float(str(r["t60_s"])) >= 0.5]),
    ]
    figures = {f"detection_{fault}": rows[0][fault] for fault in FAULTS[1:]}
    report(
        [row for row in rows if row["scenes"]], **figures, false_alarms=rows[0]["false_alarms"],
        false_alarms_by_kind=_kinds(results), missed=_missed(results), scenes=len(results),
    )  # fmt: skip


def check_scene(drawn: Drawn) -> dict[str, object]:
    """For each fault, whether it is found and nothing else; and what is found where there is none."""
    rng = np.random.default_rng([31, drawn.number])
    array = load_array(ARRAYS[drawn.number % len(ARRAYS)])
    at_once = 1 + drawn.number // len(ARRAYS) % MAX_AT_ONCE
    mixture, t60_s = render(drawn, array, at_once, rng)
    row: dict[str, object] = {"scene": drawn.number, "array": array.name, "at_once": at_once, "t60_s": t60_s}
    swap = tellable_swaps(array)[int(rng.integers(len(tellable_swaps(array))))]
    channel = int(rng.integers(array.microphones))
    delay_s = math.exp(rng.uniform(*np.log(DELAY_S))) * float(rng.choice([-1, 1]))
    for fault in FAULTS:
        spoilt = mixture.copy()
        if fault == "swapped":
            spoilt[list(swap)] = spoilt[list(swap[::-1])]
        elif fault == "inverted":
            spoilt[channel] *= -1
        elif fault == "delayed":
            spoilt[channel] = delayed(spoilt[channel], delay_s * drawn.sample_rate)
        elif fault == "dead":
            spoilt[channel] *= 10 ** (DEAD_DB / 20)
        found = check_array([MemorySource(spoilt, drawn.sample_rate)], array)
        row[fault] = is_right(found, fault, swap, channel, delay_s)
        row[f"{fault}_found"] = [f"{f.kind} {','.join(map(str, f.channels))}" for f in found.findings]
    return row


def is_right(found: ArrayReport, fault: Fault, swap: tuple[int, int], channel: int, delay_s: float) -> bool:
    """Whether a fault, and nothing but that, is found."""
    if fault == "none" or len(found.findings) != 1:
        return fault == "none" and not found.findings
    (finding,) = found.findings
    if fault == "swapped":
        return finding.kind == fault and swap in (finding.channels, *finding.alternatives)
    near = fault != "delayed" or abs((finding.value or 0.0) - delay_s) < DELAY_TOLERANCE_S
    return finding.kind == fault and finding.channels == (channel,) and near


def render(drawn: Drawn, array: MicrophoneArray, at_once: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Mixture ``(mic, time)`` of people at `PLACES` places who take turns, and the room's T60."""
    rate, samples = drawn.sample_rate, round(drawn.seconds * drawn.sample_rate)
    distribution = SceneDistribution(
        sample_rate=rate, array=array.name, room_x_m=(4.0, 9.0), room_y_m=(3.5, 7.0), room_z_m=(2.4, 3.5),
        t60_s=(0.2, 0.8), distance_m=(0.7, 1.6), tilt_deg=(-5.0, 5.0), elevation_deg=(-10.0, 30.0),
    )  # fmt: skip
    geometry = sample_geometry(distribution, PLACES, rng)
    mismatch = draw_mismatch(array.microphones, GAIN_DB, PHASE_DEG, POSITION_M, rng)
    positions = array.positions + np.array(mismatch.offset_m)
    response = room_response(
        geometry.room_m, geometry.t60_s, geometry.microphones_m(positions), np.array(geometry.positions_m), rate
    )
    turn = np.arange(samples) * PLACES // samples
    dry = [
        voice * ((turn - place) % PLACES < at_once)
        for place, voice in enumerate(voices(drawn.speech, samples, rate, rng))
    ]
    talking_s = [at_once * drawn.seconds / PLACES] * PLACES
    paths = [(np.array([place]), np.zeros(1)) for place in range(PLACES)]
    heard = reverberate_sources(dry, talking_s, response, paths, "direct", array.reference, rate, mismatch)
    white = rng.standard_normal((2, array.microphones, samples), dtype=np.float32)
    noises = [
        (white[0], float(rng.uniform(*SENSOR_SNR_DB))),
        (diffuse(white[1], positions, rate, "spherical"), float(rng.uniform(*DIFFUSE_SNR_DB))),
    ]
    made = mix(heard, rng.uniform(-2.5, 2.5, PLACES), noises, array.reference, rate)
    return made.mixture, geometry.t60_s


def voices(folder: Path | None, samples: int, rate: int, rng: np.random.Generator) -> list[Array]:
    """What the people at the places say, ``(time,)`` each: made up, or utterances of different speakers."""
    if folder is None:
        return [speech_like(samples, rate, rng) for _ in range(PLACES)]
    speakers = load_corpus("folder", folder).by_speaker("test")
    found = []
    for name in rng.choice(sorted(speakers), size=PLACES, replace=len(speakers) < PLACES):
        said = np.concatenate([audio.read_mono(folder / u.path, rate) for u in speakers[name]])
        start = int(rng.integers(said.size))
        found.append(np.resize(np.roll(said, -start), samples) / np.abs(said).max())
    return found


@functools.cache
def tellable_swaps(array: MicrophoneArray) -> list[tuple[int, int]]:
    """Pairs of channels whose swap is no mirror image of the array."""
    found = []
    for first in range(array.microphones):
        for second in range(first + 1, array.microphones):
            order = np.arange(array.microphones)
            order[[first, second]] = second, first
            change_m = np.abs(array.distances_m[order][:, order] - array.distances_m)
            if change_m.max() > SAME * array.aperture_m:
                found.append((first, second))
    return found


def delayed(signal: Array, samples: float) -> Array:
    """A signal ``(time,)`` later by samples and parts of them."""
    spectrum = np.fft.rfft(signal, 2 * signal.size)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * signal.size) * samples)
    shifted: Array = np.fft.irfft(spectrum * turn)[: signal.size].astype(np.float32)
    return shifted


def _row(name: str, results: Sequence[dict[str, object]]) -> dict[str, object]:
    """Shares of scenes."""
    shares = {f: float(np.mean([bool(r[f]) for r in results])) if results else math.nan for f in FAULTS}
    found = {fault: shares[fault] for fault in FAULTS[1:]}
    return {"scenes of": name, "scenes": len(results), **found, "false_alarms": 1.0 - shares["none"]}


def _kinds(results: Sequence[dict[str, object]]) -> list[str]:
    """What is found where nothing is wrong."""
    return [f"{r['scene']}: {r['none_found']}" for r in results if r["none_found"]]


def _missed(results: Sequence[dict[str, object]]) -> list[str]:
    """What is found instead of a fault."""
    return [f"{r['scene']} {f}: {r[f'{f}_found']}" for r in results for f in FAULTS[1:] if not r[f]]


if __name__ == "__main__":
    sys.exit(run(array_check))
