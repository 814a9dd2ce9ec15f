"""Packages: read in memory from a tar, which is not trusted; shipped models go by name."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from msdet.arrays import load_array
from msdet.errors import MsdetError
from msdet.models import packages
from msdet.models.checkpoint import load_model, read_description, save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.models.packages import (
    MODEL_FILE,
    WEIGHTS_FILE,
    Shipped,
    choose_shipped,
    find_model,
    shipped_models,
    write_package,
)

Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    root = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    model = JointModel(ModelConfig(encoder_options={"hidden": 8, "group": 8}), load_array("circular4_5cm"), 8000)
    save_model(root, model, {})
    return root


@pytest.fixture
def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (MODEL_FILE, WEIGHTS_FILE)}


def test_a_tar_holds_the_same_model_and_leaves_nothing_behind(
    folder: Path, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "a" / "m.tar", files)
    write_package(tmp_path / "b" / "m.tar", dict(reversed(files.items())))
    assert (tmp_path / "a" / "m.tar").read_bytes() == (tmp_path / "b" / "m.tar").read_bytes()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    loaded, original = load_model(tmp_path / "a" / "m.tar"), load_model(folder)
    assert loaded.array == original.array
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not list(temporary.iterdir())
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["m.tar"]
    with tarfile.open(tmp_path / "a" / "m.tar") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


def test_a_tar_that_a_person_packed_loads(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "own.tar", "w") as archive:
        archive.add(folder, "own")
    assert load_model(tmp_path / "own.tar").sample_rate == 8000
    assert read_description(str(tmp_path / "own.tar"))["sample_rate"] == 8000


def plain(name: str, content: bytes = b"{}") -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def link(name: str, kind: bytes) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member, b""


def sparse(name: str, size: int) -> Member:
    member, content = plain(name)
    member.size = 514
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    return member, b"1\n0\n2\n".ljust(512, b"\0") + content


HOSTILE: dict[str, tuple[list[Member], str]] = {
    "elsewhere": ([plain("/tmp/model.json")], "holds '/tmp/model.json', expected files at the top"),
    "above": ([plain("../model.json")], "holds '../model.json', expected files at the top"),
    "deep": ([plain("a/b/model.json")], "holds 'a/b/model.json', expected files at the top"),
    "two folders": ([plain("a/model.json"), plain("b/scores.json")], "holds 'b/scores.json', expected"),
    "link": ([link("model.json", tarfile.SYMTYPE)], "holds 'model.json', which is not a plain file"),
    "hard link": ([link("model.json", tarfile.LNKTYPE)], "which is not a plain file"),
    "device": ([link("model.json", tarfile.CHRTYPE)], "which is not a plain file"),
    "sparse": ([sparse("model.json", 900_000)], "holds 'model.json', which is not a plain file"),
    "pickle": ([plain("model.json"), plain("last.ckpt")], "holds 'last.ckpt', expected only README.md"),
    "twice": ([plain("model.json"), plain("model.json")], "holds model.json twice"),
    "many": ([plain(f"{n}/") for n in range(40)], "holds '0/', expected only"),
    "no model": ([plain("README.md")], "holds no model.json"),
    "not JSON": ([plain("model.json", b"{")], "model.json: not JSON"),
    "deep JSON": ([plain("model.json", b"[" * 100_000)], "model.json: not JSON"),
    "another description": ([plain("model.json")], "model.json: not a description of an msdet model"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar_is_one_clear_line(case: str, tmp_path: Path) -> None:
    members, message = HOSTILE[case]
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(MsdetError) as refused:
        load_model(tmp_path / "x.tar")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_a_file_that_is_too_large_is_not_read(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "m.tar", files)
    monkeypatch.setitem(packages.MAX_BYTES, WEIGHTS_FILE, 1000)
    with pytest.raises(MsdetError, match=r"model.safetensors has \d+ bytes, expected at most 1000"):
        load_model(tmp_path / "m.tar")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[: len(b) // 2], "not readable as a package"),
        (lambda b: b"", "not readable as a package"),
        (lambda b: b"\x1f\x8b" + b, "not readable as a package"),
    ],
)
def test_a_damaged_tar_is_one_clear_line(
    damage: Callable[[bytes], bytes], message: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    write_package(tmp_path / "m.tar", files)
    (tmp_path / "m.tar").write_bytes(damage((tmp_path / "m.tar").read_bytes()))
    with pytest.raises(MsdetError, match=message):
        load_model(tmp_path / "m.tar")


def test_weights_that_are_not_safetensors_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    write_package(tmp_path / "m.tar", files | {WEIGHTS_FILE: b"\x80\x04 pickled"})
    with pytest.raises(MsdetError, match=r"m.tar/model.safetensors: not readable as safetensors"):
        load_model(tmp_path / "m.tar")


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(MsdetError, match="is a file, expected a checkpoint directory or a package"):
        find_model(tmp_path / "model.safetensors")


def test_shipped_models_go_by_name(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_shipped_folder", lambda: tmp_path / "none")
    assert shipped_models() == []
    with pytest.raises(MsdetError, match=r"^tiny_8k: no such checkpoint directory$"):
        find_model("tiny_8k")
    monkeypatch.setattr(packages, "_shipped_folder", lambda: tmp_path)
    write_package(tmp_path / "tiny_8k", files)
    assert shipped_models() == [Shipped("tiny_8k", "circular4_5cm", 4, 8000, 2)]
    assert load_model("tiny_8k").array.name == "circular4_5cm"
    with pytest.raises(MsdetError, match="no shipped model; did you mean 'tiny_8k'"):
        find_model("tiny_16k")
    monkeypatch.chdir(tmp_path / "tiny_8k")
    (tmp_path / "tiny_8k" / "tiny_8k").mkdir()  # a folder of one's own comes first
    with pytest.raises(MsdetError, match=r"tiny_8k/model.json: no such file"):
        load_model("tiny_8k")


@pytest.mark.parametrize(
    ("sample_rate", "array", "name"),
    [(8000, "a", "a8"), (11025, "a", "a8"), (16000, "a", "a16"), (48000, "a", "a16"), (4000, "a", "a8"),
     (48000, "b", "b8"), (16000, "mine", "a16"), (8000, None, "a8")],
)  # fmt: skip
def test_the_shipped_model_fits_rate_and_array(sample_rate: int, array: str | None, name: str) -> None:
    models = [
        Shipped("a16", "a", 6, 16000, 2), Shipped("a8", "a", 6, 8000, 2), Shipped("b8", "b", 4, 8000, 2)
    ]  # fmt: skip
    assert choose_shipped(models, sample_rate, array).name == name


@pytest.mark.parametrize(
    ("array", "talkers", "name"), [("a", None, "a8"), ("mine", None, "any"), ("a", 3, "any"), (None, 2, "a8")]
)
def test_the_model_for_any_array_serves_other_arrays(array: str | None, talkers: int | None, name: str) -> None:
    any_array = Shipped("any", "circle", 4, 16000, 4, any_array=True)
    models = [Shipped("a8", "a", 6, 8000, 2), Shipped("a16", "a", 6, 16000, 2), any_array]
    fitting = [model for model in models if model.serves(talkers)]
    assert choose_shipped(fitting, 8000, array).name == name
    assert choose_shipped(fitting, 16_000, array).name == ("a16" if array is None else "any")
    assert not any_array.serves(5)


def test_a_name_may_be_as_long_as_a_file_systems(files: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / f"{'ä' * 100}.tar"
    write_package(out, files)
    assert load_model(out).sample_rate == 8000
