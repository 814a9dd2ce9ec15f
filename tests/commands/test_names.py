"""Names in files of strangers: none leads a command out of its folders, each is one line."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msdet.cli import main
from msdet.corpora import Corpus, Utterance
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io.files import read_json, read_jsonl, write_json
from msdet.scenes.noise import read_noise_folder

Files = Callable[[Path], dict[str, bytes]]
Row = dict[str, Any]

IDS = {
    "absolute": "{canary}",
    "climbs": "../../canary",
    "climbs from estimates": "../../../canary",
    "folder above": "..",
    "folder itself": ".",
    "NUL": "a\0b",
    "too long": "x" * 256,
    "empty": "",
}
COMMANDS = {
    "evaluate": ["evaluate", "{data}", "--out", "{out}", "--jobs", "1"],
    "score": ["score", "{data}", "--estimates", "{data}", "--out", "{out}", "--jobs", "1"],
    "report": ["report", "{canary}", "--data", "{data}", "--out", "{out}.html"],
    "wer-lists": ["wer-lists", "{data}", "--estimates", "{data}", "--scores", "{canary}", "--text",
                  "{canary}/a", "--speech", "{canary}", "--out", "{out}"],
    "kaldi": ["export", "{data}", "--format", "kaldi"],
    "sms_wsj": ["export", "{data}", "--format", "sms_wsj"],
    "show-scene": ["show-scene", "{data}", "--out", "{out}.png"],
    "describe": ["describe", "{data}"],
    "info": ["info", "{data}"],
    "validate": ["validate", "{data}"],
    "train": ["train", "--out", "{out}", "--data.train", "{data}", "--data.dev", "{data}"],
}  # fmt: skip


class Place:
    """A copy of a set, a folder that must survive, and commands run between them."""

    def __init__(self, root: Path, dev_set: SceneSet, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._files, self._capsys = root, files, capsys
        self.canary, self.data, self.out = root / "canary", root / "sets" / "dev", root / "out"
        shutil.copytree(dev_set.root, self.data)
        self.canary.mkdir()
        (self.canary / "model").mkdir()
        for name in ("a", "talker1.wav", "model/scores.jsonl", "doa.json", "data.json", "training.json"):
            (self.canary / name).write_text('{"id": "a", "settings": {}, "hash": "x"}\n')

    def relabel(self, change: Callable[[Row], object]) -> None:
        """Change the second scene of the set."""
        rows = read_jsonl(self.data / "scenes.jsonl")
        change(rows[1])
        (self.data / "scenes.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def refusal(self, *arguments: object) -> str:
        """The one line of a command that changes nothing."""
        before = self._files(self.root)
        assert main([str(a).format(canary=self.canary, data=self.data, out=self.out) for a in arguments]) == 2
        (line,) = self._capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and line.isprintable()
        assert self._files(self.root) == before
        return line


@pytest.fixture
def place(tmp_path: Path, dev_set: SceneSet, file_bytes: Files, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, dev_set, file_bytes, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_scene_that_leads_elsewhere_harms_nothing(place: Place, command: str) -> None:
    for found in IDS.values():
        place.relabel(lambda row, found=found: row.update(id=found.format(canary=place.canary)))
        line = place.refusal(*COMMANDS[command])
        assert "scenes.jsonl, line 2: id is '" in line and "expected a plain name" in line


LABELS: dict[str, tuple[Callable[[Row], object], str]] = {
    "speaker": (lambda row: row["sources"][0].update(speaker="../x"), "0: speaker is '../x', expected"),
    "speech": (lambda row: row["sources"][1].update(path="/etc/x"), "sources 1: path is '/etc/x', expected"),
    "noise": (
        lambda row: row["noises"].append(
            {"kind": "spherical", "snr_db": 9.0, "material": "recordings", "excerpts": [
                {"path": "../x.wav", "offset_s": 0.0, "start_s": 0.0, "end_s": 9.0}]}
        ),
        "path of a noise is '../x.wav', expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_a_label_that_leads_elsewhere_is_refused(place: Place, label: str) -> None:
    change, message = LABELS[label]
    place.relabel(change)
    line = place.refusal("info", "{data}")
    assert "scenes.jsonl, line 2" in line and message in line


def test_tables_of_recordings_and_sets_are_read_as_carefully(place: Place) -> None:
    recording = place.data / "audio" / place.data.joinpath("wav.scp").read_text().split()[0] / "mixture.wav"
    for key in ("../canary", str(place.canary), "..", "a\x1bb", "x" * 201):
        tables = place.root / "tables"
        tables.mkdir(exist_ok=True)
        (tables / "wav.scp").write_text(f"{key} {recording}\n")
        (tables / "spk1.scp").write_text(f"{key} {recording}\n")
        for arguments in (
            ("separate", "{data}/../../tables/wav.scp", "--out", "{out}", "--method", "srp_beam", "--array",
             "circular4_5cm"),
            ("localize", "{data}/../../tables/wav.scp", "--out", "{out}", "--method", "srp_phat", "--array",
             "circular4_5cm"),
            ("import-set", "{data}/../../tables", "--out", "{out}", "--array", "circular4_5cm",
             "--target", "early"),
        ):  # fmt: skip
            assert "id is '" in (line := place.refusal(*arguments)) and "expected a plain name" in line
        write_json(tables / "sms_wsj.json", {"datasets": {"test": {key: {}}}})
        assert "id is '" in place.refusal("import-set", tables / "sms_wsj.json", "--out", "{out}")
        (tables / "sms_wsj.json").unlink()


@pytest.mark.parametrize(
    ("change", "field"), [({"speaker_id": ["a", "../b"]}, "speaker_id"), ({"source_id": ["a", "/b"]}, "source_id")]
)
def test_talkers_of_an_imported_set_are_checked(place: Place, change: Row, field: str) -> None:
    assert main(["export", str(place.data), "--format", "sms_wsj"]) == 0
    content = read_json(place.data / "sms_wsj.json")
    next(iter(content["datasets"]["dev"].values())).update(change)
    write_json(place.data / "sms_wsj.json", content)
    place._capsys.readouterr()
    line = place.refusal("import-set", "{data}/sms_wsj.json", "--array", "circular4_5cm", "--out", "{out}")
    assert f"{field} is " in line


def test_two_recordings_whose_names_are_no_folders(place: Place) -> None:
    shutil.copyfile(place.canary / "a", place.root / "...wav")  # called '..'
    line = place.refusal("separate", place.root / "...wav", "{canary}/talker1.wav", "--out", "{out}")
    assert "name of the folder for its results is '..', expected a plain name" in line


def test_a_corpus_with_such_names_is_refused(tmp_path: Path) -> None:
    for speaker, path in (("../a", "a/b.wav"), ("a", "/b.wav"), ("a", "../b.wav"), ("a\n", "b.wav")):
        with pytest.raises(MsdetError, match="expected a p"):
            Corpus(tmp_path, (Utterance(speaker, path, 1.0, "train"),))
    (tmp_path / "a\nb.wav").touch()
    with pytest.raises(MsdetError, match=r"path of a recording is 'a\\nb.wav'"):
        read_noise_folder(tmp_path)


def test_an_array_and_a_package_are_called_by_plain_names(place: Place) -> None:
    toml = place.root / "array.toml"
    toml.write_text('name = "../a"\npositions_m = [[0, 0, 0], [0.1, 0, 0]]\n')
    assert f"{toml}: name is '../a', expected a plain name" in place.refusal("info", toml)
    with tarfile.open(place.root / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a\x1b[2J/model.json")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"{}"))
    assert r"name of a member is 'a\x1b[2J', expected" in place.refusal("info", place.root / "x.tar")
    line = place.refusal("package", "{data}", "--out", place.root / f"{'y' * 201}.tar", "--license", "x",
                         "--data_notes", "{canary}/a")  # fmt: skip
    assert "name of the package is 'yyy" in line


def test_systems_are_called_by_plain_names(place: Place) -> None:
    hidden = place.root / ".mine"
    shutil.copytree(place.data, hidden)
    line = place.refusal("evaluate", "{data}", "--out", "{out}", "--methods", hidden)
    assert "name of the system is '.mine', expected a plain name" in line
    assert "name is 'xxx" in place.refusal(
        "score", "{data}", "--estimates", hidden, "--out", "{out}", "--name", "x" * 201
    )


@pytest.mark.parametrize("marked", [True, False])
def test_estimates_of_somebody_else_are_not_replaced(place: Place, marked: bool) -> None:
    """A folder where evaluate would write its own: nothing is separated, nothing deleted."""
    theirs = place.out / "srp_beam" / "estimates"
    theirs.mkdir(parents=True)
    (theirs / "years_of_work.txt").write_text("x")
    if marked:
        write_json(theirs / "data.json", {"hash": "x"})
    line = place.refusal(*COMMANDS["evaluate"])
    assert str(theirs) in line and "so it is not replaced" in line
    shutil.rmtree(theirs)
    theirs.symlink_to(place.canary)
    assert "is a link or a file" in place.refusal(*COMMANDS["evaluate"])


def test_estimates_of_an_earlier_msdet_are_replaced(place: Place) -> None:
    own = place.out / "srp_beam" / "estimates"
    write_json(own / "data.json", {"hash": "of another set"})  # as before kinds were written
    (own / "gone").mkdir()
    (own / "gone" / "talker1.wav").touch()
    arguments = [a.format(data=place.data, out=place.out) for a in COMMANDS["evaluate"]]
    assert main(arguments) == 0
    assert read_json(own / "data.json")["kind"] == "estimates"
    assert not (own / "gone").exists()
    assert main(arguments) == 0
