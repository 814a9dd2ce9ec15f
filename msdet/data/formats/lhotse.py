"""A data set as lhotse manifests."""

from __future__ import annotations

import gzip
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import write_bytes
from msdet.scenes.scene import Scene, mixture_path, reference_path

if TYPE_CHECKING:
    from lhotse import MultiCut, Recording, SupervisionSegment

RECORDINGS, CUTS = "recordings.jsonl.gz", "cuts.jsonl.gz"


def write_lhotse(scene_set: SceneSet, out: Path | None = None) -> tuple[Path, Path]:
    """Write ``recordings.jsonl.gz`` and ``cuts.jsonl.gz`` into a set: one ``MultiCut`` a mixture.

    A cut has ``target_recording``, whose samples ``load_target_recording()`` gives, ``(talker, time)``: those of the
    cut, also once lhotse has truncated, trimmed or resampled it. It has a supervision for each talker, with its
    speaker, gender and times and, as custom fields, ``target_channel``, its row of those samples, ``azimuth_deg``,
    ``elevation_deg`` and ``distance_m``; a moving talker also has a ``track`` of times, azimuths, elevations and
    distances, times from the scene's start. What is not known has no field. Other custom fields of the cut are
    ``array``, ``target`` and, where they are known, ``room_m``, ``t60_s`` and ``snr_db``.

    Paths are relative to the set. lhotse takes them from the working directory, so load the cuts there; or write them
    into another folder `out`, where they are absolute. Resampling needs ``cut.resample(rate, recording_field=
    "target_recording")`` besides: lhotse leaves other recordings than the mixture at their rate.
    """
    tools = Path.home() / ".lhotse" / "tools"
    made = [folder for folder in (tools, tools.parent) if not folder.exists()]
    try:
        import lhotse  # noqa: F401
    except ImportError as error:
        raise MsdetError("lhotse manifests need lhotse: pip install msdet[lhotse]") from error
    for folder in made:  # by the import, which nobody who exports asked for
        with suppress(OSError):
            folder.rmdir()
    place = f"{scene_set.root.resolve()}/" if out else ""
    cuts = [_cut(scene, scene_set.array.microphones, place) for scene in scene_set.scenes]
    recordings, manifest = ((out or scene_set.root) / name for name in (RECORDINGS, CUTS))
    _write(recordings, [cut.recording.to_dict() for cut in cuts])
    _write(manifest, [cut.to_dict() for cut in cuts])
    return recordings, manifest


def _cut(scene: Scene, microphones: int, place: str) -> MultiCut:
    from lhotse import MultiCut

    custom: dict[str, Any] = {"array": scene.array, "target": scene.target}
    if scene.referenced:
        files = {place + reference_path(scene.id, talker): [talker] for talker in range(len(scene.sources))}
        custom["target_recording"] = _recording(scene, f"{scene.id}-target", files)
    known = {"room_m": scene.room_m, "t60_s": scene.t60_s, "snr_db": scene.snr_db if scene.noises else None}
    channels = list(range(microphones))
    return MultiCut(
        id=scene.id,
        start=0.0,
        duration=scene.samples / scene.sample_rate,
        channel=channels,
        supervisions=[_supervision(scene, k, channels) for k in range(len(scene.sources))],
        recording=_recording(scene, scene.id, {place + mixture_path(scene.id): channels}),
        custom=custom | {name: value for name, value in known.items() if value is not None},
    )


def _supervision(scene: Scene, talker: int, channels: list[int]) -> SupervisionSegment:
    from lhotse import SupervisionSegment

    source, rate = scene.sources[talker], scene.sample_rate
    start, name = round(source.onset_s * rate), f"{scene.id}-{talker + 1}"
    length = min(round(source.duration_s * rate), scene.samples - start)
    known = ("azimuth_deg", "elevation_deg", "distance_m")
    custom: dict[str, Any] = {key: value for key in known if not math.isnan(value := getattr(source, key))}
    if source.track:
        custom["track"] = [[d.time_s, d.azimuth_deg, d.elevation_deg, d.distance_m] for d in source.track]
    if scene.referenced:
        custom["target_channel"] = talker
    return SupervisionSegment(
        id=name,
        recording_id=scene.id,
        start=start / rate,
        duration=length / rate,
        channel=channels,
        speaker=source.speaker or None,
        gender=source.gender or None,
        custom=custom,
    )


def _recording(scene: Scene, name: str, files: dict[str, list[int]]) -> Recording:
    """A recording of the scene's length whose channels are in files."""
    from lhotse import AudioSource, Recording

    return Recording(
        id=name,
        sources=[AudioSource("file", channels, path) for path, channels in files.items()],
        sampling_rate=scene.sample_rate,
        num_samples=scene.samples,
        duration=scene.samples / scene.sample_rate,
    )


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, compressed; the same rows give the same bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_bytes(path, gzip.compress(text.encode("utf-8"), mtime=0))
