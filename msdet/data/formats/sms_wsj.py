"""``sms_wsj.json``, the manifest of SMS-WSJ, read and written.

Drude, Heitkaemper, Boeddeker and Haeb-Umbach, "SMS-WSJ: Database, performance measures, and baseline recipe
for multi-channel source separation and recognition", arXiv:1910.13934; layout after github.com/fgnt/sms_wsj:
``datasets -> name -> example id -> example``, positions as three rows of x, y and z in meters in the room.
It stores where the microphones are, not how the array is turned: that follows from a rigid fit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.corpora.reading import parse_gender
from msdet.data.formats import external
from msdet.data.formats.direct_path import DirectPath, direct_and_first_reflection_s
from msdet.data.formats.pose import Pose, fit_pose
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, check_known
from msdet.io import audio
from msdet.io.files import plain_name, read_json, relative_path, write_json
from msdet.scenes.scene import (
    MAX_COORDINATE_M,
    Noise,
    Scene,
    Source,
    Target,
    as_point,
    mixture_path,
    places_from_array,
    reference_path,
)

MANIFEST = "sms_wsj.json"

REFERENCE_KEYS: dict[Target, str] = {"direct": "speech_direct", "early": "speech_early", "image": "speech_image"}
"""Keys of ``audio_path`` for references of ours, at one microphone; SMS-WSJ has other ones, at all of them."""

EARLY_KEY = "speech_reverberation_early"
TAIL_KEY = "speech_reverberation_tail"  # the rest after the early part: together they are the image
# an example without any of these has no references; with some of them, all that are needed must be there
_SOUND_OF_TALKERS = (*REFERENCE_KEYS.values(), EARLY_KEY, TAIL_KEY, "rir", "original_source", "speech_source")
_GENDERS = {"f": "female", "m": "male"}


def read_sms_wsj(
    path: Path, array: MicrophoneArray, target: Target = "early", dataset: str = "", audio_root: str = ""
) -> external.ExternalDataset:
    """Read one data set of an ``sms_wsj.json`` whose signals were written to files.

    An example that names no audio of its talkers has no references; one without ``source_position`` is not located, and
    then needs no ``sensor_position``. The paths of utterances are their ids, the T60 is the target. SNR and levels are
    of all channels together, which differ little from those at one.

    References are ``early`` as the set has it; ``image``, early part and tail; or ``direct``, made from responses and
    dry speech (`msdet.data.formats.direct_path`). The data set, such as ``test_eval92``, may be left out if there is
    one; `audio_root` is where audio is now that was moved (`msdet.data.formats.external.AudioFinder`).
    """
    content = read_json(path)
    datasets = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(datasets, dict) or not datasets:
        raise MsdetError(f"{path}: has no key 'datasets', expected an sms_wsj.json")
    if not dataset and len(datasets) > 1:
        raise MsdetError(f"{path}: has several data sets, choose one by --dataset: {', '.join(datasets)}")
    name = dataset or next(iter(datasets))
    check_known("data set", datasets, name)
    examples = datasets[name]
    if not isinstance(examples, dict) or not examples:
        raise MsdetError(f"{path}, {name}: has no examples")
    finder = external.AudioFinder(path.parent, audio_root)
    entries = []
    for scene_id, values in examples.items():
        external.check_scene_id(scene_id, f"{path}, {name}")
        example = _Table(values, f"{path}, {name}, {scene_id}")
        entries.append(_read_example(scene_id, example, array, target, finder))
    return external.ExternalDataset(array, tuple(entries), {"format": "sms_wsj", "dataset": name, "target": target})


@dataclass(frozen=True)
class _Table:
    """An object of the file, whose values are checked when they are read; `place` names it in errors."""

    values: Any
    place: str

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise MsdetError(f"{self.place}: is {type(self.values).__name__}, expected an object")

    def table(self, key: str) -> _Table:
        """An object in this one; empty if it is missing."""
        return _Table(self.values.get(key, {}), f"{self.place}, {key}")

    def number(self, key: str) -> float | None:
        """A number, or None if it is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if not _is_number(value):
            raise MsdetError(f"{self.place}: {key} is {value!r}, expected a number")
        return float(value)

    def row(self, key: str, count: int, kind: Literal["numbers", "strings"]) -> list[Any] | None:
        """A list of so many numbers or strings, one a talker, or None if it is missing."""
        values = self.values.get(key)
        if values is None:
            return None
        if not isinstance(values, list) or len(values) != count:
            raise MsdetError(f"{self.place}: {key} is {values!r}, expected a list of {count}, one a talker")
        if not all(_is_number(value) if kind == "numbers" else isinstance(value, str) for value in values):
            raise MsdetError(f"{self.place}: {key} is {values!r}, expected {kind}")
        return values

    def points(self, key: str) -> Array:
        """Points ``(point, 3)`` in meters, which the file holds as rows of x, y and z."""
        if key not in self.values:
            raise MsdetError(f"{self.place}: key '{key}' is missing")
        try:
            rows = np.array(self.values[key], dtype=np.float64)
        except (TypeError, ValueError):
            rows = np.zeros(0)
        if rows.ndim != 2 or len(rows) != 3 or not rows.size or not np.isfinite(rows).all():
            raise MsdetError(f"{self.place}: {key} is not three rows of x, y and z in meters, equally long")
        if (farthest := float(np.abs(rows).max())) > MAX_COORDINATE_M:
            raise MsdetError(f"{self.place}: {key} has a coordinate of {farthest:g} m, expected places in a room")
        return rows.T


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read_example(
    scene_id: str, example: _Table, array: MicrophoneArray, target: Target, finder: external.AudioFinder
) -> external.ExternalScene:
    pose: Pose = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    sensors_m, sources_m = array.positions, None
    if "source_position" in example.values:
        sensors_m, sources_m = example.points("sensor_position"), example.points("source_position")
        pose = fit_pose(array, sensors_m, example.place)
    mixture = _observation(example, finder)
    header = external.check_recording(external.Sound(mixture), array)
    samples = example.table("num_samples").number("observation")
    if samples is not None and samples != header.frames:
        raise MsdetError(f"{mixture}: has {header.frames} samples, but {example.place} says {samples:.0f}")
    snr_db = example.number("snr")
    sources, timed = _sources(example, header, sources_m, pose)
    scene = Scene(
        id=scene_id,
        seed=0,
        sample_rate=header.sample_rate,
        duration_s=header.seconds,
        room_m=as_point(example.points("room_dimensions")[0]) if "room_dimensions" in example.values else None,
        t60_target_s=example.number("sound_decay_time"),
        array=array.name,
        array_center_m=pose[0],
        array_rotation_deg=pose[1],
        sources=sources,
        noises=() if snr_db is None else (Noise("sensor", snr_db),),
        target=target,
        referenced=any(key in example.table("audio_path").values for key in _SOUND_OF_TALKERS),
        located=sources_m is not None,
    )
    references = _references(example, scene, header, sensors_m[array.reference], finder)
    return external.ExternalScene(scene, external.Sound(mixture), references, timed)


def _sources(
    example: _Table, header: audio.AudioInfo, positions_m: Array | None, pose: Pose
) -> tuple[tuple[Source, ...], bool]:
    """The talkers, seen from an array at a pose, and whether it is known when and how loud they talk."""
    named, rate = example.values.get("speaker_id"), header.sample_rate
    if named is None:
        raise MsdetError(f"{example.place}: key 'speaker_id' is missing")
    talkers = len(positions_m) if positions_m is not None else len(named) if isinstance(named, list) else 1
    speakers = example.row("speaker_id", talkers, "strings") or []
    utterances, genders = (example.row(key, talkers, "strings") or [""] * talkers for key in ("source_id", "gender"))
    for speaker in filter(None, speakers):
        plain_name(speaker, "speaker_id", example.place)
    for utterance in utterances:
        relative_path(utterance, "source_id", example.place)
    offsets, levels_db = (example.row(key, talkers, "numbers") for key in ("offset", "log_weights"))
    lengths = example.table("num_samples").row(_source_key(example.table("num_samples")), talkers, "numbers")
    timed = offsets is not None and lengths is not None and levels_db is not None
    places = [{}] * talkers if positions_m is None else places_from_array(positions_m, *pose)
    sources = []
    for k in range(talkers):
        onset = offsets[k] if offsets else 0
        length = min(lengths[k] if lengths else header.frames, header.frames - onset)
        known = {"level_db": levels_db[k] if levels_db else 0.0, "gender": parse_gender(genders[k]), **places[k]}
        sources.append(Source(speakers[k], utterances[k], 0.0, onset / rate, length / rate, **known))
    return tuple(sources), timed


def _observation(example: _Table, finder: external.AudioFinder) -> Path:
    paths = example.table("audio_path")
    name = paths.values.get("observation")
    if not isinstance(name, str):
        remedy = "write the database's signals to files first (sms_wsj.database.write_files)"
        raise MsdetError(f"{paths.place}: has no path 'observation'; {remedy}")
    return finder.find(name, paths.place)


def _references(
    example: _Table, scene: Scene, header: audio.AudioInfo, microphone_m: Array, finder: external.AudioFinder
) -> tuple[external.Reference, ...]:
    """What the references of a scene are made of."""
    paths, talkers = example.table("audio_path"), len(scene.sources)
    if not scene.referenced:
        return ()

    def find(key: str) -> list[Path]:
        return [finder.find(name, f"{paths.place}, {key}") for name in paths.row(key, talkers, "strings") or ()]

    keys = [REFERENCE_KEYS[scene.target]]
    if keys[0] not in paths.values and scene.target != "direct":
        keys = [EARLY_KEY] if scene.target == "early" else [EARLY_KEY, TAIL_KEY]
    if all(key in paths.values for key in keys):
        parts = zip(*(map(external.Sound, find(key)) for key in keys), strict=True)
        return tuple(external.ReferenceFiles(sounds) for sounds in parts)
    if scene.target == "direct":
        keys = [EARLY_KEY, "rir", _source_key(paths)]
        if all(key in paths.values for key in keys):
            return _direct_paths(example, scene, header, microphone_m, [find(key) for key in keys])
    missing = next(key for key in keys if key not in paths.values)
    raise MsdetError(f"{paths.place}: has no '{missing}', from which the references of target {scene.target} are taken")


def _direct_paths(
    example: _Table, scene: Scene, header: audio.AudioInfo, microphone_m: Array, files: list[list[Path]]
) -> tuple[external.Reference, ...]:
    """Direct paths from each talker's files: early part, response and dry speech."""
    room_m, offsets = scene.room_m, example.row("offset", len(scene.sources), "numbers")

    def missing(key: str) -> MsdetError:
        return MsdetError(f"{example.place}: key '{key}' is missing, which target direct needs")

    if room_m is None or not scene.located:
        raise missing("room_dimensions" if room_m is None else "source_position")
    references = []
    for k, (source, (early, rir, speech)) in enumerate(zip(scene.sources, zip(*files, strict=True), strict=True)):
        offset = 0
        if audio.info(speech).frames != header.frames:  # else it is as long as the mixture, offset and all
            if offsets is None:
                raise missing("offset")
            offset = int(offsets[k])
        times_s = direct_and_first_reflection_s(room_m, source.position_m, microphone_m)
        references.append(DirectPath(speech, offset, rir, early, *times_s, f"{example.place}, talker {k + 1}"))
    return tuple(references)


def _source_key(table: _Table) -> str:
    """Key of the dry speech, which older files call differently."""
    return "original_source" if "original_source" in table.values else "speech_source"


def write_sms_wsj(
    scene_set: SceneSet,
    dataset: str = "",
    out: Path | None = None,
    signals: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Path:
    """Write ``sms_wsj.json`` into a set, with paths relative to it, or into a folder `out`, with absolute paths.

    SMS-WSJ's own reader takes relative paths from the working directory. The references stand under `REFERENCE_KEYS`,
    one channel each; of dry speech, early parts, noise and responses the set has no files, so that its ``AudioReader``
    reads ``keys=["observation"]`` alone unless `signals`, from `msdet.data.formats.sms_wsj_signals.write_signals`, are
    given. There are no transcripts. What is not known of a scene has no key; a talker that moves is refused. `dataset`
    names the data set in the file, the folder by default.
    """
    name = dataset or scene_set.root.resolve().name
    place = f"{scene_set.root.resolve()}/" if out else ""
    examples = {scene.id: _example(scene, scene_set.array, place) for scene in scene_set.scenes}
    for scene_id, more in signals.items():
        paths = examples[scene_id]["audio_path"] | more["audio_path"]
        examples[scene_id] |= {**more, "audio_path": paths}
    path = (out or scene_set.root) / MANIFEST
    write_json(path, {"datasets": {name: examples}})
    return path


def _example(scene: Scene, array: MicrophoneArray, place: str) -> dict[str, Any]:
    for number, source in enumerate(scene.sources, start=1):
        if source.waypoints:
            raise MsdetError(f"scene {scene.id}: talker {number} moves; sms_wsj.json has one position of each talker")
    rate, sources = scene.sample_rate, scene.sources
    example: dict[str, Any] = {"example_id": scene.id}
    if scene.located:
        microphones_m = dataclasses.replace(scene, mismatch=None).microphones_m(array.positions)
        example["source_position"] = np.array([s.position_m for s in sources]).T.tolist()
        example["sensor_position"] = microphones_m.T.tolist()
    example |= {
        "num_speakers": len(sources),
        "speaker_id": [s.speaker for s in sources],
        "source_id": [Path(s.path).stem for s in sources],
        "gender": [_GENDERS.get(s.gender, "") for s in sources],
        "log_weights": [s.level_db for s in sources],
        "num_samples": {"original_source": [round(s.duration_s * rate) for s in sources], "observation": scene.samples},
        "offset": [round(s.onset_s * rate) for s in sources],
        "audio_path": {"observation": place + mixture_path(scene.id)},
    }
    if scene.referenced:
        paths = [place + reference_path(scene.id, k) for k in range(len(sources))]
        example["audio_path"][REFERENCE_KEYS[scene.target]] = paths
    if scene.room_m is not None:
        example["room_dimensions"] = [[length] for length in scene.room_m]
    if scene.t60_s is not None:
        example["sound_decay_time"] = scene.t60_s if scene.t60_rule == "measured" else scene.t60_target_s
    if scene.noises:
        example["snr"] = scene.snr_db
    return example
