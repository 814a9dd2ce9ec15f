"""ROC, precision and recall of a system's DoA posterior, and the calibration of its confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

from msdet.conventions import Array, class_azimuths_deg
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.scoring.doa_metrics import azimuth_errors_deg
from msdet.scoring.doa_scores import moves
from msdet.scoring.metrics import Row
from msdet.scoring.submission import DoaEstimates

TOLERANCE_DEG = 10.0  # a direction within this of a talker's counts as that talker's
CALIBRATION_BINS = 10
_MAX_POINTS = 200  # of a curve


def curves(scene_set: SceneSet, lines: dict[str, dict[str, Any]], rows: list[Row]) -> dict[str, Any]:
    """ROC and precision-recall of a system's posterior, and calibration of its confidence; null without.

    `lines` are those of its ``doa.jsonl`` by scene, `rows` its scores.
    """
    return {
        "tolerance_deg": TOLERANCE_DEG,
        "posterior": posterior_curves(*_posterior_scores(scene_set, lines)),
        "calibration": calibration(rows),
    }


def posterior_curves(talkers: Array, elsewhere: Array, peaks: Array) -> dict[str, Any] | None:
    """Receiver operating characteristic, and precision over recall, as a threshold on the posterior falls.

    A talker is detected where the posterior near its direction reaches the threshold. A false alarm is, for
    the ROC, a direction away from all talkers that does; for the precision, a peak there.

    The posterior is given as ``(talker,)``, the highest near each talker; ``(direction,)``, that at each direction
    away from all; and ``(peak,)``, those of these that are local maxima. Returned are thresholds, descending, with the
    rates at each, and areas; None without talkers or directions elsewhere.
    """
    from scipy.integrate import trapezoid

    if not talkers.size or not elsewhere.size:
        return None
    thresholds = np.unique(np.concatenate([talkers, elsewhere]))[::-1]
    hits, alarms, false = (  # how many of each reach each threshold
        values.size - np.searchsorted(np.sort(values), thresholds) for values in (talkers, elsewhere, peaks)
    )
    recall, false_rate = hits / talkers.size, alarms / elsewhere.size
    precision = hits / np.maximum(hits + false, 1)
    shown = np.unique(np.linspace(0, thresholds.size - 1, _MAX_POINTS).round().astype(int))
    return {
        "talkers": talkers.size,
        "directions_elsewhere": elsewhere.size,
        "roc_area": round(float(trapezoid(np.append(0.0, recall), np.append(0.0, false_rate))), 6),
        "average_precision": round(float(np.sum(np.diff(recall, prepend=0.0) * precision)), 6),
        "threshold": thresholds[shown].round(6).tolist(),
        "true_positive_rate": recall[shown].round(6).tolist(),
        "false_positive_rate": false_rate[shown].round(6).tolist(),
        "precision": precision[shown].round(6).tolist(),
    }


def calibration(rows: list[Row]) -> dict[str, Any] | None:
    """How often an estimate is right by its confidence: a reliability diagram.

    Guo et al., "On calibration of modern neural networks", ICML 2017. Right is an error up to `TOLERANCE_DEG`, under
    the permutation of the scene. A bin of confidence has its ends, mean confidence, share of right estimates and their
    number; the mean gap between the two is weighted by number, or ``undefined`` says why there is none. None where no
    row has a confidence.
    """
    pairs = [
        (c, e)
        for row in rows
        for c, e in zip(row.get("doa_confidence") or (), row.get("doa_error_deg") or (), strict=False)
        if c is not None and e is not None
    ]
    if not pairs:
        return None
    confidence, error_deg = np.array(pairs, dtype=np.float64).T
    if confidence.min() < 0.0 or confidence.max() > 1.0:
        span = f"{confidence.min():.4g} to {confidence.max():.4g}"
        return {"undefined": f"confidences are {span}, expected probabilities from 0 to 1"}
    right = error_deg <= TOLERANCE_DEG
    place = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = [
        {
            "low": k / CALIBRATION_BINS,
            "high": (k + 1) / CALIBRATION_BINS,
            "confidence": round(float(confidence[place == k].mean()), 6),
            "accuracy": round(float(right[place == k].mean()), 6),
            "n": int((place == k).sum()),
        }
        for k in np.unique(place).tolist()
    ]
    gap = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(pairs)
    return {"expected_calibration_error": round(gap, 6), "n": len(pairs), "bins": bins}


def curve_notes(name: str, of_system: dict[str, Any]) -> list[str]:
    """The `curves` of a system in a line each."""
    notes, posterior, reliability = [], of_system["posterior"], of_system["calibration"]
    if posterior:
        notes.append(
            f"{name}: posterior, within {TOLERANCE_DEG:g} deg: area under the ROC "
            f"{posterior['roc_area']:.3f}, average precision {posterior['average_precision']:.3f}."
        )
    if reliability and "undefined" in reliability:
        notes.append(f"{name}: confidence not calibrated ({reliability['undefined']}).")
    elif reliability:
        notes.append(
            f"{name}: confidence and share within {TOLERANCE_DEG:g} deg differ by "
            f"{100 * reliability['expected_calibration_error']:.1f} % on average."
        )
    return notes


def _posterior_scores(scene_set: SceneSet, lines: dict[str, dict[str, Any]]) -> tuple[Array, Array, Array]:
    """The arguments of `posterior_curves`, of all scenes with a posterior and without moving talkers."""
    talkers, elsewhere, peaks = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for scene in scene_set.scenes:
        try:
            posterior = DoaEstimates.from_row(lines.get(scene.id)).posterior
            if posterior is None or not scene.located or moves(scene):
                continue
            spectrum = posterior.max(axis=0)
            classes_deg = class_azimuths_deg(len(spectrum))
            distance = azimuth_errors_deg(scene.azimuths_deg[:, None], classes_deg[None], scene_set.array)
        except MsdetError:  # its row says so
            continue
        near = distance <= max(TOLERANCE_DEG, 180.0 / len(spectrum))  # coarse classes still hold their talkers
        away = ~near.any(axis=0)
        is_peak = (spectrum >= np.roll(spectrum, 1)) & (spectrum > np.roll(spectrum, -1))
        talkers.append(np.where(near, spectrum, -np.inf).max(axis=1))
        elsewhere.append(spectrum[away])
        peaks.append(spectrum[away & is_peak])
    return np.concatenate(talkers), np.concatenate(elsewhere), np.concatenate(peaks)
