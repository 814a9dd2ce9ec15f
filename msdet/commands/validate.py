"""``msdet validate``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar, usable_cores
from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.data.scene_checks import Problem


def validate(sets: list[Path], bank: Path | None = None, quick: bool = False, lines: int = 5, jobs: int = 0) -> int:
    """Find what is wrong with data sets, and what they share that they must not.

    Exit code 0: nothing is wrong; 1: something is; 2: no data set.

    Args:
        sets: folders of data sets, such as train, dev and test; may come first, unnamed.
        bank: RIR bank that must share no room with the sets.
        quick: do not decode audio and compute checksums.
        lines: problems told of each kind; the rest is counted.
        jobs: worker processes; 0 for one a core.
    """
    from msdet.data.leaks import find_leaks
    from msdet.data.scene_set import SceneSet
    from msdet.data.validation import validate_set, verdict
    from msdet.scenes.rir.bank import RirBank

    if not sets:
        raise MsdetError("sets is empty, expected folders of data sets")
    opened = [SceneSet.open(root) for root in sets]
    rooms = RirBank.open(bank) if bank else None
    wrong = False
    for data in opened:
        with progress_bar(f"validate {data.root.name}", lines=False) as progress:
            problems = validate_set(data.root, quick, jobs or usable_cores(), progress)
        _tell(problems, lines)
        print(f"{data.root}: {verdict(problems, len(data.scenes))}{' (quick look)' if quick else ''}")
        wrong |= bool(problems)
    if len(opened) > 1 or rooms:
        shared = find_leaks(opened, rooms)
        _tell(shared, lines)
        what = "sets and bank" if rooms else "sets"
        print(f"{what}: {len(shared)} things shared" if shared else f"{what} share nothing")
        wrong |= bool(shared)
    return int(wrong)


def _tell(problems: Sequence[Problem], lines: int) -> None:
    by_kind = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    for kind, of_kind in by_kind.items():
        print(f"{kind}:")
        for problem in of_kind[:lines]:
            print(f"  {problem.scene}: {problem.text}" if problem.scene else f"  {problem.text}")
        if len(of_kind) > lines:
            print(f"  … and {len(of_kind) - lines} more")
