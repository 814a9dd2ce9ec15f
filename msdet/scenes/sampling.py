"""Drawing scenes from a distribution: pure, seeded, microseconds each."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from msdet.conventions import angular_distance_deg, direction_vector
from msdet.corpora import Utterance
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.mismatch import draw_mismatch
from msdet.scenes.noise import NoiseExcerpt, NoiseRecording, draw_excerpts
from msdet.scenes.rir.bank import BankRoom, RirBank
from msdet.scenes.room_geometry import MAX_DRAWS, sample_geometry, sample_path, track_along
from msdet.scenes.scene import Noise, NoiseKind, Scene, Source, Waypoint, as_point, places_from_array, scene_seed

MIN_BABBLE_TALKERS = 6  # utterances that a babble is made of, if the corpus has as many; more for many microphones

Speech = Mapping[str, Sequence[Utterance]]
"""Utterances of each talker of a split."""


@dataclass(frozen=True)
class Material:
    """What scenes are made of: utterances of a split's talkers, number of microphones, noise, rooms.

    Without recordings, other talkers babble; without a bank, every scene has a new room.
    """

    speech: Speech
    microphones: int
    recordings: tuple[NoiseRecording, ...] = ()
    bank: RirBank | None = None


ORIGIN = (0.0, 0.0, 0.0)  # of an array of which it is not known where in the room it stands

Placement = tuple[dict[str, Any], list[dict[str, Any]]]
"""A room as fields of `Scene`, and the places in it as fields of `Source`: talkers first, then point noises."""


class Turn(NamedTuple):
    """What a talker says: an utterance from `offset_s` on, at `onset_s` of the scene for `duration_s`."""

    utterance: Utterance
    offset_s: float
    onset_s: float
    duration_s: float


def sample_count(distribution: SceneDistribution, rng: np.random.Generator) -> int:
    """Draw the number of talkers."""
    weights = np.array(list(distribution.weights.values()), dtype=np.float64)
    return int(rng.choice(list(distribution.weights), p=weights / weights.sum()))


def sample_turns(speech: Speech, talkers: int, distribution: SceneDistribution, rng: np.random.Generator) -> list[Turn]:
    """Draw different speakers with one utterance each; who starts first is drawn as well.

    An utterance at least as long as its turn is preferred and cut at a random offset; a shorter one starts at a random
    moment of the turn. An `MsdetError` says that there are fewer speakers than talkers.
    """
    names = sorted(speech)
    if len(names) < talkers:
        raise MsdetError(f"corpus split has {len(names)} speakers, expected at least {talkers}")
    overlap = None if distribution.overlap is None else float(rng.uniform(*distribution.overlap))
    starts, length_s = turn_taking(talkers, distribution.duration_s, overlap)
    if overlap is not None:
        starts = [float(start) for start in rng.permutation(starts)]
    turns = []
    for start_s, index in zip(starts, rng.choice(len(names), size=talkers, replace=False), strict=True):
        choices = [u for u in speech[names[index]] if u.seconds >= length_s] or speech[names[index]]
        utterance = choices[int(rng.integers(len(choices)))]
        offset_s = rng.uniform(0.0, max(utterance.seconds - length_s, 0.0))
        onset_s = start_s + rng.uniform(0.0, max(length_s - utterance.seconds, 0.0))
        turns.append(Turn(utterance, float(offset_s), float(onset_s), min(length_s, utterance.seconds)))
    return turns


def turn_taking(talkers: int, duration_s: float, overlap: float | None) -> tuple[list[float], float]:
    """Starts of turns of equal length, evenly spaced over the scene, and that length, in seconds.

    In the share `overlap` of the scene two or more have their turn; None: everybody throughout.

    >>> turn_taking(2, 8.0, 0.5)
    ([0.0, 2.0], 6.0)
    """
    if overlap is None or talkers == 1:
        return [0.0] * talkers, duration_s
    # with more overlap than this, another talks from the second turn's start to the last but one's end
    dense = (talkers - 1) / (talkers + 1)
    shift = (1 - overlap) / 2 if overlap >= dense else (1 - overlap / (talkers - 1)) / talkers
    shift_s = duration_s * shift
    return [k * shift_s for k in range(talkers)], duration_s - (talkers - 1) * shift_s


def sample_noises(
    distribution: SceneDistribution, material: Material, speakers: Sequence[str], rng: np.random.Generator
) -> tuple[Noise, ...]:
    """Draw the noises of a scene in which `speakers` talk; point sources get no position yet."""
    d = distribution
    noises = [Noise("sensor", float(rng.uniform(*d.snr_db)))]
    wanted: list[tuple[NoiseKind, int, tuple[float, float]]] = []
    if d.diffuse != "none":
        wanted.append((d.diffuse, material.microphones, d.diffuse_snr_db))
    wanted += [("point", 1, d.point_snr_db)] * d.point_noises
    if wanted and material.recordings:  # all at once, so that no two noises are the same sound
        count = sum(streams for _, streams, _ in wanted)
        drawn = iter(draw_excerpts(material.recordings, count, d.duration_s, rng))
    for kind, streams, snr_db in wanted:
        if material.recordings:
            excerpts = tuple(itertools.islice(drawn, streams))
        else:
            excerpts = _draw_babble(material.speech, speakers, streams, rng)
        sound: Literal["recordings", "babble"] = "recordings" if material.recordings else "babble"
        noises.append(Noise(kind, float(rng.uniform(*snr_db)), sound, excerpts))
    return tuple(noises)


def sample_scene(
    scene_id: str, distribution: SceneDistribution, material: Material, set_seed: int, attempt: int = 0
) -> Scene:
    """Draw one scene; the same arguments give the same scene on any machine and in any order.

    Its id, the set's seed, and how often it was drawn before and turned out silent (`attempt`) decide everything
    random about it. An `MsdetError` says that there are too few speakers, or no room for so many talkers.
    """
    seed = scene_seed(set_seed, f"{scene_id}/{attempt}" if attempt else scene_id)
    rng = np.random.default_rng(seed)
    d = distribution
    talkers = sample_count(d, rng)
    if material.bank:
        room, places = _places_in_bank(d, material.bank, talkers, rng)
    else:
        room, places = _places_in_new_room(d, talkers, rng, scene_id)
    turns = sample_turns(material.speech, talkers, d, rng)
    sources = tuple(
        Source(
            u.speaker, u.path, offset_s, onset_s, duration_s, float(rng.uniform(*d.level_db)), gender=u.gender, **place
        )
        for place, (u, offset_s, onset_s, duration_s) in zip(places[:talkers], turns, strict=True)
    )
    noises = list(sample_noises(d, material, [s.speaker for s in sources], rng))
    points = [k for k, noise in enumerate(noises) if noise.kind == "point"]
    for k, place in zip(points, places[talkers:], strict=True):
        noises[k] = dataclasses.replace(noises[k], position_m=place["position_m"], rir=place.get("rir"))
    misplaced_m = 0.0 if material.bank else d.position_error_m  # by a bank, once for each of its rooms
    errors = (d.gain_error_db, d.phase_error_deg, misplaced_m)
    return Scene(
        id=scene_id,
        seed=seed,
        sample_rate=d.sample_rate,
        duration_s=d.duration_s,
        **room,
        array=d.array,
        sources=sources,
        noises=tuple(noises),
        target=d.target,
        mismatch=draw_mismatch(material.microphones, *errors, rng) if any(errors) else None,
        image_order=d.image_order,
    )


def _places_in_new_room(d: SceneDistribution, talkers: int, rng: np.random.Generator, name: str) -> Placement:
    for _ in range(MAX_DRAWS):
        geometry = sample_geometry(d, talkers, rng, name)
        pose = (geometry.center_m, geometry.rotation_deg)
        places = places_from_array(np.array(geometry.positions_m), *pose)
        for talker in np.flatnonzero(rng.random(talkers) < d.moving):
            waypoints = sample_path(d, geometry.positions_m[talker], geometry, rng)
            places[talker] |= {"waypoints": waypoints, "track": track_along(waypoints, d.duration_s, *pose)}
        if _keep_gap(places[:talkers], d.minimum_gap_deg):
            room = {"room_m": geometry.room_m, "t60_target_s": geometry.t60_s, "t60_rule": d.t60_rule}
            return room | {"array_center_m": pose[0], "array_rotation_deg": pose[1]}, places
    raise MsdetError(f"no paths with minimum_gap_deg {d.minimum_gap_deg} found in {MAX_DRAWS} draws")


def _keep_gap(places: Sequence[dict[str, Any]], minimum_gap_deg: float) -> bool:
    """Whether all pairs keep the gap at every label; those who stand keep it already."""
    tracks = [[t.azimuth_deg for t in place.get("track", ())] for place in places]
    frames = max(map(len, tracks))
    if not minimum_gap_deg or not frames:
        return True
    azimuths = np.array([track or [p["azimuth_deg"]] * frames for track, p in zip(tracks, places, strict=True)])
    gaps = angular_distance_deg(azimuths[:, None], azimuths[None])
    return bool((gaps[np.triu_indices(len(places), 1)] >= minimum_gap_deg).all())


def _places_in_bank(d: SceneDistribution, bank: RirBank, talkers: int, rng: np.random.Generator) -> Placement:
    """Positions of one room of a bank, in the array's frame."""
    for _ in range(MAX_DRAWS):
        number, positions = bank.draw_positions(d, talkers, rng)
        places = [_place_in_bank(bank.table[number], p) for p in positions]
        if bank.places > 1:
            for talker in np.flatnonzero(rng.random(talkers) < d.moving):
                start = positions[talker] // bank.places * bank.places
                path = range(start, start + bank.places)
                places[talker] = _path_in_bank(bank.table[number], path[:: int(rng.choice([1, -1]))], d.duration_s)
        if _keep_gap(places[:talkers], d.minimum_gap_deg):
            break
    else:
        raise MsdetError(f"{bank.root}: no paths of minimum_gap_deg {d.minimum_gap_deg}")
    rule = bank.settings.get("t60_rule", "measured")
    room = {"room_m": None, "t60_target_s": bank.table[number].t60_target_s, "t60_rule": rule, "rir_room": number}
    return room | {"array_center_m": ORIGIN, "array_rotation_deg": ORIGIN}, places


def _place_in_bank(room: BankRoom, position: int) -> dict[str, Any]:
    azimuth, elevation, distance = (
        values[position] for values in (room.azimuths_deg, room.elevations_deg, room.distances_m)
    )
    seen = {"azimuth_deg": azimuth, "elevation_deg": elevation, "distance_m": distance}
    return {"position_m": as_point(distance * direction_vector(azimuth, elevation)), **seen, "rir": position}


def _path_in_bank(room: BankRoom, path: Sequence[int], duration_s: float) -> dict[str, Any]:
    """The positions of a path, walked over the whole scene."""
    places = [_place_in_bank(room, position) for position in path]
    times_s = np.linspace(0.0, duration_s, len(path))
    waypoints = tuple(Waypoint(float(t), place["position_m"]) for t, place in zip(times_s, places, strict=True))
    return places[0] | {"rir_path": tuple(path), "track": track_along(waypoints, duration_s, ORIGIN, ORIGIN)}


def _draw_babble(
    speech: Speech, speakers: Sequence[str], streams: int, rng: np.random.Generator
) -> tuple[NoiseExcerpt, ...]:
    """Utterances of talkers who are not `speakers`: of everybody before anybody comes twice."""
    others = sorted(set(speech) - set(speakers))
    if not others:
        remedy = "give a folder of noise recordings or fewer talkers"
        raise MsdetError(f"the corpus split has no talkers but the {len(speakers)} of a scene to babble; {remedy}")
    wanted = max(MIN_BABBLE_TALKERS, streams)
    names = [str(name) for name in rng.permutation(others)[:wanted]]
    each = math.ceil(wanted / len(names))
    spoken = [[speech[name][k] for k in rng.permutation(len(speech[name]))[:each]] for name in names]
    turns = [u for turn in itertools.zip_longest(*spoken) for u in turn if u is not None]  # of each one first
    return tuple(NoiseExcerpt(u.path, 0.0, 0.0, u.seconds) for u in turns[:wanted])
