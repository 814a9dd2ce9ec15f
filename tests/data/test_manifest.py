"""Opening rendered sets: what is refused, and that the Kaldi tables say what the scenes say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import read_jsonl, write_json, write_jsonl
from msdet.scenes.scene import mixture_path, reference_path


@pytest.fixture
def copy(dev_set: SceneSet, tmp_path: Path) -> Path:
    """A copy of the set that a test may damage; the name holds a space."""
    return Path(shutil.copytree(dev_set.root, tmp_path / "dev set"))


def change_header(root: Path, **changes: Any) -> None:
    header = json.loads((root / "dataset.json").read_text())
    write_json(root / "dataset.json", {k: v for k, v in (header | changes).items() if v is not None})


def test_set_opens_anywhere_with_its_audio(dev_set: SceneSet, copy: Path) -> None:
    opened = SceneSet.open(copy)
    assert opened.scenes == dev_set.scenes
    assert (opened.sample_rate, opened.array, opened.identity) == (8000, dev_set.array, dev_set.identity)
    for scene in opened.scenes:
        mixture, references = opened.mixture(scene), opened.references(scene)
        assert mixture.shape == (4, 12000)
        assert references.shape == (2, 12000)
        assert mixture.dtype == references.dtype == np.float32
        assert np.abs(mixture).max() > 0.01
        assert (np.abs(references).max(axis=-1) > 0.001).all()


def test_folder_that_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match=r"nowhere: not a data set, dataset\.json is missing$"):
        SceneSet.open(tmp_path / "nowhere")


def test_unfinished_set_says_how_to_finish(copy: Path) -> None:
    (copy / "dataset.json").unlink()
    with pytest.raises(MsdetError, match="unfinished: run the same command again"):
        SceneSet.open(copy)


@pytest.mark.parametrize("schema", [1, "2", None])
def test_other_schema_is_refused(copy: Path, schema: Any) -> None:
    change_header(copy, schema=schema)
    with pytest.raises(MsdetError, match=r"dataset\.json: schema is .*, this msdet reads 2"):
        SceneSet.open(copy)


@pytest.mark.parametrize("text", ["[]", "{", "null"])
def test_header_that_is_no_object_is_refused(copy: Path, text: str) -> None:
    (copy / "dataset.json").write_text(text)
    with pytest.raises(MsdetError, match=r"dataset\.json"):
        SceneSet.open(copy)


@pytest.mark.parametrize("key", ["sample_rate", "array", "hash"])
def test_missing_key_is_named(copy: Path, key: str) -> None:
    change_header(copy, **{key: None})
    with pytest.raises(MsdetError, match=rf"dataset\.json: key '{key}' is missing"):
        SceneSet.open(copy)


@pytest.mark.parametrize(("key", "value"), [("sample_rate", "fast"), ("array", [1, 2])])
def test_value_of_the_wrong_type_is_named(copy: Path, key: str, value: Any) -> None:
    change_header(copy, **{key: value})
    with pytest.raises(MsdetError, match=rf"dataset\.json.*{key}"):
        SceneSet.open(copy)


def test_bad_line_of_the_manifest_is_numbered(copy: Path) -> None:
    lines = (copy / "scenes.jsonl").read_text().splitlines()
    (copy / "scenes.jsonl").write_text("\n".join([lines[0], lines[1][:40]]))
    with pytest.raises(MsdetError, match=r"scenes\.jsonl, line 2: not JSON"):
        SceneSet.open(copy)
    row = json.loads(lines[2])
    del row["array_center_m"]
    (copy / "scenes.jsonl").write_text("\n".join([*lines[:2], json.dumps(row)]))
    with pytest.raises(MsdetError, match=r"scenes\.jsonl, line 3: key 'array_center_m' is missing"):
        SceneSet.open(copy)


def test_manifest_without_scenes_is_refused(copy: Path) -> None:
    (copy / "scenes.jsonl").write_text("")
    with pytest.raises(MsdetError, match="has no scenes"):
        SceneSet.open(copy)


@pytest.mark.parametrize("scene_id", ["../../../outside", "../../../../../../../../tmp"])
def test_scene_that_leaves_the_folder_is_refused(copy: Path, scene_id: str) -> None:
    rows = read_jsonl(copy / "scenes.jsonl")
    write_jsonl(copy / "scenes.jsonl", [rows[0] | {"id": scene_id}])
    with pytest.raises(MsdetError, match=r"scenes\.jsonl, line 1: id is '\.\./.*expected a plain name"):
        SceneSet.open(copy)


def test_link_that_leaves_the_folder_is_refused(copy: Path, dev_set: SceneSet) -> None:
    scene = dev_set.scenes[0]
    (copy / mixture_path(scene.id)).unlink()
    (copy / mixture_path(scene.id)).symlink_to(dev_set.root / mixture_path(scene.id))
    with pytest.raises(MsdetError, match="leaves the data set's folder"):
        SceneSet.open(copy).mixture(scene)


def test_audio_of_another_rate_length_or_channel_count_is_refused(copy: Path) -> None:
    opened = SceneSet.open(copy)
    scene = opened.scenes[0]
    path = copy / mixture_path(scene.id)
    samples = opened.mixture(scene)
    for wrong, rate in ((samples[:3], 8000), (samples[:, 1:], 8000), (samples, 16000)):
        audio.write(path, wrong, rate)
        with pytest.raises(MsdetError, match=r"expected 4 x 12000 at 8000 Hz"):
            opened.mixture(scene)
    path.unlink()
    with pytest.raises(MsdetError, match=r"mixture\.wav: no such file"):
        opened.mixture(scene)


def table(root: Path, name: str) -> dict[str, str]:
    lines = (root / name).read_text().splitlines()
    assert lines == sorted(lines), f"{name}: Kaldi wants sorted tables"
    return dict(line.split(" ", 1) for line in lines)


def test_kaldi_tables_say_what_the_scenes_say(dev_set: SceneSet) -> None:
    root = dev_set.root
    for scene in dev_set.scenes:
        assert table(root, "wav.scp")[scene.id] == mixture_path(scene.id)
        for n in range(2):
            assert table(root, f"spk{n + 1}.scp")[scene.id] == reference_path(scene.id, n)
            assert (root / reference_path(scene.id, n)).is_file()
        assert table(root, "utt2spk")[scene.id] == scene.id
        assert float(table(root, "utt2dur")[scene.id]) == audio.info(root / mixture_path(scene.id)).seconds
        azimuths = [float(a) for a in table(root, "utt2doa")[scene.id].split()]
        np.testing.assert_allclose(azimuths, scene.azimuths_deg, atol=0.005)
        assert all(0.0 <= a < 360.0 for a in azimuths)
        assert scene.t60_measured_s is not None
        assert float(table(root, "utt2rt60")[scene.id]) == pytest.approx(scene.t60_measured_s, abs=5e-4)
    for name in ("wav.scp", "spk1.scp", "spk2.scp", "utt2spk", "utt2dur", "utt2doa", "utt2rt60"):
        assert table(root, name).keys() == {scene.id for scene in dev_set.scenes}
