"""The listening page: array and warnings on top, low confidence looks low, units on the polar plot, DNSMOS."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from msdet.plots.recording import tracks_figure
from msdet.plots.theme import styles
from msdet.report.recording_page import overview, recording_page


def page(rated: bool = False, sample_rate: int = 8000) -> str:
    tone = overview([0.1 * np.sin(np.arange(sample_rate))], sample_rate, sample_rate)
    talkers = [{"azimuth_deg": 10.0, "confidence": c, "active_s": 1.0} for c in (0.95, 0.31)]
    described: dict[str, Any] = {
        "talkers": talkers,
        "array": {"name": "pair", "positions_m": [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]},
        "warnings": ["channel 3 is silent"],
        "recording": "talk.wav",
        "separated_by": "a model",
        "track": {"time_s": [0.1, 0.2], "azimuth_deg": [[10.0, 10.0], [90.0, None]]},
        "activity": [[1.0, 1.0], [1.0, 0.0]],
    }
    return recording_page("talk", described, tone, [tone, tone], rated)


def test_array_and_warnings_stand_before_all_else() -> None:
    head, _, rest = page().partition("<nav")
    assert "Array pair: 2 microphones, 10.0 cm across" in head and "channel 3 is silent" in head
    assert "channel 3 is silent" not in rest


def test_low_confidence_looks_low() -> None:
    text = page()
    assert re.findall(r'<small( class="doubtful")?>(low )?confidence ([\d.]+)', text) == [
        ("", "", "0.95"),
        (' class="doubtful"', "low ", "0.31"),
    ]
    assert "talker 2 (low confidence)" in text and "talker 1 (low" not in text


def test_the_polar_plot_has_units_where_no_talker_is() -> None:
    azimuths = np.array([[10.0, 10.0], [90.0, np.nan]])
    figure = tracks_figure(np.array([0.1, 5.9]), azimuths, np.ones((2, 2)), 6.0, [*styles("ab").values()][:2], [0, 1])
    figure.draw_without_rendering()
    polar: Any = figure.axes[1]
    assert [label.get_text() for label in polar.get_yticklabels()] == ["2 s", "4 s", "6 s"]
    assert polar.get_rlabel_position() == pytest.approx(230.0)  # between 90° and 370°
    dashes = [line.get_linestyle() for line in figure.axes[0].lines]
    assert dashes == ["-", "-", "--", "--"]


def test_dnsmos_or_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("speechmos.dnsmos")
    module.run = lambda signal, rate: {"sig_mos": 3.25, "bak_mos": 4.5, "ovrl_mos": 2.875}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "speechmos", ModuleType("speechmos"))
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", module)
    assert "DNSMOS" not in page()
    assert page(True, 16000).count("speech 3.25, background 4.50") == 3
    assert page(True).count("DNSMOS is defined at 16 kHz, not at 8000 Hz.") == 1
