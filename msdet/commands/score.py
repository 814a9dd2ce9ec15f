"""``msdet score``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar, usable_cores
from msdet.commands.evaluate import report
from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.evaluation.scoring import Row

EXIT_NOT_ALL_SCORED = 1


def score(
    data: Path,
    estimates: Path,
    out: Path,
    name: str = "estimates",
    compare: Path | None = None,
    jobs: int = 0,
) -> int:
    """Score a folder of anyone's estimates beside the unprocessed mixture.

    The folder holds <scene id>/talker1.wav, talker2.wav and so on, or doa.jsonl with rows
    {"id", "azimuth_deg"} in the same order of talkers, or both. Exit code 1 if any scene could not be scored.

    Args:
        data: rendered data set.
        estimates: folder of estimates.
        out: folder for scores.jsonl of each system, summary.json and summary.md.
        name: what to call the system.
        compare: folder of an earlier evaluation or scoring of the same data; its systems join the summary.
        jobs: processes; 0 for one a core.
    """
    from msdet.data.manifest import SceneSet
    from msdet.evaluation.scoring import score_set, score_unprocessed
    from msdet.files import read_jsonl

    if not re.fullmatch(r"[\w.-]+", name) or name == "unprocessed":
        raise MsdetError(f"name is '{name}', expected letters, digits, '.', '_' or '-'")
    scene_set = SceneSet.open(data)
    workers = jobs or usable_cores()
    rows: dict[str, list[Row]] = {}
    with progress_bar("score unprocessed") as progress:
        rows["unprocessed"] = score_unprocessed(
            scene_set, out / "unprocessed" / "scores.jsonl", workers, progress
        )
    for earlier in sorted(compare.glob("*/scores.jsonl")) if compare else []:
        rows.setdefault(earlier.parent.name, read_jsonl(earlier))
    with progress_bar(f"score {name}") as progress:
        rows[name] = score_set(scene_set, estimates, out / name / "scores.jsonl", workers, progress)
    report(rows, out, name, {"data": scene_set.identity})
    failed = [row for row in rows[name] if row["error"]]
    for row in failed[:5]:
        print(f"not scored: {row['id']}: {row['error']}")
    if len(failed) > 5:
        print(f"not scored: {len(failed) - 5} more scenes, see {out / name / 'scores.jsonl'}")
    return EXIT_NOT_ALL_SCORED if failed else 0
