"""Look whether all files of an SMS-WSJ are there that a run needs, before hours go into importing it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from msdet.cli import run_command
from msdet.data.formats.external import AudioFinder
from msdet.data.formats.sms_wsj import EARLY_KEY, TAIL_KEY
from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import read_json
from msdet.scenes.scene import Target

NEEDED = {
    "direct": ("observation", EARLY_KEY, "rir", "original_source"),
    "early": ("observation", EARLY_KEY),
    "image": ("observation", EARLY_KEY, TAIL_KEY),
}
"""Keys of ``audio_path`` that references of each target are made of."""

REMEDY = "write all signals to files first (python -m sms_wsj.database.write_files with write_all=True)"


def check_tree(json: Path, root: Path, sets: str, target: Target = "direct") -> None:
    """Count the files that a run needs, and name the first that is missing.

    Args:
        json: the sms_wsj.json.
        root: folder of the database, where files are looked for that the JSON names elsewhere.
        sets: data sets, between commas.
        target: what the references are to hold.
    """
    content = read_json(json)
    datasets = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(datasets, dict) or not datasets:
        raise MsdetError(f"{json}: has no key 'datasets', expected an sms_wsj.json")
    finder = AudioFinder(json.parent, str(root))
    for name in sets.split(","):
        if name not in datasets:
            raise UnknownNameError("data set", name, datasets)
        print(f"{name}: {_check_set(f'{json}, {name}', datasets[name], NEEDED[target], finder)}")


def _check_set(place: str, examples: Any, keys: tuple[str, ...], finder: AudioFinder) -> str:
    """What there is of a set."""
    if not isinstance(examples, dict) or not examples:
        raise MsdetError(f"{place}: has no examples")
    found: Counter[str] = Counter()
    missing: dict[str, list[str]] = {key: [] for key in keys}
    for scene_id, example in examples.items():
        paths = example.get("audio_path", {}) if isinstance(example, dict) else {}
        for key in keys:
            files = _listed(paths, key)
            if not files:
                raise MsdetError(f"{place}, {scene_id}: audio_path has no '{key}'; {REMEDY}")
            for file in files:
                try:
                    finder.find(file, place)
                    found[key] += 1
                except MsdetError:
                    missing[key].append(file)
    lacking = [f"{len(gone)} of {len(gone) + found[key]} files '{key}'" for key, gone in missing.items() if gone]
    if lacking:
        first = next(gone[0] for gone in missing.values() if gone)
        raise MsdetError(f"{place}: {' and '.join(lacking)} are missing, first {first}; {REMEDY}")
    return f"{len(examples)} mixtures, {found.total()} files"


def _listed(paths: dict[str, Any], key: str) -> list[str]:
    """Files under a key; older databases call the dry speech differently."""
    value = paths.get(key, paths.get("speech_source") if key == "original_source" else None)
    return [value] if isinstance(value, str) else list(value or [])


if __name__ == "__main__":
    sys.exit(run_command(check_tree, None, "check_tree.py"))
