"""``msdet score``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar, usable_cores
from msdet.commands._results import EXIT_NOT_ALL_SCORED, Format, show_results, split_names, tell_failures
from msdet.errors import MsdetError
from msdet.evaluation.breakdowns import DEFAULT_BREAKDOWNS, find_breakdowns
from msdet.evaluation.metrics import DEFAULT_METRICS, check_metrics

if TYPE_CHECKING:
    from msdet.evaluation.values import Row


def score(
    data: Path,
    estimates: Path,
    out: Path,
    name: str = "estimates",
    compare: Path | None = None,
    metrics: str = ",".join(DEFAULT_METRICS),
    by: str = ",".join(DEFAULT_BREAKDOWNS),
    format: Format = "text",
    jobs: int = 0,
) -> int:
    """Score a folder of anyone's estimates beside the unprocessed mixture.

    The folder holds <scene id>/talker1.wav, talker2.wav and so on, or doa.jsonl with rows
    {"id", "azimuth_deg"} in the same order of talkers, or both. Exit code 1 if anything could not be scored,
    2 if nothing could.

    Args:
        data: rendered data set.
        estimates: folder of estimates.
        out: folder for scores.jsonl of each system, summary.json and summary.md.
        name: what to call the system.
        compare: folder of an earlier evaluation or scoring of the same data; its systems join the summary.
        metrics: of the audio, between commas: si_sdr, sdr, sir, sar, snr, stoi, estoi, pesq.
        by: breakdowns, between commas: azimuth_gap, t60, straddling, sector, distance, snr, talkers, overlap,
            gender, or all; a*b crosses two.
        format: of what is printed: text to read, or md, latex, csv or json to paste.
        jobs: processes; 0 for one a core.
    """
    from msdet.commands.compare import read_scores
    from msdet.data.manifest import SceneSet
    from msdet.evaluation.curves import curve_notes, curves
    from msdet.evaluation.directions import read_directions
    from msdet.evaluation.scoring import score_set, score_unprocessed
    from msdet.evaluation.submission import listed, unknown_scenes
    from msdet.files import write_json

    chosen, breakdowns = check_metrics(split_names(metrics)), split_names(by)
    find_breakdowns(breakdowns)
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
    with progress_bar("score unprocessed", lines=format == "text") as progress:
        rows["unprocessed"] = score_unprocessed(
            scene_set, out / "unprocessed" / "scores.jsonl", workers, progress, chosen
        )
    for system, path in compared.items():
        rows.setdefault(system, read_scores(path))
    with progress_bar(f"score {name}", lines=format == "text") as progress:
        rows[name] = score_set(
            scene_set, estimates, out / name / "scores.jsonl", workers, progress, chosen, rows["unprocessed"]
        )
    certainty = curves(scene_set, read_directions(estimates) or {}, rows[name])
    write_json(out / name / "curves.json", certainty)
    remarks = curve_notes(name, certainty)
    if unknown := unknown_scenes(scene_set, estimates):
        remarks.append(
            f"{name}: estimates of {len(unknown)} scenes that the set has not ({listed(unknown)})."
        )
    show_results(rows, out, name, {"data": scene_set.identity}, breakdowns, format, remarks)
    stream = sys.stdout if format == "text" else sys.stderr
    complete = tell_failures(rows[name], out / name / "scores.jsonl", stream)
    return 0 if complete else EXIT_NOT_ALL_SCORED
