"""Make a folder of links to the subsets of LibriSpeech that a run uses, each named after its split."""

from __future__ import annotations

import sys
from pathlib import Path

from msdet.cli import run_command
from msdet.corpora import SPLITS
from msdet.errors import MsdetError

FEW = 12  # folders are named when a subset is missing


def choose_subsets(speech: Path, out: Path, train: str, dev: str, test: str) -> None:
    """Link the subsets of each split into a folder that reads as LibriSpeech.

    Args:
        speech: the folder LibriSpeech, or the one it lies in.
        out: folder of links; those of an earlier choice are replaced.
        train: subsets to train on, between commas.
        dev: subsets to validate on.
        test: subsets to test on.
    """
    home = speech / "LibriSpeech" if (speech / "LibriSpeech").is_dir() else speech
    there = sorted(p.name for p in home.iterdir() if p.is_dir() and not p.name.startswith("."))
    chosen: dict[str, Path] = {}
    used: dict[str, str] = {}
    for split, names in zip(SPLITS, (train, dev, test), strict=True):
        for name in filter(None, names.split(",")):
            if name not in there:
                found = ", ".join(there[:FEW]) + (", ..." if there[FEW:] else "") or "an empty folder"
                raise MsdetError(
                    f"{home}: has no subset '{name}'; found {found}; --{split}-subsets chooses others, and "
                    "--corpus folder reads any folder of speech"
                )
            if used.setdefault(name, split) != split:
                raise MsdetError(f"subset '{name}' is for {used[name]} and for {split}: they would share talkers")
            chosen[name if name.startswith(f"{split}-") else f"{split}-{name}"] = home / name
        if split not in used.values():
            raise MsdetError(f"--{split}-subsets is empty, expected a subset of {home}")
    tables = [p for p in home.iterdir() if p.name.lower() == "speakers.txt"]
    _link(out, chosen | {table.name: table for table in tables})
    for name in chosen:
        print(f"{name}: {sum(1 for p in (out / name).iterdir() if p.is_dir())} talkers")


def _link(out: Path, targets: dict[str, Path]) -> None:
    """Make `out` a folder of links and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        if not old.is_symlink():
            raise MsdetError(f"{old}: is no link that this made; choose another folder")
        old.unlink()
    for name, target in targets.items():
        (out / name).symlink_to(target.resolve())


if __name__ == "__main__":
    sys.exit(run_command(choose_subsets, None, "choose_subsets.py"))
