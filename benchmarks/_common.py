"""What the benchmarks share: options like those of `msdet`, made-up speech, a table, a last line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import iirpeak, lfilter

from msdet.cli import run_command
from msdet.conventions import Array
from msdet.io import audio

K = TypeVar("K")


def run(benchmark: Callable[..., None]) -> int:
    """Run a benchmark with the options of the command line, where ``--quick`` needs no value."""
    argv = ["--quick=true" if argument == "--quick" else argument for argument in sys.argv[1:]]
    return run_command(benchmark, argv, Path(sys.argv[0]).name)


def report(rows: Sequence[Mapping[str, object]], **figures: object) -> None:
    """Print rows of the same columns as a table, then the figures and the rows as one line of JSON."""
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    print(json.dumps({**figures, "rows": rows}))


def speech_like(samples: int, sample_rate: int, rng: np.random.Generator) -> Array:
    """Dry sound ``(samples,)`` of a made-up talker: pulses of a wandering pitch and hiss, in syllables."""

    def wander(seconds: float) -> Array:
        slow: Array = uniform_filter1d(rng.standard_normal(samples), round(seconds * sample_rate))
        return np.asarray(slow / slow.std())

    pitch_hz = rng.uniform(90, 240) * 2 ** (0.2 * wander(0.3))
    pulses = np.diff(np.floor(np.cumsum(pitch_hz) / sample_rate), prepend=0.0)
    voice = pulses + 0.05 * rng.standard_normal(samples)
    formants_hz = rng.uniform((300, 900, 2200), (800, 1900, 3200))
    spoken = sum(lfilter(*iirpeak(f, 5.0, sample_rate), voice) for f in formants_hz)
    return np.asarray(spoken * np.maximum(wander(0.15), 0.02), dtype=np.float32)


def write_corpus(root: Path, speakers: int, utterances: int, seconds: float, sample_rate: int) -> None:
    """Write a corpus of made-up talkers, ``speaker/utterance.wav``, for the kind `folder`."""
    for speaker in range(speakers):
        for number in range(utterances):
            speech = speech_like(round(seconds * sample_rate), sample_rate, np.random.default_rng([speaker, number]))
            audio.write(root / f"s{speaker:03d}" / f"{number}.wav", 0.5 * speech / np.abs(speech).max(), sample_rate)


def take_turns(ways: Mapping[K, Callable[[], object]], rounds: int) -> dict[K, list[float]]:
    """Seconds of each way's turns, the ways taking turns; the first turn does not count."""
    times: dict[K, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
