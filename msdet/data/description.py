"""What a data set or an RIR bank holds, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from msdet.conventions import Array, angular_distance_deg
from msdet.data.scene_set import SceneSet
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.scene import T60_RULES, Scene, Source

GENDERS = {"f": "female", "m": "male", "": "of unknown gender"}
_FORMS = {"°": ".1f", "dB": ".1f", "m³": ".1f", "s": ".3f"}  # by unit, unless all are whole; others have two decimals


@dataclass(frozen=True)
class Quantity:
    """Something that was counted or measured many times, at least once; its name has the unit in brackets, if any.

    `of` says what the values ``(value,)`` are of, in the plural: "scenes". Edges of histogram bins are chosen by the
    values if None; what is circular goes round, like an azimuth, so that it has no median.
    """

    name: str
    of: str
    values: Array
    edges: Array | None = None
    circular: bool = False

    @property
    def constant(self) -> bool:
        """Whether all values are the same but for rounding."""
        return bool(np.ptp(self.values) < 1e-6)

    @property
    def median(self) -> float | None:
        """The value in the middle."""
        return None if self.circular else float(np.median(self.values))

    def numbers(self) -> tuple[str, str, str, str]:
        """How many values, the smallest, the median and the largest, as text.

        >>> Quantity("Distance (m)", "talkers", np.array([1.0, 1.251, 2.0])).numbers()
        ('3', '1.00', '1.25', '2.00')
        """
        unit = self.name.partition(" (")[2].rstrip(")")
        form = "g" if np.array_equal(self.values, np.rint(self.values)) else _FORMS.get(unit, ".2f")
        shown = (float(self.values.min()), self.median, float(self.values.max()))
        smallest, median, largest = ("–" if v is None else f"{v:{form}}" for v in shown)
        return str(self.values.size), smallest, median, largest


@dataclass(frozen=True)
class Description:
    """What to show of a data set or a bank: its title, facts as sentences, and numbers."""

    title: str
    facts: tuple[str, ...]
    quantities: tuple[Quantity, ...]


def describe_set(data: SceneSet) -> Description:
    """Describe a data set; of moving talkers, azimuth, elevation and distance are those at the start."""
    scenes = data.scenes
    minutes = sum(scene.duration_s for scene in scenes) / 60
    length = f"{minutes:.1f} min" if minutes < 60 else f"{minutes / 60:.1f} h"
    sources = [source for scene in scenes for source in scene.sources]
    located = [scene for scene in scenes if scene.located]
    several = [scene for scene in scenes if len(scene.sources) > 1 and scene.timed]
    timed = [source for scene in scenes if scene.timed for source in scene.sources]
    distances_m = [source.distance_m for source in sources if not math.isnan(source.distance_m)]
    t60s = [(s.t60_measured_s, s.t60_target_s) for s in scenes]
    measured = [(measured_s, target_s or 0.0) for measured_s, target_s in t60s if measured_s is not None]
    noises = [noise for scene in scenes for noise in scene.noises]
    kinds = sorted({noise.kind for noise in noises})
    snrs_db = {kind: [noise.snr_db for noise in noises if noise.kind == kind] for kind in kinds}
    gaps_deg = _array(scene.azimuth_gap_deg for scene in located if len(scene.sources) > 1)
    turns = Counter(source.speaker for source in sources if source.speaker)
    quantities = _quantities(
        Quantity("Talkers a scene", "scenes", *_whole([len(s.sources) for s in scenes])),
        _azimuths([source.azimuth_deg for scene in located for source in scene.sources]),
        Quantity("Azimuth gap, smallest (°)", "scenes", gaps_deg, np.arange(19) * 10.0),
        _varying(Quantity("Elevation (°)", "talkers", _array(s.elevation_deg for a in located for s in a.sources))),
        Quantity("Distance (m)", "talkers", _array(distances_m)),
        Quantity("T60 measured (s)", "scenes", _array(m for m, _ in measured)),
        Quantity("T60 measured / asked for", "scenes", _array(m / t for m, t in measured if t)),
        Quantity("SNR (dB)", "scenes", _array(s.snr_db for s in scenes if s.snr_db is not None)),
        *(Quantity(f"SNR of {kind} noise (dB)", "noises", _array(snrs_db[kind])) for kind in kinds if len(kinds) > 1),
        Quantity("Overlap ratio", "scenes", _array(s.overlap_ratio for s in several), np.arange(21) / 20),
        _varying(Quantity("Talking time (s)", "talkers", _array(s.duration_s for s in timed))),
        Quantity("Duration (s)", "scenes", _array(s.duration_s for s in scenes)),
        _varying(Quantity("Level (dB)", "talkers", _array(s.level_db for s in timed))),
        Quantity("Azimuth passed (°)", "moving talkers", _array(_passed_deg(s) for s in sources if s.track)),
        Quantity("Scenes a speaker", "speakers", *_whole(list(turns.values()))),
    )
    array = f"{data.array.microphones} microphones ({data.array.name})"
    known = _counted("known" if scene.located else "not known" for scene in scenes)
    directions = [f"directions: {known}"] if len(located) < len(scenes) else []
    facts = (
        f"{len(scenes)} scenes, {length} at {data.sample_rate / 1000:g} kHz, {array}",
        f"references: {_counted(scene.target if scene.referenced else 'none' for scene in scenes)}",
        *directions,
        _talkers(sources),
        f"noise: {_counted(_noise(scene) for scene in scenes)}",
        *(T60_RULES[rule] for rule in sorted({s.t60_rule for s in scenes if s.t60_target_s})),
    )
    return Description(f"data set {data.root.resolve().name}", facts, quantities)


def describe_bank(bank: RirBank) -> Description:
    """Describe an RIR bank."""
    rooms = bank.table
    ratios = _array(r.t60_measured_s / r.t60_target_s for r in rooms if r.t60_target_s)
    sizes = [r.room_m for r in rooms if r.room_m is not None]
    elevations = Quantity("Elevation (°)", "positions", _array(e for r in rooms for e in r.elevations_deg))
    quantities = _quantities(
        _azimuths([a for r in rooms for a in r.azimuths_deg], "positions"),
        _varying(elevations),
        Quantity("Distance (m)", "positions", _array(d for r in rooms for d in r.distances_m)),
        Quantity("T60 measured (s)", "rooms", _array(r.t60_measured_s for r in rooms)),
        Quantity("T60 measured / asked for", "rooms", ratios),
        Quantity("Volume (m³)", "rooms", _array(float(np.prod(size)) for size in sizes)),
    )
    array = f"{bank.array.microphones} microphones ({bank.array.name})"
    facts = [f"{bank.rooms} rooms x {bank.positions} positions at {bank.sample_rate / 1000:g} kHz, {array}"]
    facts += [T60_RULES[bank.settings["t60_rule"]]] if "t60_rule" in bank.settings else []
    return Description(f"RIR bank {bank.root.resolve().name}", tuple(facts), quantities)


def _quantities(*quantities: Quantity | None) -> tuple[Quantity, ...]:
    return tuple(q for q in quantities if q is not None and q.values.size)


def _array(values: Iterable[float]) -> Array:
    return np.array(list(values), dtype=np.float64)


def _whole(values: Sequence[int]) -> tuple[Array, Array]:
    """Whole numbers, and bins around each."""
    return _array(values), np.arange(min(values, default=0) - 0.5, max(values, default=0) + 1.0)


def _azimuths(azimuths_deg: Sequence[float], of: str = "talkers") -> Quantity:
    return Quantity("Azimuth (°)", of, _array(azimuths_deg), np.arange(37) * 10.0, circular=True)


def _varying(quantity: Quantity) -> Quantity | None:
    return None if not quantity.values.size or quantity.constant else quantity


def _passed_deg(source: Source) -> float:
    """How far a moving talker turns around the array, there and back added."""
    azimuths_deg = np.array([direction.azimuth_deg for direction in source.track])
    return float(angular_distance_deg(azimuths_deg[1:], azimuths_deg[:-1]).sum())


def _talkers(sources: Sequence[Source]) -> str:
    """How many talkers, of which genders, and how many of them move."""
    gender_of = {source.speaker: source.gender for source in sources if source.speaker}
    genders = Counter(GENDERS.get(gender, gender) for gender in gender_of.values())
    speakers = f"{len(gender_of)} speakers ({_listed(genders)})" if gender_of else "speakers unknown"
    moving = sum(bool(source.track) for source in sources)
    return f"{len(sources)} talkers, {speakers}; {moving} move"


def _noise(scene: Scene) -> str:
    """The noises of a scene in words."""
    names = Counter(f"{n.kind} ({n.material})" if n.material else n.kind for n in scene.noises)
    return " + ".join(f"{n} {name}" if n > 1 else name for name, n in sorted(names.items())) or "none"


def _counted(names: Iterable[str]) -> str:
    """What all have in common, or else how many have what."""
    counts = Counter(names)
    return next(iter(counts)) if len(counts) == 1 else _listed(counts)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
