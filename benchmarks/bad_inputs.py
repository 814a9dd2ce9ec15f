"""Bad inputs for every command: no traceback, hang, gigabytes, or half-written file; nothing touched outside.

    python benchmarks/bad_inputs.py --seed 11 --count 3000

Each case takes a command that works, makes one of its files, numbers or names bad (`_materials.py`), and
runs it in a box that can write to the case's folder alone (`_box.py`). A case is faulty unless it ends with
0, 1 or 2 within 30 s of a core and 3 GB, prints at most one line of error and no traceback or warning of a
library, and leaves no unfinished file. Faulty cases are printed; their number and the seed reproduce them.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import importlib
import io
import os
import pkgutil
import re
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _attacks import ATTACKED, Attacked, make_base
from _box import MEMORY_BYTES, Outcome, is_possible, run_boxed
from _common import report, run
from _materials import spoil
from _materials_text import NAMES, NUMBERS, Rng, pick

import msdet
from msdet.cli import main

ALLOWED = {0, 1, 2}

_LIBRARY = re.compile(r"^\S*(site-packages|lib/python3)\S*:\d+: |^\w*Warning: ", re.MULTILINE)
_AT_WORK = re.compile(r"^\w[\w ]*: \d+/\d+\b.*\s*\Z", re.MULTILINE)
_UNFINISHED = re.compile(r"\.part-|\.tmp$")


@dataclass(frozen=True)
class Fault:
    """A case that did not end as it should."""

    number: int
    command: str
    how: str
    what: str


def bad_inputs(
    seed: int = 11,
    count: int = 3000,
    quick: bool = False,
    only: str = "",
    case: int = -1,
    keep: Path | None = None,
    base: Path | None = None,
    works: bool = False,
) -> None:
    """Run commands on bad inputs and count how many end as they must not.

    Args:
        seed: decides all cases.
        count: number of cases.
        quick: 120 cases.
        only: run cases of this command alone.
        case: run this case alone, and print all that it printed.
        keep: folder that takes the folders of faulty cases.
        base: folder of the good material, made there once; a temporary one if not given.
        works: run every command on the good material first, and stop if one refuses it.
    """
    if not is_possible():
        raise SystemExit("no Landlock on this system: bad inputs are not run where they could write anywhere")
    import_everything()
    faults: list[Fault] = []
    commands: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder:
        root = Path(folder)
        base, canary = base or root / "base", root / "canary"
        if not base.exists():
            base.mkdir()
            make_base(base)
        canary.mkdir()
        (canary / "kept.txt").write_text("kept")
        if works:
            _refuse_broken(base, root / "good")
        before = _state(canary, base)
        start = time.monotonic()
        for number in range(120 if quick else count):
            command = ATTACKED[number % len(ATTACKED)].command
            if (only and command != only) or case not in (-1, number):
                continue
            commands[command] += 1
            faults += _try_case(seed, number, base, root, keep, verbose=case == number)
            if (ran := commands.total()) % 100 == 0:
                rate = ran / (time.monotonic() - start)
                print(f"{ran} cases, {len(faults)} faulty, {rate:.1f} a second", file=sys.stderr, flush=True)
        changed = sum(_state(canary, base)[path] != value for path, value in before.items())
    faulty = collections.Counter(fault.command for fault in faults)
    rows = [{"command": name, "inputs": n, "faulty": faulty[name]} for name, n in sorted(commands.items())]
    report(rows, inputs=commands.total(), faulty=len(faults), outside_changed=changed, commands=len(commands))


def _try_case(seed: int, number: int, base: Path, root: Path, keep: Path | None, verbose: bool) -> list[Fault]:
    """Run a case in a folder of its own, and say what is wrong, if anything."""
    attacked, place = ATTACKED[number % len(ATTACKED)], root / f"case{number}"
    outcome, how, words = _run_case(np.random.default_rng([seed, number]), attacked, base, place)
    what = _fault(outcome, place, words)
    if verbose:
        print(outcome)
    if what:
        print(f"case {number}: msdet {shlex.join(words)}\n  {how}\n  {what}", flush=True)
    if what and keep:
        shutil.copytree(place, keep / place.name, symlinks=True, dirs_exist_ok=True)
    _forget(place)
    return [Fault(number, attacked.command, how, what)] if what else []


def _refuse_broken(base: Path, place: Path) -> None:
    """Stop if a command does not run well on the good material: bad material would teach nothing then."""
    for attacked in ATTACKED:
        _lay_out(attacked, base, place)
        outcome = run_boxed(lambda words=attacked.words: main(words.split()), place, attacked.cpu_seconds)
        if outcome.code or _fault(outcome, place, attacked.words.split()):
            raise SystemExit(f"msdet {attacked.words}\n  {outcome}\n  fails on good material")
        _forget(place)


def _lay_out(attacked: Attacked, base: Path, place: Path) -> None:
    place.mkdir()
    for name in attacked.needs:
        source, target = base / name, place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def _run_case(rng: Rng, attacked: Attacked, base: Path, place: Path) -> tuple[Outcome, str, list[str]]:
    _lay_out(attacked, base, place)
    words = attacked.words.split()
    if rng.random() < 0.7:
        chosen = place / pick(rng, list(attacked.spoiled or attacked.needs))
        files = sorted(p for p in chosen.rglob("*") if p.is_file()) if chosen.is_dir() else [chosen]
        by_kind = collections.defaultdict(list)
        for path in files:
            by_kind[path.suffix].append(path)
        how = spoil(rng, pick(rng, by_kind[pick(rng, sorted(by_kind))]))
    else:
        words, how = _bad_words(rng, words)
    outcome = run_boxed(lambda: main(words), place, attacked.cpu_seconds)
    return outcome, how, words


def _bad_words(rng: Rng, words: list[str]) -> tuple[list[str], str]:
    """Arguments with a bad number or name: in place of one, or of another option that the command has."""
    options = _options(" ".join(words[: 2 if words[0] == "array" else 1]))
    if rng.random() < 0.35:
        place = int(rng.integers(1, len(words)))
        value = pick(rng, NAMES)
        return [*words[:place], value.replace("\x00", ""), *words[place + 1 :]], f"argument {place} is {value!r}"
    option, value = (pick(rng, options), pick(rng, NUMBERS if rng.random() < 0.8 else NAMES).replace("\x00", ""))
    return [*words, f"--{option}", value], f"--{option} {value[:60]!r}"


@functools.cache
def _options(command: str) -> list[str]:
    """All options of a command, as its help lists them."""
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    found = set(re.findall(r"--([a-z][\w.-]*)", text.getvalue())) - {"help"}
    return sorted(found)


def _fault(outcome: Outcome, place: Path, words: list[str]) -> str:
    """What is wrong with how a case ended; nothing if all is well."""
    text = outcome.stdout + outcome.stderr
    if outcome.code is None:
        if _AT_WORK.search(outcome.stdout):  # on what it was asked for, such as a million steps
            return ""
        return f"did not end, {outcome.seconds:.0f} s by the clock"
    if "Traceback (most recent call last)" in text:
        return "traceback: " + text.strip().splitlines()[-1][:300]
    if outcome.code not in ALLOWED:
        return f"exit code {outcome.code}: {text.strip()[-300:]}"
    if outcome.code == 2 and (problem := _not_one_error(outcome.stderr)):
        return problem
    denied = "Permission denied" in text or "Read-only file system" in text
    if denied and not any(word in text for word in words if word.startswith(("/", "..", "~"))):  # as it was told to
        return f"tried to write outside: {text.strip()[-300:]}"
    if warning := _LIBRARY.search(text):
        return f"warning of a library: {text[warning.start() : warning.start() + 200]!r}"
    if any(
        (ord(c) < 32 and c not in "\n\t\r") or 0xD800 <= ord(c) < 0xE000 for c in outcome.stderr.replace("\x1b[", "")
    ):
        return f"control characters in the message: {outcome.stderr[-200:]!r}"
    if outcome.peak_bytes > MEMORY_BYTES:
        return f"{outcome.peak_bytes >> 20} MB"
    left = [str(p.relative_to(place)) for p in place.rglob("*") if _UNFINISHED.search(p.name)]
    return f"unfinished files: {left[:3]}" if left else ""


def _not_one_error(stderr: str) -> str:
    """What is wrong with the message of a command that refused its input: it is the last line, and one."""
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        return f"{len(errors)} lines of error: {stderr[-300:]!r}"
    after = stderr.split("error: ", 1)[1].strip("\n").split("\n")
    return f"lines after the error: {after[:3]}" if len(after) > 1 else ""


def _state(*roots: Path) -> dict[str, str]:
    """Content and kind of everything below some folders."""
    state = collections.defaultdict(str)
    for root in roots:
        for path in sorted(root.rglob("*")):
            kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
            content = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else ""
            state[str(path)] = f"{kind} {oct(path.lstat().st_mode)} {content}"
    return state


def import_everything() -> None:
    """Import all modules once, so that a forked case starts at once."""
    for module in pkgutil.walk_packages(msdet.__path__, "msdet."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("soundfile", "matplotlib.pyplot", "pystoi", "fast_bss_eval", "pyroomacoustics"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    os.environ["OMP_NUM_THREADS"] = "1"


def _forget(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    for suffix in (".stdout", ".stderr"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(run(bad_inputs))
