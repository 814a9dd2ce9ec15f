"""lhotse manifests: lhotse itself loads them, with the audio and labels of the scenes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from msdet.data.formats.lhotse import write_lhotse
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError

lhotse = pytest.importorskip("lhotse")


@pytest.fixture
def moved(dev_set: SceneSet, tmp_path: Path) -> Path:
    """A set with manifests that was moved after they were written."""
    root = Path(shutil.copytree(dev_set.root, tmp_path / "here"))
    paths = write_lhotse(SceneSet.open(root))
    assert paths == (root / "recordings.jsonl.gz", root / "cuts.jsonl.gz")
    return root.rename(tmp_path / "there")


def test_cuts_hold_the_scenes(moved: Path, dev_set: SceneSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved)
    cuts = lhotse.CutSet.from_file("cuts.jsonl.gz").to_eager()
    lhotse.validate(cuts, read_data=True)
    assert list(cuts.ids) == [scene.id for scene in dev_set.scenes]
    for cut, scene in zip(cuts, dev_set.scenes, strict=True):
        assert isinstance(cut, lhotse.MultiCut)
        assert (cut.num_channels, cut.sampling_rate, cut.num_samples) == (4, 8000, 12000)
        np.testing.assert_array_equal(cut.load_audio(), dev_set.mixture(scene))
        assert (cut.t60_s, cut.room_m, cut.array) == (scene.t60_s, list(scene.room_m or ()), "circular4_5cm")
        assert cut.snr_db == pytest.approx(scene.snr_db)
        assert cut.target == "direct"


def test_supervisions_hold_the_talkers(moved: Path, dev_set: SceneSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved)
    for cut, scene in zip(lhotse.CutSet.from_file("cuts.jsonl.gz"), dev_set.scenes, strict=True):
        references = dev_set.references(scene)
        assert len(cut.supervisions) == 2
        for talker, source, reference in zip(cut.supervisions, scene.sources, references, strict=True):
            assert (talker.speaker, talker.gender) == (source.speaker, source.gender or None)
            assert talker.channel == [0, 1, 2, 3]
            assert talker.start == pytest.approx(source.onset_s, abs=1e-4)
            assert talker.duration == pytest.approx(source.duration_s, abs=2e-4)
            assert talker.azimuth_deg == source.azimuth_deg
            assert talker.elevation_deg == source.elevation_deg
            assert talker.distance_m == source.distance_m
            np.testing.assert_array_equal(talker.target_recording.load_audio()[0], reference)
            start, count = round(talker.start * 8000), round(talker.duration * 8000)
            heard = talker.load_target_recording()[0]
            np.testing.assert_array_equal(heard, reference[start : start + count])


def test_recordings_load_from_elsewhere_with_a_prefix(moved: Path, dev_set: SceneSet) -> None:
    recordings = lhotse.RecordingSet.from_file(moved / "recordings.jsonl.gz").with_path_prefix(moved)
    scene = dev_set.scenes[2]
    np.testing.assert_array_equal(recordings[scene.id].load_audio(), dev_set.mixture(scene))
    cut = lhotse.CutSet.from_file(moved / "cuts.jsonl.gz").to_eager()[scene.id]
    mixture = cut.with_recording_path_prefix(moved).load_audio()
    np.testing.assert_array_equal(mixture, dev_set.mixture(scene))
    target = cut.supervisions[1].target_recording.with_path_prefix(moved)
    np.testing.assert_array_equal(target.load_audio()[0], dev_set.references(scene)[1])


def test_manifests_are_the_same_each_time(moved: Path) -> None:
    before = (moved / "cuts.jsonl.gz").read_bytes()
    write_lhotse(SceneSet.open(moved))
    assert (moved / "cuts.jsonl.gz").read_bytes() == before


def test_missing_lhotse_is_told(dev_set: SceneSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(MsdetError, match=r"^lhotse manifests need lhotse: pip install msdet\[lhotse\]$"):
        write_lhotse(dev_set)
    assert not (dev_set.root / "cuts.jsonl.gz").exists()
