"""Make Kaldi directories of an existing tree of spatialized WSJ0-mix, for ``msdet import-set``.

The tree is that of the corpus' own scripts (Wang, Le Roux and Hershey, ICASSP 2018):
``2speakers_reverb/wav8k/min/{tr,cv,tt}/{mix,s1,s2}`` and the same below ``2speakers_anechoic``, where the
files of a mixture have one name. Its microphones stand elsewhere in every mixture and the audio does not tell
where, so there are references but no directions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from msdet.arrays import load_array
from msdet.cli import run_command
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import write_text

NAME_OF = {"train": "tr", "dev": "cv", "test": "tt"}


def list_tree(
    tree: Path,
    out: Path,
    talkers: int = 2,
    rooms: Literal["reverb", "anechoic"] = "reverb",
    target: Literal["direct", "image"] = "direct",
    form: str = "wav8k/min",
) -> None:
    """Write wav.scp, spk1.scp and so on of the three sets, and array.toml.

    Args:
        tree: folder with 2speakers_reverb, 2speakers_anechoic or both.
        out: folder of the tables.
        talkers: 2 or 3.
        rooms: whose mixtures are taken.
        target: what the references hold: the direct path, which are the anechoic files, or the image.
        form: folders of sample rate and length.
    """
    mixtures = tree / f"{talkers}speakers_{rooms}" / form
    references = tree / f"{talkers}speakers_{'anechoic' if target == 'direct' else rooms}" / form
    first: Path | None = None
    for split, name in NAME_OF.items():
        files = _files(mixtures / name / "mix")
        first = first or next(iter(files.values()))
        tables = {"wav.scp": files}
        for talker in range(1, talkers + 1):
            found = _files(references / name / f"s{talker}")
            if lacking := sorted(files.keys() - found.keys()):
                raise MsdetError(
                    f"{references / name / f's{talker}'}: lacks {len(lacking)} of {len(files)} mixtures, "
                    f"first {lacking[0]}.wav"
                )
            tables[f"spk{talker}.scp"] = {scene_id: found[scene_id] for scene_id in files}
        for table, rows in tables.items():
            lines = (f"{scene_id} {path.resolve()}\n" for scene_id, path in rows.items())
            write_text(out / split / table, "".join(lines))
        print(f"{name}: {len(files)} mixtures")
    assert first is not None
    write_text(out / "array.toml", _array(audio.info(first).channels))


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise MsdetError(f"{folder}: no such folder, expected the tree of spatialized WSJ0-mix")
    found = {path.stem: path for path in sorted(folder.glob("*.wav"))}
    if not found:
        raise MsdetError(f"{folder}: holds no .wav files")
    return found


def _array(channels: int) -> str:
    """An array of so many microphones; that of the corpus differs in every mixture."""
    if channels not in (4, 8):
        raise MsdetError(f"the mixtures have {channels} channels, expected 8, or the first 4")
    rows = "".join(
        f"  [{x:.6f}, {y:.6f}, {z:.6f}],\n" for x, y, z in load_array(f"circular{channels}_10cm").positions_m
    )
    return (
        'name = "spatialized_wsj0_mix"\n'
        'description = "In place of microphones that stand elsewhere in each mixture; not where they were"\n'
        f"positions_m = [\n{rows}]\n"
    )


if __name__ == "__main__":
    sys.exit(run_command(list_tree, None, "list_tree.py"))
