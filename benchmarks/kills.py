"""Commands that are killed at random moments and run again: what they write is that of an uninterrupted run.

    python benchmarks/kills.py --seed 1 --kills 3

Each command of `COMMANDS` runs once undisturbed, then with SIGKILLs until it is through, in a box that can write
to its own folder alone. Files are compared by their bytes, logs and times of training left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _attacks import PACKAGE, make_base
from _box import Outcome, is_possible, run_boxed
from _common import report, run
from bad_inputs import import_everything

from msdet.cli import main

_SIMULATE = "simulate --out out --speech speech --split train --jobs 1 --scenes scenes.yaml"

COMMANDS = {
    "simulate": f"{_SIMULATE} --count 6",
    "bank": "bank --out out --rooms 4 --positions 3 --jobs 1 --scenes scenes.yaml",
    "train": "train --config train.yaml --out out --optimizer.steps 6",
    "evaluate": "evaluate --data dev --out out --model model --methods srp_beam --metrics si_sdr,stoi --jobs 1",
    "separate": "separate list.scp --out out --model model --subtype FLOAT",
    "package": f"{PACKAGE} --out out.tar --evaluation test=scored",
    "report": "report --evaluation scored --data dev --out out.html --estimates model=estimates",
}

LEFT_OUT = ("logs", "last.ckpt")
"""Of a training: times, and the state of Lightning, which holds times."""


def kills(seed: int = 1, kills: int = 3) -> None:
    """Kill commands again and again, and compare what they write in the end.

    Args:
        seed: of the moments.
        kills: of each command.
    """
    if not is_possible():
        raise SystemExit("no Landlock on this system: nothing is run where it could write anywhere")
    import_everything()
    rng = np.random.default_rng(seed)
    rows = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        base = Path(folder) / "base"
        base.mkdir()
        make_base(base)
        for name, words in COMMANDS.items():
            whole, broken = Path(folder) / "whole", Path(folder) / "broken"
            shutil.copytree(base, whole)
            shutil.copytree(base, broken)
            begun = time.monotonic()
            _must_end_well(run_boxed(_command(words), whole), name)
            seconds = time.monotonic() - begun
            killed = 0
            while killed < kills:
                if _killed(words, broken, float(rng.uniform(0.0, 0.9 * seconds))):
                    killed += 1
                else:  # was through before
                    shutil.rmtree(broken)
                    shutil.copytree(base, broken)
            _must_end_well(run_boxed(_command(words), broken), name)
            expected, found = (_contents(place) for place in (whole, broken))
            differing = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
            print(f"{name}: {killed} kills, {len(expected)} files, differing: {differing[:5]}", flush=True)
            rows.append({"command": name, "kills": killed, "files": len(expected), "differing": len(differing)})
            shutil.rmtree(whole)
            shutil.rmtree(broken)
    report(rows, kills=sum(row["kills"] for row in rows), differing=sum(row["differing"] for row in rows))


def _command(words: str) -> Callable[[], int]:
    return lambda: main(words.split())


def _killed(words: str, place: Path, after_s: float) -> bool:
    """Run a command and kill it after so long; whether it was still running."""

    def work() -> int:
        threading.Timer(after_s, lambda: os.killpg(0, signal.SIGKILL)).start()
        code = main(words.split())
        os._exit(code)

    return run_boxed(work, place).code == -signal.SIGKILL


def _must_end_well(outcome: Outcome, name: str) -> None:
    if outcome.code:
        raise SystemExit(f"{name}: {outcome}")


def _contents(place: Path) -> dict[str, bytes]:
    files = (path for path in place.glob("out*") for path in ([path] if path.is_file() else path.rglob("*")))
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in files
        if path.is_file() and not set(LEFT_OUT) & set(path.relative_to(place).parts)
    }


if __name__ == "__main__":
    sys.exit(run(kills))
