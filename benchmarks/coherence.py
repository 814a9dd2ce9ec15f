"""Is the spatial coherence of diffuse noise what theory says? For white noise, babble and recordings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from _common import report, run, speech_like
from scipy.signal import csd, welch

from msdet.arrays import load_array
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.scenes.noise import (
    Field,
    babble,
    diffuse,
    draw_excerpts,
    load_excerpt,
    read_noise_folder,
    theoretical_coherence,
)

SAMPLE_RATE = 16000
MAX_HZ = 4000.0
SEGMENT = 512  # 32 ms: long against delays in an array, and thousands of segments a minute
MIN_S = 1.0
QUICK_S = 10.0


def coherence(
    quick: bool = False, noise: Path | None = None, seconds: float = 60.0, array: str = "circular6_10cm"
) -> None:
    """Measure the coherence of diffuse noise against theory, up to 4 kHz.

    Args:
        quick: 10 seconds of noise only.
        noise: folder of noise recordings to spread as well.
        seconds: length of the noise.
        array: name of a shipped array, or path of a TOML file.
    """
    if seconds < MIN_S:
        raise MsdetError(f"seconds is {seconds}, expected at least {MIN_S}")
    seconds = min(seconds, QUICK_S) if quick else seconds
    microphones_m = load_array(array).positions
    count, samples = len(microphones_m), round(seconds * SAMPLE_RATE)

    def white(rng: np.random.Generator) -> Array:
        return rng.standard_normal((count, samples), dtype=np.float32)

    def talkers(rng: np.random.Generator) -> Array:
        return babble([speech_like(samples, SAMPLE_RATE, rng) for _ in range(2 * count)], count, samples, rng)

    sources: dict[str, Callable[[np.random.Generator], Array]] = {"white": white, "babble": talkers}
    if noise is not None:
        recordings = [r for r in read_noise_folder(noise) if r.split == "train"]

        def recorded(rng: np.random.Generator) -> Array:
            excerpts = draw_excerpts(recordings, count, seconds, rng)
            return np.stack([load_excerpt(noise, e, seconds, SAMPLE_RATE) for e in excerpts])

        sources["recordings"] = recorded
    rows = []
    for name, make in sources.items():
        signals = make(np.random.default_rng(0))
        for field in get_args(Field):
            mixed = diffuse(signals, microphones_m, SAMPLE_RATE, field)
            rows.append({"field": field, "source": name, **compare(mixed, microphones_m, field)})
    worst = max(float(row["mean_error"]) for row in rows)
    report(rows, mean_error=worst, seconds=seconds, array=array)


def compare(mixed: Array, microphones_m: Array, field: Field) -> dict[str, float | str]:
    """Mean over frequency of |measured - theory|, of the mean and the worst pair; Welch's method."""
    pairs = list(zip(*np.triu_indices(len(mixed), 1), strict=True))
    frequencies_hz, power = welch(mixed, SAMPLE_RATE, nperseg=SEGMENT, detrend=False)
    heard = frequencies_hz <= MAX_HZ
    theory = theoretical_coherence(microphones_m, frequencies_hz[heard], field)
    errors = []
    for a, b in pairs:
        cross = csd(mixed[a], mixed[b], SAMPLE_RATE, nperseg=SEGMENT, detrend=False)[1]
        measured = cross / np.sqrt(power[a] * power[b])
        errors.append(float(np.abs(measured[heard].real - theory[:, a, b]).mean()))
    worst = int(np.argmax(errors))
    return {
        "mean_error": float(np.mean(errors)),
        "worst_pair": "-".join(str(m) for m in pairs[worst]),
        "worst_pair_error": errors[worst],
    }


if __name__ == "__main__":
    sys.exit(run(coherence))
