"""Text and structures of strangers: refused in one line, or read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msdet.cli import main
from msdet.errors import MsdetError
from msdet.io.files import read_json, read_jsonl
from msdet.io.reading import read_text, read_toml

DEEP = 200_000


@pytest.mark.parametrize(
    ("read", "text", "reason"),
    [
        (read_json, "[" * DEEP, "nested too deep"),
        (read_json, '{"a":' * DEEP, "nested too deep"),
        (read_json, f'{{"a": {"9" * 400}}}', "an integer of 400 digits"),
        (read_json, f'{{"a": {"9" * 5000}}}', "an integer of 5000 digits"),
        (read_json, '"a\\ud800b"', "half a surrogate pair"),
        (read_json, "{", "not JSON"),
        (read_toml, "a = " + "[" * DEEP, "nested too deep"),
        (read_toml, f"a = [1, {{ b = {'9' * 400} }}]", "an integer of 400 digits"),
        (read_toml, "a", "not valid TOML"),
    ],
)
def test_refused_in_a_line(tmp_path: Path, read: Callable[[Path], Any], text: str, reason: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(MsdetError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and reason in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"ok \xe9"])
def test_text_of_another_encoding_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(MsdetError, match="is not UTF-8 text"):
        read_text(tmp_path / "x")


def test_files_of_windows_editors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'\xef\xbb\xbfa = 1\r\nb = "c"\r\n')
    assert read_toml(path) == {"a": 1, "b": "c"}
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"seed": 18446744073709551615}\r\n')
    assert read_jsonl(path) == [{"a": 1}, {"seed": 2**64 - 1}]


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"name": "a\u2028b"}\n', encoding="utf-8")
    assert read_jsonl(path) == [{"name": "a\u2028b"}]


def test_what_never_ends_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msdet.io.reading.MAX_TEXT_BYTES", 1_000_000)
    (tmp_path / "x").symlink_to("/dev/zero")
    with pytest.raises(MsdetError, match="x: is more than 1 MB of text"):
        read_text(tmp_path / "x")


def test_configurations_and_tables_of_windows_editors_are_read(speech: Path, tmp_path: Path) -> None:
    """Bytes of the set are those of files with neither byte-order mark nor carriage returns."""
    made = []
    for name, end, mark in (("unix", "\n", ""), ("windows", "\r\n", "\ufeff")):
        corpus = Path(shutil.copytree(speech, tmp_path / name / "speech"))
        scenes, config = tmp_path / name / "scenes.yaml", tmp_path / name / "config.yaml"
        lines = {
            corpus / "speakers.tsv": (corpus / "speakers.tsv").read_text().splitlines(),
            tmp_path / name / "array.toml": [
                'name = "mine"',
                "positions_m = [[0.05, 0, 0],",
                "  [-0.05, 0, 0], [0, 0.05, 0]]",
            ],
            scenes: ["duration_s: 0.5", "t60_s: [0, 0]", f"array: {tmp_path / name / 'array.toml'}"],
            config: [f"speech: {corpus}", "split: dev", "count: 1", "jobs: 1", f"scenes: {scenes}"],
        }
        for path, text in lines.items():
            path.write_bytes((mark + "".join(f"{line}{end}" for line in text)).encode())
        assert main(["simulate", str(tmp_path / name / "set"), "--config", str(config)]) == 0
        made.append((tmp_path / name / "set" / "SHA256SUMS").read_text().splitlines()[:-1])
    assert made[0] == made[1] != []
