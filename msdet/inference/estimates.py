"""Running a separator over a data set, into a folder of estimates that anyone could have made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError, WriteError
from msdet.inference.results import number_rows
from msdet.io import audio
from msdet.io.files import FolderKind, remove_folder, write_json, write_jsonl
from msdet.io.jobs import Progress
from msdet.methods.base import Oracle, OracleInput, Separation, Separator
from msdet.scenes.scene import Scene
from msdet.scoring.submission import DATA_FILE, DOA_FILE, talker_files

ESTIMATES = FolderKind("estimates", (DATA_FILE,), "hash", r"data\.json|doa\.jsonl|[^/]+/|[^/]+/talker\d+\.wav")
"""What `write_estimates` writes, and replaces."""

_LOGGER = logging.getLogger(__name__)


def write_estimates(
    scene_set: SceneSet, separators: Mapping[int, Separator | Oracle], out: Path, progress: Progress | None = None
) -> None:
    """Separate every scene into ``<out>/<scene id>/talkerN.wav`` (32-bit float) and ``<out>/doa.jsonl``.

    A system without voices writes no audio, one without azimuths no ``doa.jsonl``. ``<out>/data.json`` names
    the data set, so that the estimates are not scored against another. A scene that the system cannot
    separate is logged as a warning and left without estimates; scoring then counts it.

    Earlier estimates of msdet's in `out` are replaced; ``doa.jsonl`` is written last. Separators are by the number of
    talkers of a scene; an `Oracle` is told each scene's references and azimuths.

    Raises:
        MsdetError: `out` holds anything but such estimates; or no scene could be separated: says why the
            first could not.
        WriteError: the disk is full; whatever else, it is no fault of a scene.
    """
    remove_folder(out, ESTIMATES)
    write_json(out / DATA_FILE, {"kind": ESTIMATES.name, "hash": scene_set.identity})
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for number, scene in enumerate(scene_set.scenes, start=1):
        try:
            result = _separated(scene_set, scene, separators[len(scene.sources)])
            rows.append({"id": scene.id, **_written(result, scene, out)})
        except WriteError:
            raise
        except MsdetError as error:
            for path in talker_files(out, scene):
                path.unlink()
            rows.append({"id": scene.id, "error": str(error)})
            failed.append(f"{scene.id}: {error}")
        if progress:
            progress(number, len(scene_set.scenes))
    if len(failed) == len(rows):
        raise MsdetError(failed[0])
    if failed:
        _LOGGER.warning("%s: %d scenes could not be separated (%s)", out, len(failed), failed[0])
    if any("azimuth_deg" in row for row in rows):
        write_jsonl(out / DOA_FILE, rows)


def _separated(scene_set: SceneSet, scene: Scene, separator: Separator | Oracle) -> Separation:
    mixture = scene_set.mixture(scene)
    if isinstance(separator, Oracle):
        return separator.separate(mixture, OracleInput(scene_set.references(scene), scene.azimuths_deg))
    return separator(mixture)


def _written(result: Separation, scene: Scene, out: Path) -> dict[str, Any]:
    """Write the voices; returns the scene's entries of ``doa.jsonl``."""
    for talker, voice in enumerate(() if result.estimates is None else result.estimates, start=1):
        audio.write(out / scene.id / f"talker{talker}.wav", voice, scene.sample_rate, "FLOAT")
    places = {"azimuth_deg": 3, "confidence": 4, "elevation_deg": 2}
    given = {name: getattr(result, name) for name in places}
    written = {name: np.round(given[name], n).tolist() for name, n in places.items() if given[name] is not None}
    if result.track_deg is None:
        return written
    frames = result.track_deg.shape[1]
    time_s = scene.duration_s * (np.arange(frames) + 0.5) / frames
    track: dict[str, Any] = {"time_s": time_s.round(4).tolist(), "azimuth_deg": number_rows(result.track_deg, 2)}
    if result.elevation_deg is not None:
        track["elevation_deg"] = [[elevation] * frames for elevation in written["elevation_deg"]]
    return written | {"track": track}
