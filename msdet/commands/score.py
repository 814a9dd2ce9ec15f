"""``msdet score``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._results import EXIT_NOT_ALL_SCORED, Format, print_failures
from msdet.commands._scoring import SCORES, Scoring, ScoringRequest
from msdet.commands.compare import read_scores
from msdet.errors import MsdetError
from msdet.io.files import plain_name
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS
from msdet.scoring.metrics import DEFAULT_METRICS, UNPROCESSED

if TYPE_CHECKING:
    from msdet.data.scene_set import SceneSet
    from msdet.scoring.metrics import Row


def score(
    data: Path,
    estimates: Path,
    out: Path,
    name: str = "estimates",
    compare: Path | None = None,
    metrics: str = ",".join(DEFAULT_METRICS),
    by: str = ",".join(DEFAULT_BREAKDOWNS),
    format: Format = "text",
    align: bool = False,
    resample: bool = False,
    jobs: int = 0,
) -> int:
    """Score a folder of anyone's estimates beside the unprocessed mixture.

    The folder holds <scene id>/talker1.wav, talker2.wav and so on, or spk1.scp, spk2.scp and so on with lines
    "<scene id> <path>"; or doa.jsonl with rows {"id", "azimuth_deg"} in the same order of talkers; or both. Exit
    code 1 if anything could not be scored, 2 if nothing could.

    Args:
        data: rendered data set.
        estimates: folder of estimates.
        out: folder for scores.jsonl of each system, summary.json and summary.md.
        name: what to call the system.
        compare: folder of an earlier evaluation or scoring of the same data; its systems join the summary.
        metrics: of the audio, between commas: si_sdr, sdr, sir, sar, snr, stoi, estoi, pesq, and, without
            references too, dnsmos, dnsmos_sig, dnsmos_bak.
        by: breakdowns, between commas: azimuth_gap, t60, straddling, sector, distance, snr, talkers, overlap,
            gender, or all; a*b crosses two.
        format: of what is printed: text to read, or md, latex, csv or json to paste.
        align: take out a constant delay of the estimates, which is told in any case.
        resample: resample estimates of another sample rate.
        jobs: processes; 0 for one a core.
    """
    from msdet.data.scene_set import SceneSet

    request = ScoringRequest.parse(metrics, by, format, jobs)
    if not re.fullmatch(r"\w[\w.-]*", name) or name == UNPROCESSED:
        raise MsdetError(f"name is '{name}', expected letters, digits, '.', '_' or '-' (not '{UNPROCESSED}')")
    plain_name(name, "name", "score")
    scoring = Scoring(SceneSet.open(data), out, request)
    compared = {} if compare is None else _compared(compare, scoring.scene_set)
    if name in compared:
        raise MsdetError(f"{compare}: has a system '{name}' too; choose another --name")
    scoring.score_mixture()
    scoring.rows |= {system: rows for system, rows in compared.items() if system != UNPROCESSED}
    scoring.score(name, estimates, align=align, resample=resample)
    scoring.show(name)
    complete = print_failures(scoring.rows[name], scoring.scores(name), request.stream)
    return 0 if complete else EXIT_NOT_ALL_SCORED


def _compared(folder: Path, scene_set: SceneSet) -> dict[str, list[Row]]:
    """Scores of the systems of an earlier evaluation of the same data set."""
    from msdet.scoring.provenance import read_provenance

    systems = sorted(path.parent for path in folder.glob(f"*/{SCORES}"))
    if not systems:
        is_system = (folder / SCORES).is_file()
        hint = f"; it is a system's own folder, did you mean {folder.resolve().parent}?" if is_system else ""
        raise MsdetError(f"{folder}: holds no <system>/{SCORES} to compare with{hint}")
    expected = scene_set.identity
    for system in systems:
        if (data := read_provenance(system).data) not in (None, expected):
            raise MsdetError(f"{system}: was scored on a data set with hash {data}, {scene_set.root} has {expected}")
    return {plain_name(system.name, "name of a system", folder): read_scores(system) for system in systems}
