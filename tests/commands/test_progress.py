"""Progress of commands where output is no terminal."""

from __future__ import annotations

import pytest

from msdet.commands._progress import progress_bar


def test_line_at_the_first_step_and_then_after_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("train", every_s=3600.0) as progress:
        for step in (1, 2, 9):
            progress(step, 9, "0.10 s a step, 500 MB")
    assert capsys.readouterr().out == "train: 1/9, 0.10 s a step, 500 MB\n"


def test_line_at_each_quarter_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    for lines in (True, False):
        with progress_bar("simulate", lines=lines) as progress:
            for done in range(5):
                progress(done, 4)
        expected = [f"simulate: {done}/4" for done in range(5)] if lines else []
        assert capsys.readouterr().out.splitlines() == expected
