"""A folder of estimates, as anyone may hand it in: what it holds, and what of it does not fit the set."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_json, resolve_inside
from msdet.scenes.scene import Scene
from msdet.scoring.doa_file import DOA_FILE, read_directions

DATA_FILE = "data.json"
"""Says which data set a folder of estimates was made for; a folder without it is taken at its word."""

_TALKER_FILE = re.compile(r"talker(\d+)")

_OTHER_SUFFIXES = frozenset({".aif", ".aiff", ".m4a", ".mp3", ".ogg", ".opus", ".sph", ".wave"})

_MAX_NAMED = 3


def check_made_for(estimates: Path, scene_set: SceneSet) -> None:
    """Refuse a folder that says it was made for another data set.

    Raises:
        MsdetError: no such folder, or it was made for another set.
    """
    if not estimates.is_dir():
        raise MsdetError(f"{estimates}: no such folder of estimates")
    found = made_for(estimates)
    if found not in (None, scene_set.identity):
        raise MsdetError(
            f"{estimates}: was made for a data set with hash {found}, "
            f"{scene_set.root} has {scene_set.identity}"
        )


def made_for(folder: Path) -> str | None:
    """The hash of the data set that a folder says it was made for; None if it does not say.

    Raises:
        MsdetError: it says so in another form than it should.
    """
    path = folder / DATA_FILE
    if not path.is_file():
        return None
    header = read_json(path)
    if not (isinstance(header, dict) and isinstance(header.get("hash"), str)):
        raise MsdetError(f"{path}: has no 'hash', the data set's that it was made for")
    found: str = header["hash"]
    return found


def talker_files(estimates: Path, scene: Scene) -> list[Path]:
    """Audio files of a scene's talkers, in their order."""
    files = _files(estimates, scene)
    return sorted((p for p in files if _talker_number(p)), key=lambda p: (_talker_number(p), p.name))


def gives_audio(scene_set: SceneSet, estimates: Path) -> bool:
    """Whether a folder holds voices of any scene, be it by names that are not the right ones.

    By another name or in another place are those that `nothing_given` would name too; of files in a scene's
    folder by any name there must be one for each of its talkers, so that a lone mixture is no voice.
    """
    scenes = scene_set.scenes
    return (
        any(talker_files(estimates, scene) or _misspelt_hint(estimates, scene) for scene in scenes)
        or any(len(surplus_files(estimates, scene)) >= len(scene.sources) for scene in scenes)
        or any(_elsewhere(estimates, scene) for scene in scenes[:_MAX_NAMED])
    )


def read_voices(estimates: Path, scene: Scene) -> Array:
    """The estimates ``(talker, time)`` of a scene, float32, to score.

    A voice that fits by its header but holds NaN or infinite samples is NaN throughout: it alone is
    undefined, as one that is silent. Anything else that does not fit fails the scene's audio as a whole.

    Raises:
        MsdetError: not one file a talker, or one that is no audio or of another rate, length or layout.
    """
    paths = talker_files(estimates, scene)
    talkers = len(scene.sources)
    if [_talker_number(p) for p in paths] != list(range(1, talkers + 1)):
        hint = _misspelt_hint(estimates, scene) or ("" if paths else _hint(estimates, scene))
        nought = [p.name for p in _files(estimates, scene) if p.stem == "talker0" and _is_audio(p)]
        if nought:
            hint = f" (but {nought[0]}: files are numbered from 1)"
        found = (", ".join(p.name for p in paths) or "no talker files") + hint
        raise MsdetError(
            f"{estimates / scene.id}: found {found}, expected one file for each of {talkers} talkers"
        )
    return np.stack([_read_voice(path, scene) for path in paths])


def read_estimates(estimates: Path, scene: Scene) -> Array:
    """The estimates of a scene to listen to: as `read_voices`, but a voice that holds NaN is silent."""
    return np.nan_to_num(read_voices(estimates, scene), nan=0.0)


def surplus_files(estimates: Path, scene: Scene) -> list[str]:
    """Names of audio files in a scene's folder that are no talker's and were left out, sorted."""
    files = _files(estimates, scene)
    return [p.name for p in files if not _talker_number(p) and (_is_audio(p) or _right_name(p))]


def unknown_scenes(scene_set: SceneSet, estimates: Path) -> list[str]:
    """Names of scenes that the estimates folder has and the set has not, sorted.

    Raises:
        MsdetError: ``doa.jsonl`` is not readable.
    """
    folders = {p.name for p in estimates.iterdir() if p.is_dir() and any(map(_talker_number, p.iterdir()))}
    return sorted(
        (folders | set(read_directions(estimates) or {})) - {scene.id for scene in scene_set.scenes}
    )


def nothing_given(scene_set: SceneSet, estimates: Path) -> MsdetError:
    """The error for a folder that holds nothing of a set."""
    first = scene_set.scenes[:_MAX_NAMED]
    hints = (_misspelt_hint(estimates, scene) or _hint(estimates, scene) for scene in first)
    hint = next(filter(None, hints), "")
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


def _read_voice(path: Path, scene: Scene) -> Array:
    """A voice ``(time,)``; NaN throughout if its samples cannot be used."""
    try:
        samples, rate = audio.read(path)
        (channels, length), usable = samples.shape, True
    except MsdetError:
        header = audio.info(path)  # raises where the file is no audio at all
        rate, channels, length, usable = header.sample_rate, header.channels, header.frames, False
    if (rate, channels, length) != (scene.sample_rate, 1, scene.samples):
        raise MsdetError(
            f"{path}: {channels} channels x {length} samples at {rate} Hz, "
            f"expected 1 x {scene.samples} at {scene.sample_rate} Hz"
        )
    return samples[0] if usable else np.full(length, np.nan, dtype=np.float32)


def _right_name(path: Path) -> str | None:
    """What a file must be called that is a talker's but for upper case or its format; None for others."""
    stem, suffix = path.stem.lower(), path.suffix.lower()
    known = suffix in audio.AUDIO_SUFFIXES
    match = _TALKER_FILE.fullmatch(stem)
    if _talker_number(path) or not (match and int(match[1])) or not (known or suffix in _OTHER_SUFFIXES):
        return None
    return stem + (suffix if known else ".wav")


def _misspelt_hint(estimates: Path, scene: Scene) -> str:
    """Files of a scene that are named almost right, and the right names, as the end of a sentence."""
    names = {p.name: right for p in _files(estimates, scene) if (right := _right_name(p))}
    return f" (but {listed(list(names))}: expected {listed(list(names.values()))})" if names else ""


def _hint(estimates: Path, scene: Scene) -> str:
    """What looks like the files of a scene by other names or in another place, as the end of a sentence."""
    found = [f"{scene.id}/{name}" for name in surplus_files(estimates, scene)]
    found += _elsewhere(estimates, scene)
    return f" (but {listed(found)}: names are {scene.id}/talker1.wav, ...)" if found else ""


def _elsewhere(estimates: Path, scene: Scene) -> list[str]:
    """Audio files that have a scene's name but are not in its folder."""
    pattern = re.sub(r"([*?[])", r"[\1]", scene.id)
    places = (f"*/{pattern}.*", f"{pattern}[._-]*")
    found = [path for place in places for path in sorted(estimates.glob(place)) if _is_audio(path)]
    return [str(path.relative_to(estimates)) for path in found]


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in audio.AUDIO_SUFFIXES and path.is_file()
