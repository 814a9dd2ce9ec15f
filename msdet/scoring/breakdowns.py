"""Breakdowns: scenes, or talkers of scenes, in bins by a label of their rows; any two can be crossed.

`labels` gives the labels of a scene.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError, UnknownNameError
from msdet.scenes.scene import Scene


class Bin(NamedTuple):
    """Scenes whose label ``field`` is in ``[low, high)``; of a label with a value a talker, those talkers.

    `values`, instead of an interval, are the sets of talkers' labels that are in the bin.
    """

    name: str
    field: str
    low: float = -math.inf
    high: float = math.inf
    values: tuple[frozenset[str], ...] = ()

    def members(self, row: dict[str, Any]) -> Array:
        """Which talkers ``(talker,)`` of a row are in the bin; none where the label is null."""
        label, talkers = row.get(self.field), len(row["azimuth_deg"])
        if label is None:
            return np.zeros(talkers, dtype=bool)
        if self.values:
            return np.full(talkers, frozenset(label) in self.values)
        inside: Array = (self.low <= np.asarray(label, float)) & (np.asarray(label, float) < self.high)
        return np.broadcast_to(inside, talkers)


class Breakdown(NamedTuple):
    """Scenes divided by one label or two: by name of a cell, the bins that all have to hold; cells may overlap."""

    title: str
    cells: dict[str, tuple[Bin, ...]]


def members(bins: tuple[Bin, ...], row: dict[str, Any]) -> Array:
    """Which talkers ``(talker,)`` of a row are in all of the bins."""
    return np.asarray(np.all([b.members(row) for b in bins], axis=0))


def _intervals(field: str, unit: str, *edges: float, scale: float = 1.0) -> tuple[Bin, ...]:
    """Bins below, between and from the edges on.

    >>> [b.name for b in _intervals("t60_s", "s", 0.3, 0.4)]
    ['< 0.3 s', '0.3 to 0.4 s', '>= 0.4 s']
    """
    shown = [f"{edge * scale:g}" for edge in edges]
    between = zip(itertools.pairwise(shown), itertools.pairwise(edges), strict=True)
    return (
        Bin(f"< {shown[0]} {unit}", field, high=edges[0]),
        *(Bin(f"{a} to {b} {unit}", field, low, high) for (a, b), (low, high) in between),
        Bin(f">= {shown[-1]} {unit}", field, low=edges[-1]),
    )


BREAKDOWNS: dict[str, tuple[str, tuple[Bin, ...]]] = {
    "azimuth_gap": (
        "Azimuth gap",
        (*_intervals("azimuth_gap_deg", "deg", 15.0, 45.0, 90.0), Bin(">= 20 deg", "azimuth_gap_deg", 20.0)),
    ),
    "t60": ("T60", _intervals("t60_s", "s", 0.3, 0.4)),
    "straddling": ("Closest talkers straddle 0 deg", (Bin("yes", "straddles", 1.0), Bin("no", "straddles", high=1.0))),
    "sector": (
        "Talker's azimuth",
        tuple(Bin(f"{a} to {a + 45} deg", "azimuth_deg", a, a + 45.0) for a in range(0, 360, 45)),
    ),
    "distance": ("Talker's distance", _intervals("distance_m", "m", 1.0, 1.5, 2.0, 3.0)),
    "snr": ("Talkers to noise", _intervals("noise_snr_db", "dB", 0.0, 10.0, 20.0)),
    "talkers": ("Talkers", (*(Bin(str(n), "talkers", n, n + 1.0) for n in range(1, 5)), Bin(">= 5", "talkers", 5.0))),
    "overlap": ("Overlap", _intervals("overlap_ratio", "%", 0.25, 0.5, 0.75, scale=100.0)),
    "gender": (
        "Talkers' genders",
        tuple(
            Bin(name, "gender", values=(frozenset(genders),))
            for name, genders in (("all female", "f"), ("all male", "m"), ("both", "fm"))
        ),
    ),
}
"""Breakdowns by the name that options use. The last bin of the gap overlaps the others; in the bins of a
talker's azimuth or distance a scene counts with those of its talkers that are in them."""

DEFAULT_BREAKDOWNS = ("azimuth_gap", "t60", "straddling")  # those that a summary has unless others are named


def find_breakdowns(names: Iterable[str]) -> tuple[Breakdown, ...]:
    """Breakdowns by name in `BREAKDOWNS`; ``a*b`` crosses two, ``all`` are all single ones.

    >>> [b.title for b in find_breakdowns(["t60", "talkers*gender"])]
    ['T60', "Talkers by Talkers' genders"]
    """
    chosen: dict[str, Breakdown] = {}
    for name in itertools.chain.from_iterable(BREAKDOWNS if name == "all" else (name,) for name in names):
        parts = name.split("*")
        if len(parts) > 2:
            raise MsdetError(f"breakdown '{name}' crosses {len(parts)}, expected at most two")
        for part in parts:
            if part not in BREAKDOWNS:
                raise UnknownNameError("breakdown", part, [*BREAKDOWNS, "all"])
        titles, bins = zip(*(BREAKDOWNS[part] for part in parts), strict=True)
        cells = {", ".join(b.name for b in crossed): crossed for crossed in itertools.product(*bins)}
        chosen[name] = Breakdown(" by ".join(titles), cells)
    return tuple(chosen.values())


def labels(scene: Scene) -> dict[str, Any]:
    """Labels of a scene for its row; null where not known or not defined (the gap of a single talker).

    ``azimuth_deg``, ``distance_m`` and ``gender`` are lists over talkers, azimuths of moving talkers at the
    start of the scene.
    """
    genders = [source.gender for source in scene.sources]
    several = len(scene.sources) > 1
    return {
        "azimuth_deg": scene.azimuths_deg.tolist() if scene.located else [None] * len(scene.sources),
        "azimuth_gap_deg": scene.azimuth_gap_deg if several and scene.located else None,
        "t60_s": scene.t60_s,
        "straddles": straddles_zero(scene.azimuths_deg) if scene.located else None,
        "talkers": len(scene.sources),
        "distance_m": [None if math.isnan(s.distance_m) else s.distance_m for s in scene.sources],
        "noise_snr_db": scene.snr_db if scene.noises else None,
        "overlap_ratio": scene.overlap_ratio if several and scene.timed else None,
        "gender": genders if all(genders) else None,
    }


def straddles_zero(azimuths_deg: Array) -> bool:
    """Whether the shorter arc between the two closest talkers has azimuth 0 strictly inside.

    False for fewer than two talkers, when one of the two is at 0 exactly, and when they are opposite (no arc
    is the shorter one). Of several closest pairs the first in talker order decides.
    """
    first, second = np.triu_indices(len(azimuths_deg), 1)
    if first.size == 0:
        return False
    difference = np.abs(azimuths_deg[first] - azimuths_deg[second])
    closest = int(np.argmin(np.minimum(difference, 360.0 - difference)))
    at_zero = min(azimuths_deg[first[closest]], azimuths_deg[second[closest]]) == 0.0
    return bool(difference[closest] > 180.0 and not at_zero)
