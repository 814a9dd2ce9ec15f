"""What can be wrong with one scene of a set: its labels against its geometry, its files, its sound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array, angular_distance_deg, seen_from_array
from msdet.data.arrivals import arrivals
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, resolve_inside
from msdet.scenes.room_geometry import TRACK_STEP_S, positions_along
from msdet.scenes.scene import Scene, Source, mixture_path, reference_path, size_text

ANGLE_TOLERANCE_DEG = 0.1
DISTANCE_TOLERANCE_M = 0.01
T60_TOLERANCE = 0.25  # relative deviation of a measured T60 from its target, with image sources
TRACED_T60_TOLERANCE = 0.3  # the same with ray tracing, which also scatters
CLIPPED_RUN = 3  # samples at full scale in a row that count as clipped
FULL_SCALE = 1.0 - 2.0**-15
SILENT_PEAK = 2.0**-13  # a reference that stays below this, 4 steps of 16 bits, is silent
DEAD_DB = -40.0  # a channel this much weaker than the strongest is dead
MAX_OUTSIDE = 0.01  # fraction of a reference's energy that may lie outside the time in which the talker talks
RINGS_ON_S = {"direct": 0.05, "early": 0.1, "image": 1.0}  # a reference may go on so long once its talker's sound ends

MIN_IN_TIME, MIN_IN_TIME_IF_EARLIER = 0.6, 0.95
"""Below these, a reference counts as shifted in time (`arrival.Arrival`). A reflection may be clearer than
the direct path, but nothing arrives before that."""

MIN_AT_LABEL = 0.75  # below this, a reference counts as coming from elsewhere
JUDGED_FROM_DB = -12.0  # the arrival of a talker weaker than this against all others and noise is not checked


@dataclass(frozen=True)
class Problem:
    """Something wrong with a scene; `scene` is empty for what concerns the whole set, or several scenes."""

    scene: str
    kind: str
    text: str


def check_scene(
    root: Path, scene: Scene, array: MicrophoneArray, sample_rate: int, sums: dict[str, str], quick: bool
) -> list[Problem]:
    """Everything wrong with one scene of a set; `quick` leaves out what needs the audio decoded.

    `sums` are, by path, the SHA-256 of each of the scene's files.
    """
    labels = list(_labels(scene, array, sample_rate))
    files = [("files", text) for text in _folder(root, scene)]
    sound = () if quick else _sound(root, scene, array, sample_rate, sums, well_labeled=not labels)
    return [Problem(scene.id, *problem) for problem in (*labels, *files, *sound)]


def _labels(scene: Scene, array: MicrophoneArray, sample_rate: int) -> Iterator[tuple[str, str]]:
    if scene.sample_rate != sample_rate:
        yield "format", f"sample_rate is {scene.sample_rate} in scenes.jsonl, {sample_rate} in dataset.json"
    if scene.mismatch and len(scene.mismatch.gain_db) != array.microphones:
        count = len(scene.mismatch.gain_db)
        yield "geometry", f"mismatch describes {count} microphones, the array has {array.microphones}"
    else:
        yield from (("geometry", text) for text in _inside(scene, array))
    for number, source in enumerate(scene.sources, start=1):
        for kind, text in (*_direction(scene, source), *_path(scene, source), *_times(scene, source)):
            yield kind, f"talker {number}: {text}"
    target_s, measured_s = scene.t60_target_s, scene.t60_measured_s
    tolerance = T60_TOLERANCE if scene.image_order is None else TRACED_T60_TOLERANCE
    if scene.t60_rule != "measured":
        return  # of which the target is not what is measured
    if target_s is not None and measured_s is not None and abs(measured_s - target_s) > tolerance * target_s:
        yield "T60", f"T60 measured is {measured_s:.3f} s, asked for were {target_s:.3f} s (± {tolerance:.0%})"


def _inside(scene: Scene, array: MicrophoneArray) -> Iterator[str]:
    """What is outside the room, where its size is known and where things are in it."""
    if scene.room_m is None or not scene.located:
        return
    places = [(f"microphone {channel}", at) for channel, at in enumerate(scene.microphones_m(array.positions))]
    for number, source in enumerate(scene.sources, start=1):
        places.append((f"talker {number}", np.array(source.position_m)))
        places += [(f"talker {number} on its path", np.array(w.position_m)) for w in source.waypoints]
    noises = enumerate(scene.noises, start=1)
    places += [(f"noise {n}", np.array(noise.position_m)) for n, noise in noises if noise.position_m is not None]
    for name, position in places:
        if not ((position > 0) & (position < scene.room_m)).all():
            yield f"{name} at {position.round(2).tolist()} is outside the room of {size_text(scene.room_m)}"


def _direction(scene: Scene, source: Source) -> Iterator[tuple[str, str]]:
    """A talker's direction against its position, where these are known."""
    labeled = np.array([[source.azimuth_deg, source.elevation_deg, source.distance_m]])
    if scene.located:
        for name, _, label, expected in _differences(labeled, np.array([source.position_m]), scene):
            yield "geometry", f"{name} is {label:.2f}, its position gives {expected:.2f}"


def _path(scene: Scene, source: Source) -> Iterator[tuple[str, str]]:
    """A moving talker's path and track, which belong together and cover the scene."""
    if source.waypoints:
        times = [w.time_s for w in source.waypoints]
        if (np.diff(times) <= 0).any() or times[0] != 0 or abs(times[-1] - scene.duration_s) > 1e-6:
            yield "track", f"waypoints are at {_few(times)} s, expected 0 to {scene.duration_s:g}, ascending"
            return
        if source.waypoints[0].position_m != source.position_m:
            yield "track", "its position is not the first of its waypoints"
        if not source.track:
            yield "track", "has waypoints but no track"
    if not source.track:
        return
    times = [d.time_s for d in source.track]
    steps = np.diff(times)
    late = abs(times[0]) > 1e-6 or scene.duration_s - times[-1] > max(TRACK_STEP_S, *steps, 0.0) + 1e-6
    if late or (steps <= 0).any() or times[-1] > scene.duration_s + 1e-6:
        yield "track", f"track is at {_few(times)} s, expected 0 to {scene.duration_s:g}, ascending"
        return
    labeled = np.array([[d.azimuth_deg, d.elevation_deg, d.distance_m] for d in source.track])
    if source.waypoints:
        positions = positions_along(source.waypoints, np.array(times))
        for name, frame, label, expected in _differences(labeled, positions, scene):
            when = f"{name} is {label:.2f} at {times[frame]:.2f} s"
            yield "track", f"{when}, its waypoints give {expected:.2f}"


def _differences(labeled: Array, positions: Array, scene: Scene) -> Iterator[tuple[str, int, float, float]]:
    """Where labels ``(place, 3)`` differ from positions ``(place, 3)``: name, first place, both values."""
    azimuth_deg, elevation_deg, distance_m = seen_from_array(positions, scene.array_center_m, scene.array_rotation_deg)
    turned = angular_distance_deg(labeled[:, 0], azimuth_deg) * np.cos(np.deg2rad(elevation_deg))
    turned[(labeled[:, 0] < 0) | (labeled[:, 0] >= 360)] = 360.0
    checks = (
        ("azimuth_deg", azimuth_deg, turned > ANGLE_TOLERANCE_DEG),
        ("elevation_deg", elevation_deg, np.abs(labeled[:, 1] - elevation_deg) > ANGLE_TOLERANCE_DEG),
        ("distance_m", distance_m, np.abs(labeled[:, 2] - distance_m) > DISTANCE_TOLERANCE_M),
    )
    for column, (name, expected, wrong) in enumerate(checks):
        if wrong.any():
            place = int(np.argmax(wrong))
            yield name, place, float(labeled[place, column]), float(expected[place])


def _times(scene: Scene, source: Source) -> Iterator[tuple[str, str]]:
    end_s = source.onset_s + source.duration_s
    if source.onset_s < 0 or source.duration_s <= 0 or end_s > scene.duration_s + 1 / scene.sample_rate:
        yield "timing", f"talks from {source.onset_s:.3f} to {end_s:.3f} s of a scene of {scene.duration_s:g} s"
    if source.offset_s < 0:
        yield "timing", f"offset_s is {source.offset_s:.3f}, expected 0 or more"


def _folder(root: Path, scene: Scene) -> Iterator[str]:
    """The scene's folder: its record, and nothing that does not belong there."""
    expected = {Path(p).name for p in audio_paths(scene)} | {"scene.json"}
    try:
        folder = resolve_inside(root, mixture_path(scene.id)).parent
    except MsdetError as error:
        yield str(error).removeprefix(f"{root}: ")
        return
    if not folder.is_dir():
        yield "its folder is missing"
        return
    there = {path.name for path in folder.iterdir()}
    yield from (f"{name} is missing" for name in sorted(expected - there))
    yield from (f"{name} does not belong there" for name in sorted(there - expected))
    if "scene.json" in there:
        try:
            record = read_json(folder / "scene.json")
            if Scene.from_dict(record["scene"], "scene.json").to_dict() != scene.to_dict():
                yield "scene.json and scenes.jsonl differ"
        except (MsdetError, KeyError, TypeError):
            yield "scene.json is not readable as a scene"


def audio_paths(scene: Scene) -> list[str]:
    """Audio of a scene, relative to the set: the mixture first, then the references if there are any."""
    talkers = len(scene.sources) if scene.referenced else 0
    return [mixture_path(scene.id), *(reference_path(scene.id, t) for t in range(talkers))]


def _sound(
    root: Path, scene: Scene, array: MicrophoneArray, sample_rate: int, sums: dict[str, str], well_labeled: bool
) -> Iterator[tuple[str, str]]:
    """What is wrong with the audio; of each file the first thing, which explains the others."""
    signals: list[Array] = []
    sound = True
    for number, relative in enumerate(audio_paths(scene)):
        try:
            path = resolve_inside(root, relative)
        except MsdetError:
            return  # reported with the folder
        if not path.is_file():
            continue  # likewise
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        changed = digest != sums.get(relative, digest)
        expected = audio.AudioInfo(sample_rate, 1 if number else array.microphones, scene.samples)
        problem: tuple[str, str] | None
        try:
            header = audio.info(path)
            problem = None if header == expected else ("format", f"{_words(header)}, expected {_words(expected)}")
            if not problem:
                signals.append(audio.read(path)[0])
                problem = _damage(signals[-1], sample_rate, is_mixture=number == 0)
        except MsdetError as error:
            problem = ("files", str(error).removeprefix(f"{path}: "))
        sound = sound and not problem
        if problem:
            yield problem[0], f"{path.name}: {problem[1]}{', and differs from its checksum' if changed else ''}"
        elif changed:
            yield "checksums", f"{path.name}: differs from its checksum"
    if sound and scene.referenced and well_labeled and len(signals) == 1 + len(scene.sources):
        texts = _arrivals(signals[0], np.concatenate(signals[1:]), scene, array)
        yield from (("arrival", text) for text in texts)


def _words(header: audio.AudioInfo) -> str:
    return f"{header.channels} channel(s) x {header.frames} samples at {header.sample_rate} Hz"


def _damage(samples: Array, sample_rate: int, is_mixture: bool) -> tuple[str, str] | None:
    """Clipping, silence, or a channel that is another's copy in samples ``(channel, time)``."""
    full = np.abs(samples) >= FULL_SCALE
    if full.any():
        runs = np.lib.stride_tricks.sliding_window_view(full, CLIPPED_RUN, axis=-1).all(axis=-1)
        if runs.any():
            channel, start = (int(v) for v in np.argwhere(runs)[0])
            return "clipping", f"channel {channel} is clipped at {start / sample_rate:.3f} s"
    if not is_mixture:
        peak = float(np.abs(samples).max())
        return ("silence", "is silent") if peak < SILENT_PEAK else None
    level = samples.std(axis=-1, dtype=np.float64)
    dead = np.flatnonzero(level <= level.max() * 10 ** (DEAD_DB / 20))
    if len(dead):
        return "silence", f"channel {', '.join(map(str, dead))} is dead"
    for channel, row in enumerate(samples):
        same = [c for c in range(channel) if np.array_equal(samples[c], row)]
        if same:
            return "silence", f"channel {channel} is a copy of channel {same[0]}"
    return None


def _arrivals(mixture: Array, references: Array, scene: Scene, array: MicrophoneArray) -> Iterator[str]:
    """References against the times and directions of their labels."""
    for number, (source, reference) in enumerate(zip(scene.sources, references, strict=True), start=1):
        distance_m = 0.0 if np.isnan(source.distance_m) else source.distance_m
        ends_s = source.onset_s + source.duration_s + distance_m / scene.speed_of_sound
        times_s = np.arange(reference.size) / scene.sample_rate
        outside = (times_s < source.onset_s) | (times_s > ends_s + RINGS_ON_S[scene.target])
        share = float((reference[outside] ** 2).sum() / (reference**2).sum())
        if share > MAX_OUTSIDE:
            when = f"{source.onset_s:.2f} to {ends_s:.2f} s, when it talks"
            yield f"talker {number}: {share:.0%} of its reference's energy is outside {when}"
    power = 10 ** (np.array([s.level_db for s in scene.sources]) / 10)
    noise = sum(power.sum() * 10 ** (-n.snr_db / 10) for n in scene.noises)
    prominence_db = 10 * np.log10(power / np.maximum(power.sum() - power + noise, 1e-12))
    for number, arrival in enumerate(arrivals(mixture, references, scene, array), start=1):
        if prominence_db[number - 1] < JUDGED_FROM_DB:
            continue
        if arrival.in_time < (MIN_IN_TIME_IF_EARLIER if arrival.lag_s < 0 else MIN_IN_TIME):
            yield f"talker {number}: its reference is heard {1000 * arrival.lag_s:+.1f} ms off in the mixture"
        elif scene.located and arrival.at_label < MIN_AT_LABEL:
            yield f"talker {number}: is heard {arrival.offset_deg:+.0f}° in azimuth from where its label says"


def _few(times_s: list[float]) -> str:
    return ", ".join(f"{t:g}" for t in (times_s if len(times_s) < 5 else [*times_s[:2], *times_s[-2:]]))
