"""Draw arrays of every kind: circles with and without a center, lines, pairs, frames, tablets, scattered, spheres."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.cli import run_command
from msdet.conventions import Array, rotation_matrix
from msdet.io.files import atomic_path

MIN_DISTANCE_M = 0.012
"""Between two microphones."""

Draw = Callable[[int, np.random.Generator], Array]
"""From a number of microphones to positions ``(mic, 3)`` in meters."""


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def circle(microphones: int, rng: np.random.Generator) -> Array:
    """Evenly on a circle."""
    angle_rad = 2 * np.pi * np.arange(microphones) / microphones
    radius_m = log_uniform(rng, 0.025, 0.12)
    return radius_m * np.stack([np.cos(angle_rad), np.sin(angle_rad), np.zeros(microphones)], axis=1)


def centered(microphones: int, rng: np.random.Generator) -> Array:
    """A circle, and one in its center."""
    return np.concatenate([np.zeros((1, 3)), circle(microphones - 1, rng)])


def line(microphones: int, rng: np.random.Generator) -> Array:
    """On a line, evenly or not; two to as many as asked for."""
    count = int(rng.integers(2, microphones + 1))
    inner = np.arange(1, count - 1) / (count - 1) if rng.random() < 0.7 else rng.uniform(0.05, 0.95, max(count - 2, 0))
    places = np.sort(np.concatenate([[0.0, 1.0], inner]))[:count]
    return log_uniform(rng, 0.08, 0.5) * places[:, None] * np.array([1.0, 0.0, 0.0])


def pair(microphones: int, rng: np.random.Generator) -> Array:
    """Two."""
    return np.array([[0.0, 0.0, 0.0], [log_uniform(rng, 0.06, 0.25), 0.0, 0.0]])


def frame(microphones: int, rng: np.random.Generator) -> Array:
    """At the corners of a rectangle and the middles of two sides, as around a tablet; four to six."""
    width_m, height_m = rng.uniform(0.06, 0.3), rng.uniform(0.05, 0.22)
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0, 0], [0.5, 1, 0]])
    return corners[: min(microphones, 6)] * np.array([width_m, height_m, 0.0])


def tablet(microphones: int, rng: np.random.Generator) -> Array:
    """Around a tablet that stands upright, one or two on its back: the only ones to tell front from back."""
    width_m, height_m, depth_m = rng.uniform(0.15, 0.3), rng.uniform(0.1, 0.22), rng.uniform(0.005, 0.03)
    places = np.array([[0, 0, 1], [0.5, 0, 1], [1, 0, 1], [0, 0, 0], [0.5, 0, 0], [1, 0, 0]])
    positions = places[: min(microphones, 6)] * np.array([width_m, 0.0, height_m])
    positions[rng.permutation(len(positions))[: int(rng.integers(1, 3))], 1] = depth_m
    return positions


def scattered(microphones: int, rng: np.random.Generator) -> Array:
    """Anywhere on a table."""
    reach_m = log_uniform(rng, 0.05, 0.25)
    return rng.uniform(-reach_m, reach_m, (microphones, 3)) * np.array([1.0, 1.0, 0.0])


def sphere(microphones: int, rng: np.random.Generator) -> Array:
    """On a sphere."""
    towards = rng.standard_normal((microphones, 3))
    return log_uniform(rng, 0.03, 0.1) * towards / np.linalg.norm(towards, axis=1, keepdims=True)


def anywhere(microphones: int, rng: np.random.Generator) -> Array:
    """In space, flatter than wide."""
    reach_m = rng.uniform(0.1, 0.3)
    return rng.uniform(-reach_m, reach_m, (microphones, 3)) * np.array([1.0, 1.0, rng.uniform(0.2, 1.0)])


KINDS: dict[Draw, float] = {
    circle: 0.22, centered: 0.1, line: 0.13, pair: 0.08, frame: 0.09, tablet: 0.14, scattered: 0.08, sphere: 0.1,
    anywhere: 0.06,
}  # fmt: skip
"""How often each is drawn."""


def draw_array(name: str, most: int, rng: np.random.Generator) -> MicrophoneArray:
    """Draw an array of four to `most` microphones (lines and pairs may have fewer), turned by any angle."""
    while True:
        kind = list(KINDS)[int(rng.choice(len(KINDS), p=list(KINDS.values())))]
        positions = kind(int(rng.integers(4, most + 1)), rng) @ rotation_matrix(rng.uniform(0.0, 360.0)).T
        positions = (positions - positions.mean(axis=0)).round(5)
        apart_m = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + np.eye(len(positions))
        if apart_m.min() >= MIN_DISTANCE_M:
            rows = tuple((float(x), float(y), float(z)) for x, y, z in positions + 0.0)
            return MicrophoneArray(f"{kind.__name__}_{name}", rows, int(rng.integers(len(rows))), "drawn at random")


def draw_arrays(out: Path, count: int, most: int = 8, seed: int = 0) -> None:
    """Draw arrays, each into a TOML file.

    Args:
        out: folder of the files.
        count: number of arrays.
        most: microphones of an array at most.
        seed: of everything.
    """
    out.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        array = draw_array(f"{n:04d}", most, np.random.default_rng([seed, n]))
        rows = ",\n".join(f"    {list(row)}" for row in array.positions_m)
        text = f'name = "{array.name}"\nsource = "{array.source}"\nreference = {array.reference}\n'
        text += f"positions_m = [\n{rows},\n]\n"
        with atomic_path(out / f"{n:04d}.toml") as path:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_command(draw_arrays, None, "draw_arrays.py"))
