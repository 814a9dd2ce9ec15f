"""Render the mixtures of wsj0-mix's lists, mix_2_spk_tr.txt and so on, in simulated rooms.

A line names each talker's file and level in dB, as in ``wsj0/si_tr_s/01t/01to030v.wav 0.4539
wsj0/si_tr_s/02p/02po0316.wav -0.4539`` (Hershey, Chen, Le Roux and Watanabe, ICASSP 2016). All utterances of
a mixture begin with it, and it ends with the shortest ("min"). Levels are those of the reverberant images at
the reference microphone, where spatialized WSJ0-mix (Wang, Le Roux and Hershey, ICASSP 2018) sets those of
direct paths.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from msdet.arrays import MicrophoneArray, load_array
from msdet.cli import run_command
from msdet.commands._progress import progress_bar, workers
from msdet.corpora import SPLITS, Corpus, Utterance, load_corpus
from msdet.data.scene_set import HEADER, finish_set, record_path, write_scene
from msdet.errors import MsdetError
from msdet.io.files import plain_name, settings_hash
from msdet.io.jobs import Job, begin_run_dir, run_jobs
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.dry_sounds import Sounds
from msdet.scenes.rendering import render
from msdet.scenes.sampling import Material, sample_scene
from msdet.scenes.scene import Scene, scene_seed

NAME_OF = {"train": "tr", "dev": "cv", "test": "tt"}


@dataclass(frozen=True)
class Entry:
    """A mixture of a list: its utterances, and the level of each in dB."""

    id: str
    utterances: tuple[Utterance, ...]
    levels_db: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Length of the shortest utterance."""
        return min(utterance.seconds for utterance in self.utterances)


def mix_lists(
    lists: Path,
    wsj0: Path,
    scenes: SceneDistribution = SceneDistribution(),  # noqa: B008 (frozen dataclass)
    out: Path | None = None,
    seed: int = 0,
    jobs: int = 0,
) -> None:
    """Render the mixtures of three lists into train, dev and test; without `out`, only check the lists.

    Args:
        lists: folder with mix_2_spk_tr.txt, mix_2_spk_cv.txt, mix_2_spk_tt.txt, or those of 3 talkers.
        wsj0: folder of the corpus.
        scenes: rooms, array and number of talkers; lengths and levels are the lists'.
        out: folder of the three data sets; run the same command again to finish them after a kill.
        seed: the same seed gives the same rooms.
        jobs: worker processes; 0 for one a core.
    """
    scenes.check()
    if not isinstance(scenes.talkers, int):
        raise MsdetError(f"scenes.talkers is {scenes.talkers}, expected the number of talkers of the lists")
    array, corpus = load_array(scenes.array), load_corpus("wsj0", wsj0)
    files = {split: lists / f"mix_{scenes.talkers}_spk_{NAME_OF[split]}.txt" for split in SPLITS}
    read = {split: read_list(path, scenes.talkers, corpus) for split, path in files.items()}
    for split, entries in read.items():
        if out is None:
            hours = sum(entry.seconds for entry in entries) / 3600
            talkers = len({u.speaker for entry in entries for u in entry.utterances})
            print(f"{files[split].name}: {len(entries)} mixtures of {talkers} talkers, {hours:.2f} h")
        else:
            _render_list(out / split, split, entries, scenes, array, wsj0, seed, jobs)


def read_list(path: Path, talkers: int, corpus: Corpus) -> list[Entry]:
    """The mixtures of a list.

    Raises:
        MsdetError: no such file, a line of another form, or an utterance that the corpus lacks.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise MsdetError(f"{path}: cannot be read ({error.strerror})") from error
    named = {PurePosixPath(u.path).stem.lower(): u for u in corpus.utterances}
    entries = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        place = f"{path}, line {number}"
        if len(words) != 2 * talkers:
            raise MsdetError(f"{place}: has {len(words)} words, expected a file and a level of {talkers} talkers")
        names = [PurePosixPath(word).stem for word in words[::2]]
        try:
            levels_db = tuple(float(word) for word in words[1::2])
        except ValueError as error:
            raise MsdetError(f"{place}: has the levels {', '.join(words[1::2])}, expected numbers in dB") from error
        for name in names:
            if name.lower() not in named:
                raise MsdetError(f"{place}: {corpus.root} has no utterance '{name}'")
        pairs = zip(names, words[1::2], strict=True)
        scene_id = plain_name("_".join(word for pair in pairs for word in pair), "id of the mixture", place)
        entries.append(Entry(scene_id, tuple(named[name.lower()] for name in names), levels_db))
    if not entries:
        raise MsdetError(f"{path}: lists no mixture")
    return entries


def draw(entry: Entry, scenes: SceneDistribution, array: MicrophoneArray, set_seed: int) -> Scene:
    """The scene of a mixture: its room is drawn, what is said and how loud is the list's."""
    seconds = int(entry.seconds * scenes.sample_rate) / scenes.sample_rate
    speech = {utterance.speaker: [utterance] for utterance in entry.utterances}
    if len(speech) < len(entry.utterances):
        raise MsdetError(f"{entry.id}: a talker is mixed with itself")
    distribution = dataclasses.replace(scenes, duration_s=seconds)
    scene = sample_scene(entry.id, distribution, Material(speech, array.microphones), set_seed)
    sources = tuple(
        dataclasses.replace(
            source,
            speaker=utterance.speaker,
            path=utterance.path,
            offset_s=0.0,
            onset_s=0.0,
            duration_s=seconds,
            level_db=level_db,
            gender=utterance.gender,
        )
        for source, utterance, level_db in zip(scene.sources, entry.utterances, entry.levels_db, strict=True)
    )
    return dataclasses.replace(scene, sources=sources)


def _render_list(
    out: Path,
    split: str,
    entries: list[Entry],
    scenes: SceneDistribution,
    array: MicrophoneArray,
    wsj0: Path,
    seed: int,
    jobs: int,
) -> None:
    settings: dict[str, Any] = {
        "distribution": scenes.to_dict(),
        "array": array.to_dict(),
        "split": split,
        "scenes": len(entries),
        "seed": seed,
        "mixtures": settings_hash([dataclasses.asdict(entry) for entry in entries]),
    }
    settings = json.loads(json.dumps(settings))
    drawn = [draw(entry, scenes, array, scene_seed(seed, split)) for entry in entries]
    if begin_run_dir(out, settings, HEADER):
        todo = [Job(_write, (out, scene, array, wsj0)) for scene in drawn if not record_path(out, scene.id).exists()]
        with workers(jobs, "") as pool, progress_bar(f"render {split}") as progress:
            run_jobs(todo, pool, progress, done=len(drawn) - len(todo))
        finish_set(out, settings, array, [scene.id for scene in drawn])
    print(f"{out}: {len(drawn)} scenes, {array.microphones} microphones at {scenes.sample_rate} Hz")


def _write(out: Path, scene: Scene, array: MicrophoneArray, wsj0: Path) -> None:
    mixture, measured = render(scene, array, Sounds(wsj0, scene.sample_rate))
    write_scene(out, measured, mixture.mixture, mixture.references)


if __name__ == "__main__":
    sys.exit(run_command(mix_lists, None, "mix_lists.py"))
