"""Checking a data set: its files, tables and checksums, and every scene's labels and sound."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from msdet.data.scene_checks import Problem, audio_paths, check_scene
from msdet.data.scene_set import CHECKSUMS, HEADER, MANIFEST, SceneSet, write_kaldi
from msdet.errors import MsdetError
from msdet.io.files import read_json, settings_hash
from msdet.io.jobs import IN_PROGRESS, Job, Progress, run_jobs
from msdet.io.reading import read_lines

FEW_SCENES = 16  # so few are checked faster than worker processes start


def validate_set(
    root: str | Path, quick: bool = False, jobs: int = 1, progress: Progress | None = None
) -> list[Problem]:
    """Everything wrong with a data set; nothing for one as `simulate` writes it.

    `quick` leaves out what needs audio decoded or checksums computed. An `MsdetError` says that there is no data
    set, or one whose manifest cannot be read.
    """
    data = SceneSet.open(root)
    problems = [Problem("", *problem) for problem in _header(data.root, len(data.scenes))]
    counts = Counter(scene.id for scene in data.scenes)
    twice = {scene_id: f"{MANIFEST} has {count} scenes of this id" for scene_id, count in counts.items() if count > 1}
    problems += [Problem(scene_id, "tables", text) for scene_id, text in twice.items()]
    sums: dict[str, str] = {}
    problems += [Problem("", *problem) for problem in _checksums(data, quick, sums)]
    problems += _tables(data)
    problems += [Problem("", "files", text) for text in _leftovers(data)]
    todo = []
    for scene in data.scenes:
        own = {path: sums[path] for path in audio_paths(scene) if path in sums}
        todo.append(Job(check_scene, (data.root, scene, data.array, data.sample_rate, own, quick)))
    for of_scene in run_jobs(todo, jobs if len(todo) > FEW_SCENES else 1, progress):
        problems += of_scene
    return problems


def _header(root: Path, scenes: int) -> Iterator[tuple[str, str]]:
    header = read_json(root / HEADER)
    settings = header.get("settings")
    if not isinstance(settings, dict):
        yield "tables", f"{HEADER}: key 'settings' is missing"
        return
    if settings_hash(settings) != header["hash"]:
        yield "checksums", f"{HEADER}: its settings are not those that it was written with, by their hash"
    if settings.get("scenes", scenes) != scenes:
        yield "tables", f"{MANIFEST} has {scenes} scenes, {HEADER} says {settings['scenes']}"


def _checksums(data: SceneSet, quick: bool, sums: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Entries missing or too many in the list of checksums, which is read into `sums`."""
    try:
        lines = read_checksums(data.root)
    except MsdetError:
        yield "files", f"{CHECKSUMS} is missing or unreadable"
        return
    for number, (path, digest) in enumerate(lines, start=1):
        if path and len(digest) == 64:
            sums[path] = digest
        else:
            yield "checksums", f"{CHECKSUMS}, line {number}: expected a checksum, two spaces and a path"
    expected = {MANIFEST, *(path for scene in data.scenes for path in audio_paths(scene))}
    for path in sorted(expected - set(sums)):
        yield "checksums", f"{CHECKSUMS} has no line for {path}"
    for path in sorted(set(sums) - expected):
        yield "checksums", f"{CHECKSUMS} has a line for {path}, which is not of the set"
    if not quick and MANIFEST in sums:
        digest = hashlib.sha256((data.root / MANIFEST).read_bytes()).hexdigest()
        if digest != sums[MANIFEST]:
            yield "checksums", f"{MANIFEST}: differs from its checksum"


def read_checksums(root: Path) -> list[tuple[str, str]]:
    """Path and checksum of each line of a set's list; a `MsdetError` if it is unreadable."""
    lines = read_lines(root / CHECKSUMS)
    return [(path, digest) for digest, _, path in (line.partition("  ") for line in lines)]


def _tables(data: SceneSet) -> list[Problem]:
    """Kaldi tables against those that the manifest's scenes would give."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        write_kaldi(Path(folder), data.scenes)
        expected = {path.name: _table(path) for path in Path(folder).iterdir()}
    for path in (*data.root.glob("spk*.scp"), data.root / "utt2doa", data.root / "utt2distance"):
        if path.name not in expected and path.is_file():
            problems.append(Problem("", "tables", f"{path.name} does not belong there"))
    for name, rows in sorted(expected.items()):
        if not (data.root / name).is_file():
            if name != "spk2utt":  # which sets of earlier versions have not
                problems.append(Problem("", "tables", f"{name} is missing"))
            continue
        actual = _table(data.root / name)
        for scene_id in sorted(rows.keys() | actual.keys()):
            if rows.get(scene_id) != actual.get(scene_id):
                there, given = (repr(t[scene_id]) if scene_id in t else "nothing" for t in (actual, rows))
                problems.append(Problem(scene_id, "tables", f"{name} has {there}, {MANIFEST} gives {given}"))
    return problems


def _table(path: Path) -> dict[str, str]:
    lines = read_lines(path, errors="replace")
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def _leftovers(data: SceneSet) -> Iterator[str]:
    """Files in the set's folder that are not of the set, such as of a killed run."""
    if (data.root / IN_PROGRESS).exists():
        yield f"{IN_PROGRESS}: a run is at work in the set, or was killed"
    yield from (f"{p.name}: left by a run that was killed" for p in sorted(data.root.glob(".part-*")))
    audio_folder = data.root / "audio"
    known = {Path(audio_paths(scene)[0]).parent.name for scene in data.scenes}
    there = {path.name for path in audio_folder.iterdir()} if audio_folder.is_dir() else set()
    yield from (f"audio/{name} is of no scene in {MANIFEST}" for name in sorted(there - known))


def verdict(problems: Sequence[Problem], scenes: int) -> str:
    """One line on a set of so many scenes.

    >>> verdict([], 300)
    '300 scenes valid'
    >>> verdict([Problem("a", "T60", ""), Problem("a", "files", ""), Problem("", "files", "")], 300)
    '3 problems in 1 of 300 scenes and the set itself'
    """
    if not problems:
        return f"{scenes} scene{'s' * (scenes != 1)} valid"
    affected = len({problem.scene for problem in problems} - {""})
    where = [f"{affected} of {scenes} scenes"] if affected else []
    if any(not problem.scene for problem in problems):
        where.append("the set itself")
    return f"{len(problems)} problem{'s' * (len(problems) != 1)} in {' and '.join(where)}"
