"""DNSMOS: the value of the package at 16 kHz, and scores of scenes without references."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from msdet.conventions import Array
from msdet.data.scene_set import SceneSet
from msdet.errors import UndefinedMetricError
from msdet.io import audio
from msdet.scoring import separation_metrics
from msdet.scoring.score import score_set, score_unprocessed
from msdet.scoring.separation_metrics import dnsmos
from msdet.scoring.summary import summarize

METRICS = ("si_sdr", "dnsmos", "dnsmos_bak")


@pytest.fixture
def loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the package: the louder, the better, at 8 kHz."""

    def run(signal: Array, sample_rate: int) -> dict[str, float]:
        assert sample_rate == 8000 and np.abs(signal).max() <= 1.0
        level = float(np.sqrt(np.mean(np.square(signal))))
        return {"sig_mos": level, "bak_mos": -level, "ovrl_mos": 10.0 * level}

    module = ModuleType("speechmos.dnsmos")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "speechmos", ModuleType("speechmos"))
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", module)
    monkeypatch.setattr(separation_metrics, "DNSMOS_RATE", 8000)


def test_scenes_without_references_are_scored(
    loudness: None, make_set: Callable[..., SceneSet], write_estimates: Callable[..., Any]
) -> None:
    whole = make_set([[10.0, 100.0], [80.0, 200.0]])
    estimates = write_estimates(whole)  # in reversed order
    scenes = (dataclasses.replace(whole.scenes[0], referenced=False), whole.scenes[1])
    scene_set = dataclasses.replace(whole, scenes=scenes)
    mixtures = score_unprocessed(scene_set, metrics=METRICS)
    rows = score_set(scene_set, estimates, metrics=METRICS, unprocessed=mixtures)
    for row, mixture, scene in zip(rows, mixtures, scenes, strict=True):
        signals = [audio.read(estimates / scene.id / f"talker{n}.wav")[0][0] for n in (2, 1)]  # as the azimuths say
        levels = [10.0 * float(np.sqrt(np.mean(np.square(signal)))) for signal in signals]
        level = 10.0 * float(np.sqrt(np.mean(np.square(whole.mixture(scene)[1]))))
        assert row["dnsmos"] == pytest.approx(levels, abs=1e-5)
        assert mixture["dnsmos"] == pytest.approx([level] * 2, abs=1e-5)
        assert row["dnsmos_improvement"] == pytest.approx([value - level for value in levels], abs=1e-5)
        assert "dnsmos" not in row["undefined"]
    assert rows[0]["si_sdr_db"] is None and rows[0]["undefined"]["si_sdr_db"] == "no references"
    assert rows[1]["si_sdr_db"] is not None
    scores = summarize({"mine": rows}).scores["mine"]
    assert scores["dnsmos"].interval.n == 2 and scores["si_sdr_db"].interval.n == 1


def test_estimates_that_do_not_fit_say_so(
    loudness: None, make_set: Callable[..., SceneSet], write_estimates: Callable[..., Any]
) -> None:
    whole = make_set([[10.0, 100.0]])
    estimates = write_estimates(whole)
    (estimates / "scene0" / "talker2.wav").unlink()
    scene_set = dataclasses.replace(whole, scenes=(dataclasses.replace(whole.scenes[0], referenced=False),))
    (row,) = score_set(scene_set, estimates, metrics=METRICS)
    assert row["dnsmos"] is None and "expected one file for each of 2 talkers" in row["undefined"]["dnsmos"]


def test_it_is_undefined_below_16_khz_of_silence_and_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UndefinedMetricError, match="16 kHz, not at 8000 Hz"):
        dnsmos(np.ones(8000), 8000)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    with pytest.raises(UndefinedMetricError, match=r"pip install msdet\[dnsmos\]"):
        dnsmos(np.ones(16000), 16000)


@pytest.mark.slow
def test_values_are_those_of_the_package() -> None:
    run = pytest.importorskip("speechmos.dnsmos").run
    noise = 0.01 * np.random.default_rng(0).standard_normal(160_000)
    theirs = run(noise, 16000)
    found = dnsmos(noise, 16000)
    assert found == pytest.approx((theirs["sig_mos"], theirs["bak_mos"], theirs["ovrl_mos"]))
    assert found.overall == pytest.approx(1.079, abs=1e-3)
    assert dnsmos(10.0 * noise, 16000) != pytest.approx(found, abs=0.05)  # it depends on the level
    with pytest.raises(UndefinedMetricError, match="silent"):
        dnsmos(np.zeros(16000), 16000)
    assert 1.0 < dnsmos(noise.repeat(3), 48000).overall < 2.0
