"""Reading a Kaldi directory as a data set; `msdet.data.scene_set.write_kaldi` writes one."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path

from msdet.arrays import MicrophoneArray
from msdet.conventions import direction_vector, wrap_deg
from msdet.data.formats import external
from msdet.errors import MsdetError
from msdet.io.reading import read_text
from msdet.scenes.scene import Scene, Source, Target, as_point

DURATION_TOLERANCE_S = 0.02  # ``utt2dur`` and the audio may differ by this much


@dataclass(frozen=True)
class _Tables:
    """The tables of a Kaldi directory; `references` are ``spk1.scp`` …, in order, and may be none.

    `numbers` are, by the name of a table, those of each mixture; none where there is no such table.
    """

    folder: Path
    mixtures: dict[str, str]
    references: list[dict[str, str]]
    numbers: dict[str, dict[str, list[float]]]

    def row(self, table: str, scene_id: str, talkers: int) -> list[float]:
        """The numbers that a table has of a mixture, one a talker."""
        path, row = self.folder / table, self.numbers[table].get(scene_id)
        if row is None:
            raise MsdetError(f"{path}: has no line for {scene_id}")
        if len(row) != talkers:
            raise MsdetError(f"{path}, {scene_id}: has {len(row)} numbers, expected {talkers}")
        return row


def read_kaldi(
    folder: Path, array: MicrophoneArray, target: Target, distance_m: float | None = None, audio_root: str = ""
) -> external.ExternalDataset:
    """Read a Kaldi directory as `write_kaldi` makes it; ``utt2dur`` and ``utt2rt60`` may be missing.

    A mixture that is in none of ``spk1.scp`` … has no references, one that is not in ``utt2doa`` is not
    located; either tells how many talkers there are.

    The tables know neither room nor elevations nor speakers: talkers are taken to be level with the array,
    which is placed at the origin. When they talk, and how loud, the references tell once they are read;
    without any, talkers are taken to talk all the time.

    ``wav.scp`` has one recording of the whole array a line, ``spk1.scp`` … hold references of a target. `distance_m`
    is that of all talkers, where there is no ``utt2distance``; `audio_root` is where audio is now that was moved
    (`msdet.data.formats.external.AudioFinder`).
    """
    tables, finder = _read_tables(folder, distance_m), external.AudioFinder(folder, audio_root)
    entries = [_read_scene(tables, finder, i, array, target, distance_m) for i in tables.mixtures]
    return external.ExternalDataset(array, tuple(entries), {"format": "kaldi", "target": target})


def _read_tables(folder: Path, distance_m: float | None) -> _Tables:
    mixtures = _read_table(folder / "wav.scp", "one recording of the array a line")
    paths = itertools.takewhile(Path.is_file, (folder / f"spk{n}.scp" for n in itertools.count(1)))
    references = [_read_table(path, "references of a talker") for path in paths]
    numbers = {"utt2doa": _read_if_there(folder / "utt2doa", "azimuths of a mixture's talkers, in degrees")}
    if not references and not numbers["utt2doa"]:
        raise MsdetError(f"{folder}: has neither spk1.scp nor utt2doa, expected references, azimuths or both")
    distances = folder / "utt2distance"
    if distance_m is not None and distances.is_file():
        raise MsdetError(f"{distances}: tells the distances, so --distance_m has no use")
    hint = "distances of a mixture's talkers, in meters; --distance_m gives one for all"
    if numbers["utt2doa"] and distance_m is None and not distances.is_file():
        raise MsdetError(f"{distances}: no such file, expected {hint}")
    for name, content in (("utt2distance", hint), ("utt2dur", ""), ("utt2rt60", "")):
        numbers[name] = _read_if_there(folder / name, content)
    return _Tables(folder, mixtures, references, numbers)


def _read_scene(
    tables: _Tables, finder: external.AudioFinder, scene_id: str, array: MicrophoneArray, target: Target,
    distance_m: float | None,
) -> external.ExternalScene:  # fmt: skip
    folder = tables.folder
    external.check_scene_id(scene_id, str(folder / "wav.scp"))
    mixture = _find(finder, tables.mixtures[scene_id], folder / "wav.scp", scene_id)
    header = external.check_recording(mixture, array)
    if scene_id in tables.numbers["utt2dur"]:
        (duration_s,) = tables.row("utt2dur", scene_id, 1)
        if abs(duration_s - header.seconds) > DURATION_TOLERANCE_S:
            lasts = f"{mixture} lasts {header.seconds:.3f} s"
            raise MsdetError(f"{folder / 'utt2dur'}, {scene_id}: is {duration_s:.3f} s, but {lasts}")
    references = _references(tables, finder, scene_id)
    located = scene_id in tables.numbers["utt2doa"]
    if not references and not located:
        raise MsdetError(f"{folder}: neither spk1.scp nor utt2doa has a line for {scene_id}")
    talkers = len(references) or len(tables.numbers["utt2doa"][scene_id])
    azimuths = distances = [math.nan] * talkers
    if located:
        azimuths = tables.row("utt2doa", scene_id, talkers)
    if distance_m is not None:
        distances = [distance_m] * talkers
    elif located or scene_id in tables.numbers["utt2distance"]:
        distances = tables.row("utt2distance", scene_id, talkers)
    if min(distances) <= 0:
        raise MsdetError(f"{folder}, {scene_id}: a talker's distance is {min(distances):g} m, expected more than 0")
    t60s = tables.row("utt2rt60", scene_id, 1) if scene_id in tables.numbers["utt2rt60"] else [None]
    scene = Scene(
        id=scene_id,
        seed=0,
        sample_rate=header.sample_rate,
        duration_s=header.seconds,
        room_m=None,
        t60_target_s=None,
        array=array.name,
        array_center_m=(0.0, 0.0, 0.0),
        array_rotation_deg=(0.0, 0.0, 0.0),
        sources=tuple(_source(a, d, header.seconds) for a, d in zip(azimuths, distances, strict=True)),
        noises=(),
        target=target,
        t60_measured_s=t60s[0],
        referenced=bool(references),
        located=located,
    )
    return external.ExternalScene(scene, mixture, references, timed=False)


def _source(azimuth_deg: float, distance_m: float, duration_s: float) -> Source:
    """A talker level with an array at the origin, if its azimuth is not NaN; nothing else is known."""
    source = Source("", "", 0.0, 0.0, duration_s, level_db=0.0, distance_m=distance_m)
    if math.isnan(azimuth_deg):
        return source
    position_m = as_point(distance_m * direction_vector(azimuth_deg))
    azimuth_deg = float(wrap_deg(azimuth_deg))
    return dataclasses.replace(source, position_m=position_m, azimuth_deg=azimuth_deg, elevation_deg=0.0)


def _references(tables: _Tables, finder: external.AudioFinder, scene_id: str) -> tuple[external.ReferenceFiles, ...]:
    talkers = max((n for n, table in enumerate(tables.references, start=1) if scene_id in table), default=0)
    files = []
    for number, table in enumerate(tables.references[:talkers], start=1):
        path = tables.folder / f"spk{number}.scp"
        if scene_id not in table:
            raise MsdetError(f"{path}: has no line for {scene_id}")
        files.append(external.ReferenceFiles((_find(finder, table[scene_id], path, scene_id),)))
    return tuple(files)


def _find(finder: external.AudioFinder, name: str, table: Path, scene_id: str) -> Path:
    """The file of an ``scp`` line; refuses commands, and positions in Kaldi's archives."""
    place = f"{table}, {scene_id}"
    if name.endswith("|") or name.startswith("|"):
        remedy = "run the commands first, for example with wav-copy, and list the files that they make"
        raise MsdetError(f"{place}: is a command ('{name}'), expected a file; {remedy}")
    if re.search(r"\.ark:\d+$", name):
        remedy = "extract it first, for example with wav-copy"
        raise MsdetError(f"{place}: is in an archive ({name}), expected a file; {remedy}")
    return finder.find(name, place)


def _read_if_there(path: Path, content: str) -> dict[str, list[float]]:
    """The numbers of a table; none where there is no such file."""
    if not path.is_file():
        return {}
    numbers = {}
    for key, text in _read_table(path, content).items():
        try:
            numbers[key] = [float(word) for word in text.split()]
        except ValueError as error:
            raise MsdetError(f"{path}, {key}: is '{text}', expected numbers") from error
        if not all(map(math.isfinite, numbers[key])):
            raise MsdetError(f"{path}, {key}: is '{text}', expected finite numbers")
    return numbers


def _read_table(path: Path, content: str = "") -> dict[str, str]:
    """The lines of a table, by their first word; `content` says what a missing one should hold."""
    expected = f", expected {content}" if content else ""
    if not path.exists():
        raise MsdetError(f"{path}: no such file{expected}")
    table: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        key, value = [*line.split(maxsplit=1), "", ""][:2]
        if not value:
            raise MsdetError(f"{path}, line {number}: is '{line}', expected an id and a value")
        if key in table:
            raise MsdetError(f"{path}, line {number}: '{key}' comes a second time")
        table[key] = value.strip()
    if content and not table:
        raise MsdetError(f"{path}: is empty{expected}")
    return table
