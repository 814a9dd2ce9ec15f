"""Reading a Kaldi directory as a data set; `msdet.data.scene_set.write_kaldi` writes one."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path

from msdet.arrays import MicrophoneArray
from msdet.conventions import direction_vector, wrap_deg
from msdet.data.formats import external
from msdet.errors import MsdetError
from msdet.io.reading import read_keyed
from msdet.scenes.scene import Scene, Source, Target, as_point

DURATION_TOLERANCE_S = 0.02  # ``utt2dur`` and the audio may differ by this much

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Tables:
    """The tables of a Kaldi directory; `references` are ``spk1.scp`` …, in order, and may be none.

    `segments` are recording, start and end in seconds of each mixture, if mixtures are parts of recordings; `numbers`,
    by the name of a table, those of each mixture; none where there is no such table. Commands are refused unless they
    are allowed.
    """

    folder: Path
    recordings: dict[str, str]
    segments: dict[str, tuple[str, float, float]]
    references: list[dict[str, str]]
    numbers: dict[str, dict[str, list[float]]]
    finder: external.AudioFinder
    allow_commands: bool

    @property
    def mixtures(self) -> list[str]:
        """Ids of the mixtures, in the order of their table."""
        return list(self.segments or self.recordings)

    def sound(self, name: str, table: dict[str, str], scene_id: str) -> external.Sound:
        """The audio that the ``scp`` file of a name has of a mixture, or of the recording that it is a part of."""
        path, segment = self.folder / name, self.segments.get(scene_id)
        key = segment[0] if segment and (segment[0] in table or scene_id not in table) else scene_id
        if key not in table:
            raise MsdetError(f"{path}: has no line for {key}")
        part_s = segment[1:] if segment and key == segment[0] else None
        value, place = table[key], f"{path}, {key}"
        if value.endswith("|") and self.allow_commands:
            return external.Sound(path, value[:-1].strip(), part_s)
        if value.startswith("|") or value.endswith("|"):
            remedy = "commands run only with --allow_commands" if value.endswith("|") else "give one that writes audio"
            raise MsdetError(f"{place}: is a command ('{value}'), expected a file; {remedy}")
        if re.search(r"\.ark:\d+$", value):
            remedy = "extract it first, for example with wav-copy"
            raise MsdetError(f"{place}: is in an archive ({value}), expected a file; {remedy}")
        return external.Sound(self.finder.find(value, place), "", part_s)

    def row(self, table: str, scene_id: str, talkers: int) -> list[float]:
        """The numbers that a table has of a mixture, one a talker."""
        path, row = self.folder / table, self.numbers[table].get(scene_id)
        if row is None:
            raise MsdetError(f"{path}: has no line for {scene_id}")
        if len(row) != talkers:
            raise MsdetError(f"{path}, {scene_id}: has {len(row)} numbers, expected {talkers}")
        return row


def read_kaldi(
    folder: Path,
    array: MicrophoneArray,
    target: Target,
    distance_m: float | None = None,
    audio_root: str = "",
    allow_commands: bool = False,
) -> external.ExternalDataset:
    """Read a Kaldi directory as `write_kaldi` makes it; ``utt2dur``, ``reco2dur`` and ``utt2rt60`` may be missing.

    A mixture that is in none of ``spk1.scp`` … has no references, one that is not in ``utt2doa`` is not
    located; either tells how many talkers there are.

    The tables know neither room nor elevations nor speakers: talkers are taken to be level with the array,
    which is placed at the origin. When they talk, and how loud, the references tell once they are read;
    without any, talkers are taken to talk all the time.

    ``wav.scp`` has one recording of the whole array a line, ``spk1.scp`` … hold references of a target. `distance_m`
    is that of all talkers, where there is no ``utt2distance``; `audio_root` is where audio is now that was moved
    (`msdet.data.formats.external.AudioFinder`). With ``segments`` mixtures are parts of the recordings, and so are
    references, unless ``spk1.scp`` … list mixtures. Lines that are commands, with ``|`` at their end, run in the
    working directory, as Kaldi's do, if `allow_commands` says so. An id with slashes gets hyphens for them, and the log
    says so.
    """
    tables = _read_tables(folder, distance_m, external.AudioFinder(folder, audio_root), allow_commands)
    names = _scene_ids(tables.mixtures, folder / ("segments" if tables.segments else "wav.scp"))
    entries = [_read_scene(tables, utterance, names[utterance], array, target, distance_m) for utterance in names]
    return external.ExternalDataset(array, tuple(entries), {"format": "kaldi", "target": target})


def _scene_ids(utterances: list[str], table: Path) -> dict[str, str]:
    """Ids that can name a folder, by those of a table: slashes become hyphens, anything worse is refused."""
    names = {n: n.replace("/", "-") if all(part.strip(".") for part in n.split("/")) else n for n in utterances}
    for name in names.values():
        external.check_scene_id(name, str(table))
    if renamed := [name for name in utterances if names[name] != name]:
        if len(set(names.values())) < len(names):
            raise MsdetError(f"{table}: ids differ only in slashes and hyphens, such as {renamed[0]}")
        log.warning("%s: %d ids get hyphens for slashes: %s is %s", table, len(renamed), renamed[0], names[renamed[0]])
    return names


def _read_tables(folder: Path, distance_m: float | None, finder: external.AudioFinder, allow_commands: bool) -> _Tables:
    recordings = read_table(folder / "wav.scp", "one recording of the array a line")
    paths = itertools.takewhile(Path.is_file, (folder / f"spk{n}.scp" for n in itertools.count(1)))
    references = [read_table(path, "references of a talker") for path in paths]
    numbers = {"utt2doa": _read_if_there(folder / "utt2doa", "azimuths of a mixture's talkers, in degrees")}
    if not references and not numbers["utt2doa"]:
        raise MsdetError(f"{folder}: has neither spk1.scp nor utt2doa, expected references, azimuths or both")
    distances = folder / "utt2distance"
    if distance_m is not None and distances.is_file():
        raise MsdetError(f"{distances}: tells the distances, so --distance_m has no use")
    hint = "distances of a mixture's talkers, in meters; --distance_m gives one for all"
    if numbers["utt2doa"] and distance_m is None and not distances.is_file():
        raise MsdetError(f"{distances}: no such file, expected {hint}")
    for name, content in (("utt2distance", hint), ("utt2dur", ""), ("reco2dur", ""), ("utt2rt60", "")):
        numbers[name] = _read_if_there(folder / name, content)
    segments = _read_segments(folder / "segments")
    return _Tables(folder, recordings, segments, references, numbers, finder, allow_commands)


def _read_segments(path: Path) -> dict[str, tuple[str, float, float]]:
    """Recording, start and end of each utterance; none where there is no such table."""
    segments = {}
    rows = read_table(path, "parts of recordings") if path.is_file() else {}
    for utterance, row in rows.items():
        try:
            recording, start, end = row.split()
            segments[utterance] = (recording, float(start), float(end))
        except ValueError as error:
            raise MsdetError(f"{path}, {utterance}: is '{row}', expected a recording, start and end in s") from error
        if not all(map(math.isfinite, segments[utterance][1:])):
            raise MsdetError(f"{path}, {utterance}: is '{row}', expected finite times")
    return segments


def _read_scene(
    tables: _Tables, scene_id: str, name: str, array: MicrophoneArray, target: Target, distance_m: float | None
) -> external.ExternalScene:
    folder = tables.folder
    mixture = tables.sound("wav.scp", tables.recordings, scene_id)
    header = external.check_recording(mixture, array)
    recording = tables.segments[scene_id][0] if tables.segments else scene_id
    for table, key, sound in (("utt2dur", scene_id, mixture), ("reco2dur", recording, mixture.whole)):
        if key in tables.numbers[table]:
            (duration_s,) = tables.row(table, key, 1)
            seconds = header.seconds if sound == mixture else sound.info().seconds
            if abs(duration_s - seconds) > DURATION_TOLERANCE_S:
                raise MsdetError(f"{folder / table}, {key}: is {duration_s:.3f} s, but {sound} lasts {seconds:.3f} s")
    references = _references(tables, scene_id)
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
        id=name,
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


def _references(tables: _Tables, scene_id: str) -> tuple[external.ReferenceFiles, ...]:
    keys = {scene_id, tables.segments.get(scene_id, (scene_id,))[0]}
    talkers = max((n for n, table in enumerate(tables.references, start=1) if keys & table.keys()), default=0)
    files = enumerate(tables.references[:talkers], start=1)
    return tuple(external.ReferenceFiles((tables.sound(f"spk{n}.scp", table, scene_id),)) for n, table in files)


def _read_if_there(path: Path, content: str) -> dict[str, list[float]]:
    """The numbers of a table; none where there is no such file."""
    if not path.is_file():
        return {}
    numbers = {}
    for key, text in read_table(path, content).items():
        try:
            numbers[key] = [float(word) for word in text.split()]
        except ValueError as error:
            raise MsdetError(f"{path}, {key}: is '{text}', expected numbers") from error
        if not all(map(math.isfinite, numbers[key])):
            raise MsdetError(f"{path}, {key}: is '{text}', expected finite numbers")
    return numbers


def read_table(path: Path, content: str = "") -> dict[str, str]:
    """The lines of a table, by their first word; `content` says what a missing one should hold."""
    expected = f", expected {content}" if content else ""
    if not path.exists():
        raise MsdetError(f"{path}: no such file{expected}")
    table: dict[str, str] = {}
    for place, key, value in read_keyed(path):
        if key and not value:
            raise MsdetError(f"{place}: is '{key}', expected an id and a value")
        if key in table:
            raise MsdetError(f"{place}: '{key}' comes a second time")
        if key:
            table[key] = value
    if content and not table:
        raise MsdetError(f"{path}: is empty{expected}")
    return table
