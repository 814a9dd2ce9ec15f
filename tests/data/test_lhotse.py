"""lhotse manifests: lhotse itself loads them, with the audio and labels of the scenes."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from msdet.cli import main
from msdet.data.formats.lhotse import write_lhotse
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.io import audio

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
            np.testing.assert_array_equal(cut.load_target_recording()[talker.target_channel], reference)


def test_references_follow_what_lhotse_does_with_a_cut(dev_set: SceneSet, tmp_path: Path) -> None:
    """Truncated, cut into windows, trimmed to one talker who starts late, padded, resampled: the same samples."""
    first, second = dev_set.scenes[0].sources
    late = dataclasses.replace(first, onset_s=0.4, duration_s=0.7)
    scenes = (dataclasses.replace(dev_set.scenes[0], sources=(late, second)), *dev_set.scenes[1:])
    _, path = write_lhotse(dataclasses.replace(dev_set, scenes=scenes), tmp_path)
    for cut, scene in zip(lhotse.CutSet.from_file(path), scenes, strict=True):
        mixture, references = dev_set.mixture(scene), dev_set.references(scene)
        assert cut.target_recording.channel_ids == [s.target_channel for s in cut.supervisions] == [0, 1]
        parts = [cut.truncate(offset=0.3, duration=0.5), cut.truncate(offset=0.3).truncate(offset=0.2)]
        parts += [*cut.cut_into_windows(0.4), *cut.trim_to_supervisions()]
        parts += [part.truncate(offset=0.1, duration=0.3) for part in cut.trim_to_supervisions()]
        assert len({(part.start, part.duration) for part in parts}) > 5
        for part in parts:
            samples = slice(round(part.start * 8000), round(part.start * 8000) + part.num_samples)
            np.testing.assert_array_equal(part.load_audio(), mixture[:, samples])
            np.testing.assert_array_equal(part.load_target_recording(), references[:, samples])
        for part, talker in zip(cut.trim_to_supervisions(keep_overlapping=False), cut.supervisions, strict=True):
            (alone,) = part.supervisions
            assert (alone.speaker, alone.target_channel) == (talker.speaker, talker.target_channel)
        higher = cut.resample(16000).resample(16000, recording_field="target_recording")
        expected = audio.resample(references, 8000, 16000)
        np.testing.assert_allclose(higher.load_target_recording(), expected, atol=1e-5)
        late_part = higher.truncate(offset=0.5)  # which lhotse resamples alone, so that its edges differ
        np.testing.assert_allclose(late_part.load_target_recording()[:, 40:], expected[:, 8040:], atol=1e-5)
        assert late_part.load_audio().shape == (4, 16000)


def test_tables_in_another_folder_open_from_anywhere(
    dev_set: SceneSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(dev_set.root), "--format=lhotse", "--out=tables"]) == 0
    cuts = lhotse.CutSet.from_file("tables/cuts.jsonl.gz").to_eager()
    lhotse.validate(cuts, read_data=True)
    scene = dev_set.scenes[1]
    np.testing.assert_array_equal(cuts[scene.id].load_target_recording(), dev_set.references(scene))


def test_recordings_load_from_elsewhere_with_a_prefix(moved: Path, dev_set: SceneSet) -> None:
    recordings = lhotse.RecordingSet.from_file(moved / "recordings.jsonl.gz").with_path_prefix(moved)
    scene = dev_set.scenes[2]
    np.testing.assert_array_equal(recordings[scene.id].load_audio(), dev_set.mixture(scene))
    cut = lhotse.CutSet.from_file(moved / "cuts.jsonl.gz").to_eager()[scene.id]
    mixture = cut.with_recording_path_prefix(moved).load_audio()
    np.testing.assert_array_equal(mixture, dev_set.mixture(scene))
    target = cut.target_recording.with_path_prefix(moved)
    np.testing.assert_array_equal(target.load_audio(), dev_set.references(scene))


def test_manifests_are_the_same_each_time(moved: Path) -> None:
    before = (moved / "cuts.jsonl.gz").read_bytes()
    write_lhotse(SceneSet.open(moved))
    assert (moved / "cuts.jsonl.gz").read_bytes() == before


def test_missing_lhotse_is_told(dev_set: SceneSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(MsdetError, match=r"^lhotse manifests need lhotse: pip install msdet\[lhotse\]$"):
        write_lhotse(dev_set)
    assert not (dev_set.root / "cuts.jsonl.gz").exists()
