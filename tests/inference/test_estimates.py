"""Estimates of a whole set."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.data.scene_set import SceneSet
from msdet.errors import WriteError
from msdet.inference.estimates import write_estimates
from msdet.methods import build_method
from msdet.methods.base import Separation


def test_a_full_disk_is_no_fault_of_a_scene(dev_set: SceneSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tempfile.mkstemp
    files = []

    def until_full(*arguments: Any, **options: Any) -> tuple[int, str]:
        files.append(1)
        if len(files) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return made(*arguments, **options)

    monkeypatch.setattr(tempfile, "mkstemp", until_full)
    separator = build_method("srp_beam", dev_set.array, dev_set.sample_rate, 2)
    with pytest.raises(WriteError, match="cannot be written"):
        write_estimates(dev_set, {2: separator}, tmp_path / "out")
    assert len(files) == 5
    assert not (tmp_path / "out" / "doa.jsonl").exists()


def test_tracks_are_written(dev_set: SceneSet, tmp_path: Path) -> None:
    def separator(mixture: Any) -> Separation:
        track_deg = np.array([[10.0, 20.0, np.nan], [200.0, 200.0, 200.0]])
        return Separation(mixture[:2], np.array([15.0, 200.0]), track_deg=track_deg)

    write_estimates(dev_set, {2: separator}, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "doa.jsonl").read_text().splitlines()]
    assert rows[0]["track"] == {
        "time_s": [0.25, 0.75, 1.25],
        "azimuth_deg": [[10.0, 20.0, None], [200.0, 200.0, 200.0]],
    }
