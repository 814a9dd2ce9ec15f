"""Where scores come from: what is written beside them, read, and told without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from msdet.errors import MsdetError
from msdet.io.files import read_json, write_json
from msdet.scoring.provenance import SYSTEM_FILE, Provenance, read_provenance, write_provenance


def test_what_is_written_is_read_and_may_move_with_its_estimates(tmp_path: Path) -> None:
    folder, estimates = tmp_path / "exp" / "scores" / "mine", tmp_path / "exp" / "theirs"
    estimates.mkdir(parents=True)
    write_provenance(folder, "abc", estimates, is_oracle=True)
    assert read_json(folder / SYSTEM_FILE)["estimates"] == "../../theirs"
    assert read_provenance(folder) == Provenance("abc", estimates.resolve(), True)
    shutil.move(tmp_path / "exp", tmp_path / "moved")
    moved = read_provenance(tmp_path / "moved" / "scores" / "mine")
    assert moved.estimates == (tmp_path / "moved" / "theirs").resolve()
    write_provenance(folder, "abc", None)
    assert read_provenance(folder) == Provenance("abc", None, False)


@pytest.mark.parametrize(
    ("name", "is_oracle"),
    [
        ("oracle_irm", True), ("lcmv,doa=oracle", True), ("mask_mvdr,masks=oracle", True), ("oracle", True),
        ("srp_beam", False), ("oracular", False), ("model", False),
    ],
)  # fmt: skip
def test_without_a_note_the_name_says_who_is_an_oracle(tmp_path: Path, name: str, is_oracle: bool) -> None:
    assert read_provenance(tmp_path / name) == Provenance(None, None, is_oracle)
    write_provenance(tmp_path / name, "abc", None, not is_oracle)
    assert read_provenance(tmp_path / name).is_oracle != is_oracle


def test_without_a_note_the_summary_says_of_which_data(tmp_path: Path) -> None:
    summaries: list[tuple[Any, str | None]] = [({"data": "abc"}, "abc"), ({"data": 1}, None), ([], None)]
    for summary, data in summaries:
        write_json(tmp_path / "summary.json", summary)
        assert read_provenance(tmp_path / "mine").data == data
    write_json(tmp_path / "summary.json", {"data": "abc"})
    write_provenance(tmp_path / "mine", "def", None)
    assert read_provenance(tmp_path / "mine").data == "def"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "system.json: holds a list, expected an object"),
        ({"data": 1}, "system.json: data is 1, expected str or null"),
        ({"oracle": "yes"}, "system.json: oracle is 'yes', expected bool or null"),
    ],
)
def test_a_faulty_note_is_told(tmp_path: Path, content: Any, message: str) -> None:
    write_json(tmp_path / SYSTEM_FILE, content)
    with pytest.raises(MsdetError, match=message):
        read_provenance(tmp_path)
