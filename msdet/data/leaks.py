"""What data sets share that they must not: talkers, speech, noise, rooms, seeds, sound."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from msdet.data.scene_checks import Problem
from msdet.data.scene_set import HEADER, SceneSet
from msdet.data.validation import read_checksums
from msdet.errors import MsdetError
from msdet.io.files import read_json
from msdet.scenes.rir.bank import RirBank
from msdet.scenes.scene import Scene

DECIMALS = 6  # rooms count as the same whose sizes and arrays agree to this many decimals, in meters and degrees


class _Use(NamedTuple):
    """Something that a scene uses: `kind` and `key` tell whether two scenes share it, `name` says it."""

    kind: str
    key: Hashable
    name: str


def find_leaks(sets: Sequence[SceneSet], bank: RirBank | None = None) -> list[Problem]:
    """What any two of the sets share, and the rooms that a bank shares with any; nothing if all is apart.

    What is not known cannot be found: talkers without a name, rooms of unknown size.
    """
    short = [data.root.resolve().name for data in sets]
    names = short if len(set(short)) == len(short) else [str(data.root) for data in sets]
    settings = [_settings(data) for data in sets]
    banks = [str(made.get("bank", "")) for made in settings]
    used = [_used(data, bank_of_set) for data, bank_of_set in zip(sets, banks, strict=True)]
    problems = []
    for a, b in itertools.combinations(range(len(sets)), 2):
        other_corpus = settings[a].get("speech") != settings[b].get("speech")
        for use, scene_id in used[a].items():
            if use in used[b]:
                text = f"{use.name} is in {names[a]} ({scene_id}) and in {names[b]} ({used[b][use]})"
                if other_corpus and use.kind in ("talkers", "speech"):
                    text += "; their corpora differ, so it may be another of the same name"
                problems.append(Problem("", f"shared {use.kind}", text))
        for kind, shared in (("shared noise", _shared_noise), ("shared sound", _shared_sound)):
            texts = shared(sets[a], sets[b])
            problems += [Problem("", kind, f"{text} in {names[a]} and in {names[b]}") for text in texts]
    if bank is not None:
        for data, made_from, name in zip(sets, banks, names, strict=True):
            texts = _rooms_of_bank(data, made_from, bank)
            problems += [Problem("", "shared rooms", f"{text}, of {name}") for text in texts]
    return problems


def _settings(data: SceneSet) -> dict[str, Any]:
    settings = read_json(data.root / HEADER).get("settings", {})
    return settings if isinstance(settings, dict) else {}


def _used(data: SceneSet, bank: str) -> dict[_Use, str]:
    """All that a set uses, and the first scene that does; `bank` identifies where its rooms come from."""
    used: dict[_Use, str] = {}
    for scene in data.scenes:
        for use in _uses(scene, bank):
            used.setdefault(use, scene.id)
    return used


def _uses(scene: Scene, bank: str) -> Iterator[_Use]:
    yield _Use("ids", scene.id, f"scene id '{scene.id}'")
    if scene.seed:  # recordings have none
        yield _Use("seeds", scene.seed, f"seed {scene.seed}")
    spoken = [source.path for source in scene.sources]
    spoken += [e.path for noise in scene.noises if noise.material == "babble" for e in noise.excerpts]
    yield from (_Use("speech", path, f"speech file '{path}'") for path in spoken if path)
    yield from (_Use("talkers", s.speaker, f"talker '{s.speaker}'") for s in scene.sources if s.speaker)
    if scene.rir_room is not None:
        yield _Use("rooms", (bank, scene.rir_room), f"room {scene.rir_room} of one RIR bank")
    elif scene.room_m is not None:
        placed = _rounded(*scene.room_m, *scene.array_center_m, *scene.array_rotation_deg)
        size = " x ".join(f"{v:.3f}" for v in placed[:3])
        yield _Use("rooms", placed, f"a room of {size} m")


def _shared_noise(first: SceneSet, second: SceneSet) -> Iterator[str]:
    """Recordings of which parts that overlap are in both sets."""
    parts, others = _noise_parts(first), _noise_parts(second)
    for path in sorted(parts.keys() & others.keys()):
        if any(a[0] < b[1] and b[0] < a[1] for a in parts[path] for b in others[path]):
            yield f"the same part of noise '{path}' is"


def _shared_sound(first: SceneSet, second: SceneSet) -> Iterator[str]:
    """Files of the same checksum, which also tells where names do not."""
    try:
        files, others = ({digest: path for path, digest in read_checksums(data.root)} for data in (first, second))
    except MsdetError:  # reported with the set itself
        return
    for digest in sorted(files.keys() & others.keys(), key=lambda d: files[d]):
        yield f"{files[digest]} and {others[digest]} are the same,"


def _noise_parts(data: SceneSet) -> dict[str, set[tuple[float, float]]]:
    parts = defaultdict(set)
    noises = (noise for scene in data.scenes for noise in scene.noises if noise.material == "recordings")
    for excerpt in (excerpt for noise in noises for excerpt in noise.excerpts):
        parts[excerpt.path].add((excerpt.start_s, excerpt.end_s))
    return parts


def _rooms_of_bank(data: SceneSet, made_from: str, bank: RirBank) -> Iterator[str]:
    """Rooms of a bank that scenes have too: by size and T60, or by a talker's place and T60."""
    if made_from == bank.identity:
        yield f"all rooms are those of {bank.root}"
        return
    rooms: dict[tuple[float, ...], int] = {}
    for number, room in enumerate(bank.table):
        if room.room_m is not None:
            rooms[_rounded(*room.room_m, room.t60_target_s or 0.0)] = number
        for azimuth_deg, distance_m in zip(room.azimuths_deg, room.distances_m, strict=True):
            rooms[_rounded(azimuth_deg, distance_m, room.t60_measured_s)] = number
    reported: set[int] = set()
    for scene in data.scenes:
        keys = [_rounded(*scene.room_m, scene.t60_target_s or 0.0)] if scene.room_m else []
        if scene.t60_measured_s is not None:
            keys += [_rounded(s.azimuth_deg, s.distance_m, scene.t60_measured_s) for s in scene.sources]
        for shared in {rooms[key] for key in keys if key in rooms} - reported:
            reported.add(shared)
            yield f"room {shared} of {bank.root} is that of {scene.id}"


def _rounded(*values: float) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values)
