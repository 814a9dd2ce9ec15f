"""``msdet score``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar, usable_cores
from msdet.commands.evaluate import report
from msdet.errors import MsdetError
from msdet.evaluation.scoring import NOT_GIVEN

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
    {"id", "azimuth_deg"} in the same order of talkers, or both. Exit code 1 if anything could not be scored.

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

    if not re.fullmatch(r"\w[\w.-]*", name) or name == "unprocessed":
        raise MsdetError(f"name is '{name}', expected letters, digits, '.', '_' or '-' (not 'unprocessed')")
    compared = {path.parent.name: path for path in sorted(compare.glob("*/scores.jsonl"))} if compare else {}
    if compare and not compared:
        raise MsdetError(f"{compare}: holds no <system>/scores.jsonl to compare with")
    if name in compared:
        raise MsdetError(f"{compare}: has a system '{name}' too; choose another --name")
    scene_set = SceneSet.open(data)
    workers = jobs or usable_cores()
    rows: dict[str, list[Row]] = {}
    with progress_bar("score unprocessed") as progress:
        rows["unprocessed"] = score_unprocessed(
            scene_set, out / "unprocessed" / "scores.jsonl", workers, progress
        )
    for system, path in compared.items():
        rows.setdefault(system, read_jsonl(path))
    with progress_bar(f"score {name}") as progress:
        rows[name] = score_set(scene_set, estimates, out / name / "scores.jsonl", workers, progress)
    report(rows, out, name, {"data": scene_set.identity})
    failed = [(row["id"], reason) for row in rows[name] if (reason := not_scored(row))]
    for scene_id, reason in failed[:5]:
        print(f"not scored: {scene_id}: {reason}")
    if len(failed) > 5:
        print(f"not scored: {len(failed) - 5} more scenes, see {out / name / 'scores.jsonl'}")
    return EXIT_NOT_ALL_SCORED if failed else 0


def not_scored(row: Row) -> str | None:
    """Why a scene, or a metric in it, has no score; None for what the system does not give at all."""
    if row["error"]:
        return str(row["error"])
    undefined = {metric: why for metric, why in row["undefined"].items() if why not in NOT_GIVEN}
    return "; ".join(f"{metric}: {why}" for metric, why in undefined.items()) or None
