"""Paired differences between systems on the same scenes, as people read them."""

from __future__ import annotations

from typing import Any

from msdet.errors import MsdetError
from msdet.evaluation.scoring import Row
from msdet.evaluation.summary import METRICS, paired_difference

COMPARED = ("si_sdr_improvement_db", "stoi", "doa_mae_deg", "accuracy_5deg", "accuracy_10deg")


def paired_differences(
    rows: dict[str, list[Row]], of: str, against: str
) -> dict[str, dict[str, float | None]]:
    """System `of` less system `against` by metric: value, low and high of its 95 % interval, and scenes.

    Metrics that the two systems share no scene of (no DoA, for one) are left out; one scene has no interval.
    """
    found = {}
    for metric in COMPARED:
        try:
            interval = paired_difference(rows[of], rows[against], metric)
        except MsdetError:
            continue
        found[metric] = interval._asdict()
    return found


def all_differences(rows: dict[str, list[Row]], of: str) -> dict[str, dict[str, Any]]:
    """`paired_differences` of one system against each of the others."""
    return {other: paired_differences(rows, of, other) for other in rows if other != of}


def differences_markdown(differences: dict[str, dict[str, Any]], of: str) -> str:
    """A table of `all_differences`."""
    lines = [
        f"Paired differences: {of} less another system",
        "",
        "| against | metric | difference | 95 % interval | scenes |",
        "|---|---|---:|---:|---:|",
    ]
    for other, metrics in differences.items():
        for name, d in metrics.items():
            m = METRICS[name]
            value, low, high = (
                "-" if d[k] is None else f"{m.scale * d[k]:+.{m.decimals}f}" for k in ("value", "low", "high")
            )
            lines.append(f"| {other} | {m.label} | {value} | {low} to {high} | {d['n']:.0f} |")
    return "\n".join(lines) + "\n"
