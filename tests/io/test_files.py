"""Names that come from outside, and folders that msdet deletes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msdet.errors import MsdetError
from msdet.io.files import (
    FolderKind,
    check_own_folder,
    plain_name,
    relative_path,
    remove_folder,
    resolve_inside,
    write_json,
    write_text,
)
from msdet.io.jobs import run_jobs

ROOT = Path(__file__).resolve().parents[2]
KIND = FolderKind("estimates", ("data.json",), "hash", r"data\.json|[^/]+/|[^/]+/talker\d+\.wav")


@pytest.mark.parametrize("name", ["train-000001", "01to030v_0.45", "ｓ１", "two words", "a..b", "-x", "é" * 100])
def test_a_plain_name_is_left_as_it_is(name: str) -> None:
    assert plain_name(name, "id", "here") == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x", "/etc", "a/b", "a\\b", ".hidden", "a\0b", "a\nb", "\x1b[2J", "\ud800",
        "\u202e", "a" * 201, "é" * 101, None, 3, ["a"],
    ],
)  # fmt: skip
def test_another_name_is_one_line_that_shows_it_escaped(name: Any) -> None:
    with pytest.raises(MsdetError, match=r"^set\.jsonl, line 3: id is .*, expected a plain name") as refused:
        plain_name(name, "id", "set.jsonl, line 3")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 250


@pytest.mark.parametrize("path", ["/a", "..", "../a", "a/../b", "a/..", "a\0", "a\nb", "\udcff.wav"])
def test_a_path_that_leaves_is_refused(path: str) -> None:
    with pytest.raises(MsdetError, match=r"corpus: path is .*, expected a path that stays") as refused:
        relative_path(path, "path", "corpus")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("path", ["", "a/b.wav", "a..b/..c", "s\u200c1/ü .flac", "x" * 255])
def test_a_path_that_stays_is_left_as_it_is(path: str) -> None:
    assert relative_path(path, "path", "corpus") == path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Estimates as msdet writes them, and as a kill may leave them."""
    write_json(tmp_path / "out" / "data.json", {"kind": "estimates", "hash": "x"})
    for name in ("scene 1/talker1.wav", "scene 1/.part-0123-4-x.wav", ".part-0123-4-y.json"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    return tmp_path / "out"


@pytest.mark.parametrize("marker", [{"kind": "estimates", "hash": "x"}, {"hash": "of before kinds"}])
def test_what_msdet_wrote_is_deleted(folder: Path, marker: dict[str, str]) -> None:
    write_json(folder / "data.json", marker)
    remove_folder(folder, KIND)
    assert not folder.exists()
    remove_folder(folder, KIND)  # nothing there
    folder.mkdir()
    remove_folder(folder, KIND)
    assert not folder.exists()


def _link_inside(folder: Path) -> None:
    (folder / "scene 2").symlink_to(folder.parent / "canary")


def _link_instead(folder: Path) -> None:
    folder.rename(folder.with_name("canary 2"))
    folder.symlink_to(folder.with_name("canary 2"))


DAMAGE = {
    "not marked": (lambda f: (f / "data.json").unlink(), "has no data.json of msdet's estimates"),
    "of another kind": (lambda f: write_json(f / "data.json", {"kind": "lists", "hash": "x"}), "has no data"),
    "of another program": (lambda f: write_json(f / "data.json", {"a": 1}), "has no data.json"),
    "marker is a list": (lambda f: write_json(f / "data.json", ["hash"]), "has no data.json"),
    "marker is damaged": (lambda f: (f / "data.json").write_text("{"), "data.json: not JSON"),
    "a file of the user's": (lambda f: (f / "thesis.tex").touch(), "holds 'thesis.tex', which is not of"),
    "deep": (lambda f: (f / "scene 1" / "a\nb").touch(), r"holds 'scene 1/a\\nb', which is not"),
    "a folder of the user's": (lambda f: (f / "scene 1" / "a").mkdir(), "holds 'scene 1/a', which is not"),
    "a link inside": (_link_inside, "holds 'scene 2', which is not"),
    "a link": (_link_instead, "is a link or a file"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_anything_else_is_left_alone(folder: Path, damage: str) -> None:
    (folder.parent / "canary").mkdir()
    (folder.parent / "canary" / "talker1.wav").touch()
    change, message = DAMAGE[damage]
    change(folder)
    before = sorted(folder.parent.rglob("*"))
    for act in (check_own_folder, remove_folder):
        with pytest.raises(MsdetError, match=message) as refused:
            act(folder, KIND)
        assert str(refused.value).isprintable()
    assert sorted(folder.parent.rglob("*")) == before


def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(MsdetError, match="is a link or a file"):
        remove_folder(tmp_path / "out", KIND)
    assert (tmp_path / "out").read_text() == "mine"


def test_folders_are_deleted_in_one_place() -> None:
    files = [
        p for name in ("msdet", "recipes", "tools") for p in (ROOT / name).rglob("*") if p.suffix in (".py", ".sh")
    ]
    found = [p for p in files if re.search(r"rmtree|removedirs|\brm +-\w*[rR]", p.read_text(encoding="utf-8"))]
    assert found == [ROOT / "msdet" / "io" / "files.py"]


def test_link_in_a_circle_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(MsdetError, match="path 'a' leads nowhere"):
        resolve_inside(tmp_path, "a")


def test_what_a_killed_run_left_is_deleted_by_the_next_that_writes_there(tmp_path: Path) -> None:
    write = "import os; from pathlib import Path; from msdet.io.files import atomic_path\n"
    write += "with atomic_path(Path('out.txt')) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", write], cwd=tmp_path, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".part-of-a-user").touch()
    write_text(tmp_path / "out.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-of-a-user", "out.txt"]


def test_more_processes_than_any_machine_has_are_refused() -> None:
    with pytest.raises(MsdetError, match="jobs is 300000, expected at most 1024"):
        run_jobs([], 300_000)
