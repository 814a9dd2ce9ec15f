"""Prints the demo's table and the path of its report, and last its figures by name as one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from msdet.io.files import read_jsonl, write_json
from msdet.scoring.comparison import differences
from msdet.scoring.summary import summarize

WIDE_DEG = 20.0


def figures(evaluation: Path, wide_only: bool) -> dict[str, float | None]:
    """Scores of the model and of `srp_beam` over scenes, all or those with talkers at least 20° apart.

    None stands for what too few scenes do not tell.
    """
    rows = {
        name: [
            row
            for row in read_jsonl(evaluation / name / "scores.jsonl")
            if not wide_only or row["azimuth_gap_deg"] >= WIDE_DEG
        ]
        for name in ("model", "srp_beam")
    }
    scores = summarize(rows).scores if rows["model"] else {}

    def value(system: str, metric: str) -> float | None:
        interval = scores[system][metric].interval if scores else None
        return None if interval is None else round(interval.value, 4)

    metric = "si_sdr_improvement_db"
    difference = differences(rows["model"], rows["srp_beam"], [metric]).get(metric) if scores else None
    low = None if difference is None else difference.low
    return {
        "scenes": len(rows["model"]),
        "si_sdr_improvement_db": value("model", "si_sdr_improvement_db"),
        "si_sdr_improvement_db_srp_beam": value("srp_beam", "si_sdr_improvement_db"),
        "paired_difference_low_db": None if low is None else round(low, 4),
        "doa_accuracy_10deg": value("model", "accuracy_10deg"),
        "doa_accuracy_10deg_srp_beam": value("srp_beam", "accuracy_10deg"),
        "doa_mae_deg": value("model", "doa_mae_deg"),
    }


def headline(page: str) -> str:
    """The tables of ``summary.md`` over all scenes, and the paired differences; without the breakdowns."""
    overall, _, rest = page.partition("### Azimuth gap")
    return f"{overall}{rest[rest.index('Paired differences') :]}"


def main() -> None:
    """Usage: summarize.py EXP."""
    exp = Path(sys.argv[1])
    marks = sorted((exp / "stages").iterdir())  # each stage's hash and the seconds it took when it last ran
    seconds = sum(int(mark.read_text().split()[1]) for mark in marks)
    everything = figures(exp / "evaluation", wide_only=False)
    summary = {
        "minutes": round(seconds / 60, 2),
        **figures(exp / "evaluation", wide_only=True),
        **{f"{name}_all": value for name, value in everything.items()},
    }
    write_json(exp / "summary.json", summary)
    print(headline((exp / "evaluation" / "summary.md").read_text(encoding="utf-8")))
    print(f"report: {exp / 'report.html'}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
