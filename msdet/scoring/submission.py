"""A folder of estimates, as anyone may hand it in: audio, ``doa.jsonl``, and what does not fit the set.

Audio is ``<scene id>/talker1.wav``, ``talker2.wav`` and so on, or files that ``spk1.scp``, ``spk2.scp`` … list in
Kaldi's style, a line ``<scene id> <path>`` each.

A line of ``doa.jsonl`` is an object with ``id`` and ``azimuth_deg``, one azimuth a talker, in the order of the audio
files. It may also have, in the same order, ``elevation_deg``; ``confidence``, best a probability of being right;
``posterior``, of each talker (or one for all) the probabilities of directions evenly around the circle, the first at
azimuth 0; and ``track``, an object with ``time_s``, ascending, and ``azimuth_deg``, for each talker a list of as many
azimuths, null where there is none, and maybe ``elevation_deg`` likewise. Other keys are left alone.

A malformed ``azimuth_deg``, be it one number of it, leaves the scene without directions: how many talkers the
system detected is not known then. A malformed value of another key costs what needs that key.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msdet.conventions import Array
from msdet.data.formats.kaldi import read_table
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, read_jsonl, resolve_inside
from msdet.scenes.scene import Scene

DOA_FILE = "doa.jsonl"
DATA_FILE = "data.json"  # says which data set a folder of estimates was made for; without it that is not checked
_TALKER_FILE = re.compile(r"talker(\d+)")
_OTHER_SUFFIXES = (".aif", ".aiff", ".m4a", ".mp3", ".ogg", ".opus", ".sph", ".wave")
_MAX_NAMED = 3
FRAME_S = 0.064  # an estimate may be longer or shorter than its mixture by this: the end of an STFT
_FRAME_SHARE = 0.1  # but by no more than this part of it
_TRACK_KEYS = ("time_s", "azimuth_deg", "elevation_deg")
_MAX_DEG = 1e6  # a larger number is no angle
T = TypeVar("T")


@dataclass(frozen=True)
class Track:
    """Directions ``(talker, frame)`` at ascending times ``(frame,)``: NaN without an estimate, maybe no elevations."""

    time_s: Array
    azimuth_deg: Array
    elevation_deg: Array | None = None

    def at(self, time_s: Array) -> Track:
        """The nearest frame to each of other times; NaN at more than half a frame from any."""
        nearest = np.abs(self.time_s[None] - time_s[:, None]).argmin(axis=1)
        steps = (np.diff(t).max() if t.size > 1 else 0.0 for t in (self.time_s, time_s))
        near = np.abs(self.time_s[nearest] - time_s) <= 0.501 * max(*steps, 1e-6)
        azimuth, elevation = self.azimuth_deg, self.elevation_deg
        return Track(
            time_s,
            np.where(near, azimuth[:, nearest], np.nan),
            None if elevation is None else np.where(near, elevation[:, nearest], np.nan),
        )


@dataclass(frozen=True)
class DoaEstimates:
    """A system's directions of a scene: azimuths ``(talker,)``, and others that are None if not estimated.

    Elevations and confidences are ``(talker,)``; the posterior is ``(talker, class)`` or ``(1, class)`` in [0, 1],
    class k of K at ``360 k / K`` degrees; `faults` say why keys are None whose values are malformed.
    """

    azimuth_deg: Array
    elevation_deg: Array | None = None
    confidence: Array | None = None
    posterior: Array | None = None
    track: Track | None = None
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: dict[str, Any] | None) -> DoaEstimates:
        """Read a line of ``doa.jsonl``; an `MsdetError` says that it has no azimuths, or malformed ones."""
        if row is None or row.get("azimuth_deg") is None:
            raise MsdetError(f"{DOA_FILE}: has no azimuth_deg of this scene")
        azimuths = _numbers(row["azimuth_deg"], "azimuth_deg", "a list of degrees", _MAX_DEG)
        talkers, faults = len(azimuths), {}

        def read(key: str, parse: Callable[..., T], *limits: Any) -> T | None:
            try:
                return None if row.get(key) is None else parse(row[key], *limits, talkers)
            except MsdetError as error:
                faults[key] = str(error)
                return None

        return cls(
            azimuths,
            read("elevation_deg", _numbers, "elevation_deg", f"{talkers} elevations up to 90 degrees", 90.0),
            read("confidence", _numbers, "confidence", f"{talkers} numbers", _MAX_DEG),
            read("posterior", _posterior),
            read("track", _track),
            faults,
        )


def check_made_for(estimates: Path, scene_set: SceneSet) -> None:
    """Refuse, by an `MsdetError`, a folder that is missing or says it was made for another data set."""
    if not estimates.is_dir():
        hint = f"; give the folder, {estimates.parent}" if estimates.is_file() else ""
        raise MsdetError(f"{estimates}: no such folder of estimates{hint}")
    data = made_for(estimates)
    if data not in (None, scene_set.identity):
        ours = f"{scene_set.root} has {scene_set.identity}"
        raise MsdetError(f"{estimates}: was made for a data set with hash {data}, {ours}")


def made_for(folder: Path) -> str | None:
    """The hash of the data set that a folder says it was made for; None if it does not say."""
    path = folder / DATA_FILE
    if not path.is_file():
        return None
    header = read_json(path)
    if not (isinstance(header, dict) and isinstance(header.get("hash"), str)):
        raise MsdetError(f"{path}: has no 'hash', the data set's that it was made for")
    return str(header["hash"])


def talker_files(estimates: Path, scene: Scene) -> list[Path]:
    """Audio files of a scene's talkers, in their order; listed ones may not be there."""
    if tables := _lists(estimates):
        named = (Path(table[scene.id]) for table in tables if scene.id in table)
        return [beside if (beside := estimates / path).is_file() else path for path in named]
    files = _files(estimates, scene)
    return sorted((p for p in files if _talker_number(p)), key=lambda p: (_talker_number(p), p.name))


def gives_audio(scene_set: SceneSet, estimates: Path) -> bool:
    """Whether a folder holds audio of any scene, be it by other names or in another place."""
    scenes = scene_set.scenes
    return any(talker_files(estimates, scene) or _misnamed(estimates, scene) for scene in scenes) or any(
        _elsewhere(estimates, scene) for scene in scenes[:_MAX_NAMED]
    )


def read_signals(estimates: Path, scene: Scene, resample: bool = False) -> tuple[Array, list[str]]:
    """The estimates ``(talker, time)`` of a scene, float32, to score; and what was done to make them fit.

    Files that are longer or shorter than the mixture by up to `FRAME_S` are cut or padded, those of another rate
    resampled if that is asked for. A file that fits by its header but holds NaN or infinite samples is NaN throughout:
    it alone is undefined, like a silent one. Anything else that does not fit is an `MsdetError` of the scene's audio as
    a whole.
    """
    paths, talkers = talker_files(estimates, scene), len(scene.sources)
    numbers = [_talker_number(p) for p in paths] if not _lists(estimates) else list(range(1, len(paths) + 1))
    if numbers != list(range(1, talkers + 1)):
        names = (", ".join(p.name for p in paths) or "no talker files") + _hint(estimates, scene)
        raise MsdetError(f"{estimates / scene.id}: found {names}, expected one file for each of {talkers} talkers")
    read = [_read_signal(path, scene, resample) for path in paths]
    lengths = [f"{path.name} has {n - scene.samples:+d} samples" for path, (_, n) in zip(paths, read, strict=True)]
    unlike = [text for text, (_, length) in zip(lengths, read, strict=True) if length != scene.samples]
    doubt = f"estimates are longer or shorter than the mixture, and cut or padded ({', '.join(unlike)})"
    return np.stack([signal for signal, _ in read]), [doubt] * bool(unlike)


def read_estimates(estimates: Path, scene: Scene) -> Array:
    """The estimates of a scene to listen to: as `read_signals`, at the scene's rate, but silent instead of NaN."""
    return np.nan_to_num(read_signals(estimates, scene, resample=True)[0], nan=0.0)


def read_directions(estimates: Path) -> dict[str, dict[str, Any]] | None:
    """The lines of ``doa.jsonl`` by scene, otherwise unchecked; None without the file."""
    path = estimates / DOA_FILE
    if not path.is_file():
        return None
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise MsdetError(f"{path}, line {number}: expected an object with key 'id'")
        if row["id"] in rows:
            raise MsdetError(f"{path}, line {number}: scene '{row['id']}' was in an earlier line")
        rows[row["id"]] = row
    return rows


def surplus_files(estimates: Path, scene: Scene) -> list[str]:
    """Names of audio files in a scene's folder that are no talker's and were left out, sorted."""
    return [p.name for p in _files(estimates, scene) if _is_audio(p) and not _talker_number(p)]


def unknown_scenes(scene_set: SceneSet, estimates: Path) -> list[str]:
    """Names of scenes that the estimates folder has and the set has not, sorted."""
    folders = {p.name for p in estimates.iterdir() if p.is_dir() and any(map(_talker_number, p.iterdir()))}
    folders = set().union(*_lists(estimates)) or folders
    return sorted((folders | set(read_directions(estimates) or {})) - {scene.id for scene in scene_set.scenes})


def no_estimates_error(scene_set: SceneSet, estimates: Path) -> MsdetError:
    """The error for a folder that holds nothing of a set."""
    hint = next(filter(None, (_hint(estimates, scene) for scene in scene_set.scenes[:_MAX_NAMED])), "")
    return MsdetError(f"{estimates}: holds neither <scene id>/talker1.wav of any scene nor {DOA_FILE}{hint}")


def listed(names: list[str]) -> str:
    """The first few of a list of names.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")


def _files(estimates: Path, scene: Scene) -> list[Path]:
    """What a scene's folder holds, by name."""
    folder = resolve_inside(estimates, scene.id)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _talker_number(path: Path) -> int:
    """The talker, from 1, that a file name says; 0 for any other file."""
    match = _TALKER_FILE.fullmatch(path.stem) if path.suffix in audio.AUDIO_SUFFIXES else None
    return int(match[1]) if match else 0


def _lists(estimates: Path) -> list[dict[str, str]]:
    """What ``spk1.scp``, ``spk2.scp`` … of a folder list, by scene; nothing without them."""
    paths = itertools.takewhile(Path.is_file, (estimates / f"spk{n}.scp" for n in itertools.count(1)))
    return [_listed_paths(path, path.stat().st_mtime_ns) for path in paths]


@lru_cache(maxsize=16)  # each scene asks
def _listed_paths(path: Path, changed_ns: int) -> dict[str, str]:
    table = read_table(path, "estimates of a talker")
    for scene_id, name in table.items():
        if name.endswith("|") or name.startswith("|"):
            raise MsdetError(f"{path}, {scene_id}: is a command ('{name}'), expected a file; run it first")
    return table


def _read_signal(path: Path, scene: Scene, resample: bool) -> tuple[Array, int]:
    """An estimate ``(time,)`` that fits its scene, and how long it was; NaN throughout if samples cannot be used."""
    try:
        samples, rate = audio.read(path)
        usable = True
    except MsdetError:
        header = audio.info(path)  # raises where the file is no audio at all
        samples, rate, usable = np.zeros((header.channels, header.frames), np.float32), header.sample_rate, False
    channels, length = samples.shape
    remedy = "; keep one channel, for example with 'sox in.wav out.wav remix 1'" if channels != 1 else ""
    if not remedy and rate != scene.sample_rate and not resample:
        remedy = "; --resample resamples them"
    if not remedy:
        samples = audio.resample(samples, rate, scene.sample_rate)
        most = int(min(FRAME_S * scene.sample_rate, _FRAME_SHARE * scene.samples))
        if abs(samples.shape[-1] - scene.samples) > most:
            remedy = f"; up to {most} samples more or fewer are cut or padded"
    if remedy:
        expected = f"1 x {scene.samples} at {scene.sample_rate} Hz"
        raise MsdetError(f"{path}: {channels} channels x {length} samples at {rate} Hz, expected {expected}{remedy}")
    found = samples.shape[-1]
    signal = np.pad(samples[0], (0, max(0, scene.samples - found)))[: scene.samples]
    return signal if usable else np.full(scene.samples, np.nan, dtype=np.float32), found


def _misnamed(estimates: Path, scene: Scene) -> list[str]:
    """Files in a scene's folder that are probably talkers' by other names; a lone mixture is not."""
    names = surplus_files(estimates, scene)
    similar = [name for name in names if name.lower().startswith("talker")]
    is_full = len(names) >= len(scene.sources) and not talker_files(estimates, scene)
    return names if is_full else similar


def _hint(estimates: Path, scene: Scene) -> str:
    """What looks like the files of a scene by other names or in another place, as the end of a sentence."""
    files = [f"{scene.id}/{name}" for name in _misnamed(estimates, scene)]
    files += [] if talker_files(estimates, scene) else _elsewhere(estimates, scene)
    for path in map(Path, files):
        if _TALKER_FILE.fullmatch(path.stem) and path.suffix in _OTHER_SUFFIXES:
            return f" (but {path}: convert such files, for example with 'ffmpeg -i {path.name} {path.stem}.wav')"
    return f" (but {listed(files)}: names are {scene.id}/talker1.wav, ...)" if files else ""


def _elsewhere(estimates: Path, scene: Scene) -> list[str]:
    """Audio files that have a scene's name but are not in its folder."""
    pattern = re.sub(r"([*?[])", r"[\1]", scene.id)
    places = (f"*/{pattern}.*", f"{pattern}[._-]*")
    files = [path for place in places for path in sorted(estimates.glob(place)) if _is_audio(path)]
    return [str(path.relative_to(estimates)) for path in files]


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in {*audio.AUDIO_SUFFIXES, *_OTHER_SUFFIXES} and path.is_file()


def _numbers(
    value: Any, key: str, expected: str, largest: float, length: int | None = None, least: float | None = None
) -> Array:
    low = -largest if least is None else least
    fits = isinstance(value, list) and all(type(v) in (int, float) and low <= v <= largest for v in value)
    if not fits or length not in (None, len(value)):
        shown = str(value) if len(str(value)) <= 60 else f"{str(value)[:57]}..."
        raise MsdetError(f"{DOA_FILE}: {key} is {shown}, expected {expected}")
    return np.array(value, dtype=np.float64)


def _table(value: Any, key: str, expected: str, least: float, largest: float) -> Array:
    """Lists of the same length as ``(list, number)``; null becomes NaN."""
    if not isinstance(value, list) or not value or not all(isinstance(line, list) for line in value):
        raise MsdetError(f"{DOA_FILE}: {key} is no list of lists, expected {expected}")
    if len(set(map(len, value))) != 1:
        raise MsdetError(f"{DOA_FILE}: {key} has lists of different lengths, expected {expected}")
    for line in value:
        _numbers([v for v in line if v is not None], key, expected, largest, least=least)
    return np.array(value, dtype=np.float64)


def _posterior(value: Any, talkers: int) -> Array:
    posterior = _table(value, "posterior", "a list of probabilities for each talker", 0.0, 1.0)
    if len(posterior) not in (1, talkers) or posterior.shape[1] < 2 or np.isnan(posterior).any():
        found = f"posterior is {len(posterior)} x {posterior.shape[1]} numbers"
        raise MsdetError(f"{DOA_FILE}: {found}, expected 1 or {talkers} lists of a probability a direction")
    return posterior


def _track(value: Any, talkers: int) -> Track:
    if not isinstance(value, dict) or not {"time_s", "azimuth_deg"} <= value.keys() <= set(_TRACK_KEYS):
        raise MsdetError(f"{DOA_FILE}: track is not an object of {', '.join(_TRACK_KEYS)}")
    times = _numbers(value["time_s"], "track time_s", "ascending seconds", _MAX_DEG)
    if times.size == 0 or (np.diff(times) <= 0).any():
        raise MsdetError(f"{DOA_FILE}: track time_s is not ascending")

    def table(key: str, largest: float) -> Array:
        expected = f"{talkers} lists of {times.size} degrees or null"
        degrees = _table(value[key], f"track {key}", expected, -largest, largest)
        if degrees.shape != (talkers, times.size):
            shape = " x ".join(map(str, degrees.shape))
            raise MsdetError(f"{DOA_FILE}: track {key} is {shape} numbers, expected {expected}")
        return degrees

    elevation = None if value.get("elevation_deg") is None else table("elevation_deg", 90.0)
    return Track(times, table("azimuth_deg", _MAX_DEG), elevation)
