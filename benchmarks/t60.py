"""Do rooms have the T60 asked for? Calibrated absorption beside pyroomacoustics' `inverse_sabine`."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import pyroomacoustics as pra
from _common import report, run

from msdet.commands._progress import progress_bar, usable_cores
from msdet.conventions import Array
from msdet.io.jobs import worker_pool
from msdet.scenes.rir.image_method import image_responses
from msdet.scenes.rir.reverberation import (
    absorption_for_t60,
    audible_path_m,
    highpass,
    longest_t60_s,
    measured_t60_s,
    shortest_t60_s,
)
from msdet.scenes.scene import Point

SAMPLE_RATE = 8000
ROOMS_M = np.array([[3.0, 3.0, 2.4], [10.0, 8.0, 4.0]])
T60_S = (0.15, 0.8)
MARGIN_M = 0.5
SOURCES, MICROPHONES = 2, 3


class Room(NamedTuple):
    """A room, the T60 asked of it, and where it is measured: ``(place, 3)``, sources first."""

    size_m: Point
    t60_s: float
    places_m: Array


def t60(quick: bool = False, rooms: int = 200, seed: int = 0) -> None:
    """Measure T60 against the T60 asked for, in random rooms between random places.

    Args:
        quick: 12 rooms.
        rooms: number of rooms.
        seed: of the rooms.
    """
    rng = np.random.default_rng(seed)
    drawn = [draw_room(rng) for _ in range(12 if quick else rooms)]
    with worker_pool(usable_cores()) as pool, progress_bar("t60") as progress:
        ratios = []
        for both in pool.map(measure, drawn):
            ratios.append(both)
            progress(len(ratios), len(drawn))
    ratio = {"calibrated": np.array([r[0] for r in ratios]), "inverse_sabine": np.array([r[1] for r in ratios])}
    rows = [
        {
            "absorption": name,
            "rooms": len(drawn),
            "median_ratio": float(np.median(r)),
            "lowest": float(r.min()),
            "highest": float(r.max()),
            "median_error": float(np.median(np.abs(r - 1))),
            "p95_error": float(np.quantile(np.abs(r - 1), 0.95)),
        }
        for name, r in ratio.items()
    ]
    figures = {
        f"{figure}{suffix}": row[figure]
        for row, suffix in zip(rows, ("", "_inverse_sabine"), strict=True)
        for figure in ("median_error", "p95_error")
    }
    report(rows, **figures)


def draw_room(rng: np.random.Generator) -> Room:
    """A room and a T60 that it can have, also by Sabine's formula."""
    while True:
        x, y, z = rng.uniform(*ROOMS_M)
        t60_s = float(rng.uniform(*T60_S))
        size = (float(x), float(y), float(z))
        places = rng.uniform(MARGIN_M, np.array(size) - MARGIN_M, size=(SOURCES + MICROPHONES, 3))
        try:
            pra.inverse_sabine(t60_s, size)
        except ValueError:
            continue
        if shortest_t60_s(size) <= t60_s <= longest_t60_s(size):
            return Room(size, t60_s, places)


def measure(room: Room) -> tuple[float, float]:
    """Measured T60 (T30, mean over all pairs) over the T60 asked for: calibrated, and Sabine's."""
    absorptions = (absorption_for_t60(room.size_m, room.t60_s), float(pra.inverse_sabine(room.t60_s, room.size_m)[0]))
    calibrated, sabine = (_ratio(room, absorption) for absorption in absorptions)
    return calibrated, sabine


def _ratio(room: Room, absorption: float) -> float:
    longest_m = audible_path_m(room.size_m, absorption)
    sources, microphones = np.split(room.places_m, [SOURCES])
    responses = image_responses(room.size_m, absorption, longest_m, microphones, sources, SAMPLE_RATE)
    pairs = highpass(responses, SAMPLE_RATE).reshape(SOURCES * MICROPHONES, -1)
    return float(np.mean([measured_t60_s(h[None], SAMPLE_RATE) for h in pairs])) / room.t60_s


if __name__ == "__main__":
    sys.exit(run(t60))
