"""Sets without references or directions: imported, joined with others, learned from; and labels withheld."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdet.arrays import load_array
from msdet.cli import main
from msdet.corpora import load_corpus
from msdet.data.dataset import ConcatSceneDataset, DynamicMixingDataset, LabelSubset, RenderedDataset
from msdet.data.description import describe_set
from msdet.data.example import KINDS, Example, LabelAvailability
from msdet.data.formats.external import write_external_dataset
from msdet.data.formats.kaldi import read_kaldi
from msdet.data.samplers import EpochSampler
from msdet.data.scene_set import SceneSet
from msdet.data.validation import validate_set
from msdet.errors import MsdetError
from msdet.io.files import read_json
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank
from msdet.tasks.labels import batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective

ARRAY = load_array("circular4_5cm")
PLACES = ("azimuth_deg", "elevation_deg", "distance_m", "track_deg")


def imported(dev_set: SceneSet, folder: Path, out: Path, without: tuple[str, ...]) -> SceneSet:
    """The set's tables and audio, some of them left out, made into a set again."""
    for scene in dev_set.scenes:
        shutil.copytree(dev_set.root / "audio" / scene.id, folder / "audio" / scene.id)
    for name in ("wav.scp", "spk1.scp", "spk2.scp", "utt2doa", "utt2distance", "utt2rt60"):
        if name not in without:
            shutil.copy(dev_set.root / name, folder)
    return write_external_dataset(out, read_kaldi(folder, ARRAY, "direct"), 1)


@pytest.fixture(scope="module")
def unreferenced(dev_set: SceneSet, tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    root = tmp_path_factory.mktemp("unreferenced")
    return imported(dev_set, root / "kaldi", root / "set", ("spk1.scp", "spk2.scp"))


@pytest.fixture(scope="module")
def unlocated(dev_set: SceneSet, tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    root = tmp_path_factory.mktemp("unlocated")
    return imported(dev_set, root / "kaldi", root / "set", ("utt2doa", "utt2distance"))


@pytest.fixture(scope="module")
def mixing(bank: RirBank, speech: Path, small_room: SceneDistribution) -> DynamicMixingDataset:
    return DynamicMixingDataset(bank, load_corpus("folder", speech), "train", small_room, seed=3, epoch_size=None)


def test_set_without_references_keeps_its_directions(unreferenced: SceneSet, dev_set: SceneSet) -> None:
    assert SceneSet.open(unreferenced.root).scenes == unreferenced.scenes
    assert not list(unreferenced.root.glob("spk*.scp")) and not list(unreferenced.root.glob("audio/*/talker*"))
    for scene, known in zip(unreferenced.scenes, dev_set.scenes, strict=True):
        assert (scene.referenced, scene.located, scene.timed) == (False, True, False)
        np.testing.assert_allclose(scene.azimuths_deg, known.azimuths_deg, atol=0.0051)
        np.testing.assert_array_equal(unreferenced.mixture(scene), dev_set.mixture(known))
        with pytest.raises(MsdetError, match=f"set: scene '{scene.id}' has no references$"):
            unreferenced.references(scene)
    assert validate_set(unreferenced.root) == []
    described = describe_set(unreferenced)
    assert "references: none" in described.facts
    assert {"Overlap ratio", "Talking time (s)", "Level (dB)"}.isdisjoint(q.name for q in described.quantities)


def test_set_without_directions_keeps_its_references(unlocated: SceneSet, dev_set: SceneSet) -> None:
    assert not list(unlocated.root.glob("utt2d[oi]*"))
    for scene, known in zip(SceneSet.open(unlocated.root).scenes, dev_set.scenes, strict=True):
        assert (scene.referenced, scene.located, scene.timed) == (True, False, True)
        assert np.isnan(scene.azimuths_deg).all()
        np.testing.assert_array_equal(unlocated.references(scene), dev_set.references(known))
    assert validate_set(unlocated.root) == []
    described = describe_set(unlocated)
    assert "directions: not known" in described.facts
    assert {"Azimuth (°)", "Distance (m)"}.isdisjoint(q.name for q in described.quantities)


def test_scenes_of_a_set_may_differ_in_labels(dev_set: SceneSet, tmp_path: Path) -> None:
    folder = tmp_path / "kaldi"
    imported(dev_set, folder, tmp_path / "whole", ())
    for name, line in (("spk1.scp", 0), ("spk2.scp", 0), ("utt2doa", 1)):
        rows = (folder / name).read_text().splitlines(keepends=True)
        del rows[line]
        (folder / name).write_text("".join(rows))
    made = write_external_dataset(tmp_path / "part", read_kaldi(folder, ARRAY, "direct"), 2)
    assert [(s.referenced, s.located) for s in made.scenes] == [(False, True), (True, False), (True, True)]
    assert [np.isfinite(s.sources[0].distance_m) for s in made.scenes] == [True] * 3, "distances may be known"
    assert validate_set(made.root) == []
    facts = describe_set(made).facts
    assert "references: 2 direct, 1 none" in facts and "directions: 2 known, 1 not known" in facts
    shutil.copy(dev_set.root / "spk1.scp", made.root / "spk3.scp")
    (made.root / "utt2doa").unlink()
    assert sorted(p.text for p in validate_set(made.root, quick=True)) == [
        "spk3.scp does not belong there",
        "utt2doa is missing",
    ]


def test_example_says_what_is_not_known(unreferenced: SceneSet, unlocated: SceneSet) -> None:
    without = RenderedDataset(unreferenced, slots=3)
    item = without[1]
    assert without.labeling(1) == LabelAvailability(False, True)
    assert not item["referenced"] and not item["references"].any()
    assert item["azimuth_deg"].isfinite().tolist() == item["active"].tolist() == [True, True, False]
    item = RenderedDataset(unlocated)[1]
    assert RenderedDataset(unlocated).labeling(1) == LabelAvailability(True, False)
    assert item["referenced"] and (item["references"].abs().amax(-1) > 0).all() and item["active"].all()
    assert all(item[name].isnan().all() for name in PLACES)  # type: ignore[literal-required]


def test_joined_sets_are_one_after_the_other(dev_set: SceneSet, unreferenced: SceneSet) -> None:
    joined = ConcatSceneDataset([dev_set, unreferenced])
    assert len(joined) == joined.population == 6 and joined.starts == (0, 3, 6)
    assert joined.scenes == dev_set.scenes + unreferenced.scenes
    items = [joined[n] for n in range(6)]
    assert [int(item["domain"]) for item in items] == [0, 0, 0, 1, 1, 1]
    assert [int(item["item"]) for item in items] == list(range(6))
    assert [joined.labeling(n).referenced for n in range(6)] == [True] * 3 + [False] * 3
    np.testing.assert_array_equal(items[5]["mixture"], unreferenced.mixture(unreferenced.scenes[2]))
    with pytest.raises(IndexError):
        joined[6]


def test_sets_that_do_not_belong_together_are_refused(dev_set: SceneSet, unreferenced: SceneSet) -> None:
    def refused(message: str, scenes: dict[str, object] | None = None, **changes: object) -> None:
        changed = tuple(dataclasses.replace(s, **scenes) for s in dev_set.scenes) if scenes else dev_set.scenes  # type: ignore[arg-type]
        other = dataclasses.replace(dev_set, scenes=changed, **changes)  # type: ignore[arg-type]
        with pytest.raises(MsdetError, match=message) as caught:
            ConcatSceneDataset([unreferenced, dev_set, other])
        assert "\n" not in str(caught.value)

    refused("is at 16000 Hz, .*set at 8000 Hz$", sample_rate=16000)
    refused("array is 'respeaker_4mic_square', that of", array=load_array("respeaker_4mic_square"))
    refused("scenes have 16000 samples, those of .* 12000", {"duration_s": 2.0})
    with pytest.raises(MsdetError, match=r"references are early, those of .* are direct$"):
        early = tuple(dataclasses.replace(s, target="early") for s in dev_set.scenes)
        ConcatSceneDataset([dev_set, dataclasses.replace(dev_set, scenes=early)])
    with pytest.raises(MsdetError, match="has 2 talkers, the model has 1 output slots"):
        ConcatSceneDataset([dev_set, unreferenced], slots=1)
    with pytest.raises(MsdetError, match="no data sets to join"):
        ConcatSceneDataset([])


def test_each_task_learns_from_what_is_labeled(dev_set: SceneSet, unreferenced: SceneSet, unlocated: SceneSet) -> None:
    config = ModelConfig(encoder_options={"hidden": 8, "group": 8})
    torch.manual_seed(0)
    model = JointModel(config, ARRAY, 8000)
    objective = Objective(ObjectiveConfig(), config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    joined = ConcatSceneDataset([dev_set, unreferenced, unlocated])
    for items in ([0, 3, 6], [4, 1, 7], [5, 3, 4]):  # fully labeled, without references, without directions
        (batch,) = DataLoader(joined, batch_size=3, sampler=items)  # type: ignore[arg-type]
        output = model(batch["mixture"])
        truth = batch_labels(batch, model.stft, 0, output.level)
        terms = objective(output.predictions, truth)
        wanted = truth.in_slots(terms.assignment)
        for name, known in (
            ("separation", [joined.labeling(n).referenced for n in items]),
            ("doa", [joined.labeling(n).located for n in items]),
        ):
            values = objective.tasks[name].loss(output.predictions[name], wanted).value[known]
            expected = values.mean() if any(known) else torch.tensor(0.0)
            torch.testing.assert_close(terms.losses[name], expected)
        optimizer.zero_grad()
        terms.total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        assert torch.isfinite(terms.total)
        optimizer.step()
    assert terms.losses["separation"] == 0.0 and all(p.isfinite().all() for p in model.parameters())


def test_shares_of_withheld_labels_are_exact_and_independent(mixing: DynamicMixingDataset) -> None:
    withheld = LabelSubset(mixing, reference_fraction=0.1, doa_fraction=0.5, seed=1)
    for start in (0, 1000, 7000):
        found = [withheld.labeling(n) for n in range(start, start + 1000)]
        assert sum(label.referenced for label in found) == 100
        assert sum(label.located for label in found) == 500
        assert sum(label == KINDS[0] for label in found) == 50
    first = [withheld.labeling(n) for n in range(1000)]
    assert first != [withheld.labeling(n) for n in range(1000, 2000)], "each block has its own"
    assert first == [LabelSubset(mixing, 0.1, 0.5, seed=1).labeling(n) for n in range(1000)]
    assert first != [LabelSubset(mixing, 0.1, 0.5, seed=2).labeling(n) for n in range(1000)]
    assert {LabelSubset(mixing, 1.0, 0.0, seed=1).labeling(n) for n in range(50)} == {KINDS[1]}


def test_shares_of_a_rendered_set_are_of_all_of_it(dev_set: SceneSet, unreferenced: SceneSet) -> None:
    withheld = LabelSubset(RenderedDataset(dev_set), reference_fraction=1 / 3, doa_fraction=1.0, seed=0)
    assert len(withheld) == 3
    assert sorted(withheld.labeling(n) for n in range(3)) == [KINDS[2], KINDS[2], KINDS[0]]
    already = LabelSubset(RenderedDataset(unreferenced), reference_fraction=1.0, doa_fraction=0.0, seed=0)
    assert {already.labeling(n) for n in range(3)} == {KINDS[3]}, "what is not there cannot be kept"


def test_withheld_labels_are_gone_and_the_rest_is_the_same(mixing: DynamicMixingDataset) -> None:
    withheld = LabelSubset(mixing, reference_fraction=0.5, doa_fraction=0.5, seed=1, block=4)
    assert {withheld.labeling(n) for n in range(4)} == set(KINDS)
    for n in range(4):
        known, found = mixing[n], withheld[n]
        label = withheld.labeling(n)
        assert bool(found["referenced"]) == label.referenced == bool(found["references"].any())
        assert {bool(found[name].isfinite().all()) for name in PLACES} == {label.located}  # type: ignore[literal-required]
        kept = {"references"} if label.referenced else set()
        kept |= set(PLACES) if label.located else set()
        for name in {"mixture", "active", "t60_s", "domain", "item"} | kept:
            assert torch.equal(found[name], known[name]), name  # type: ignore[literal-required]


def test_workers_do_not_change_what_is_withheld(mixing: DynamicMixingDataset) -> None:
    def batches(workers: int) -> list[Example]:
        return list(
            DataLoader(
                LabelSubset(mixing, reference_fraction=0.5, doa_fraction=0.5, seed=1, block=4),
                batch_size=2,
                sampler=EpochSampler(8),
                num_workers=workers,
                multiprocessing_context="forkserver" if workers else None,
            )
        )

    alone = batches(0)
    assert len(alone) == 4
    for workers in (1, 2):
        for one, other in zip(alone, batches(workers), strict=True):
            for name in one:
                torch.testing.assert_close(one[name], other[name], rtol=0, atol=0, equal_nan=True, msg=name)  # type: ignore[literal-required]


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (1.5, r"share of references is 1\.5, expected 0 to 1"),
        (1e-4, r"share of references is 0\.0001, which is no item of 1000"),
    ],
)
def test_share_that_cannot_be_is_refused(mixing: DynamicMixingDataset, references: float, message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        LabelSubset(mixing, references, 1.0, seed=0)
    with pytest.raises(TypeError, match="endless data set has no length"):
        len(LabelSubset(mixing, 1.0, 1.0, seed=0))


def test_commands_say_what_is_not_known(dev_set: SceneSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "kaldi", tmp_path / "set"
    imported(dev_set, folder, tmp_path / "whole", ())
    for name in ("spk1.scp", "spk2.scp", "utt2doa", "utt2distance"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.partition("\n")[2])
    (folder / "utt2doa").write_text((dev_set.root / "utt2doa").read_text().partition("\n")[0] + "\n")
    arguments = [f"--out={out}", "--array=circular4_5cm", "--target=direct", "--jobs=1"]
    assert main(["import-set", str(folder), *arguments]) == 2
    assert "utt2distance: has no line for" in capsys.readouterr().err
    shutil.copy(dev_set.root / "utt2distance", folder)
    assert main(["import-set", str(folder), *arguments]) == 0
    assert "  1 without references\n  2 without directions\n" in capsys.readouterr().out
    assert main(["info", str(out)]) == 0
    assert "  1 without references\n  2 without directions\n" in capsys.readouterr().out
    assert main(["describe", str(out), f"--out={tmp_path / 'page.html'}"]) == 0
    shown = capsys.readouterr().out
    assert "references: 2 direct, 1 none" in shown and "directions: 2 not known, 1 known" in shown
    for scene, told in ((0, "no references"), (1, "1       ?        ?        ?          1.15 m")):
        picture = tmp_path / f"{scene}.png"
        scene_id = dev_set.scenes[scene].id
        assert main(["show-scene", str(out), f"--scene={scene_id}", f"--out={picture}"]) == 0
        assert told in capsys.readouterr().out and picture.stat().st_size > 10_000
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    for kind in ("kaldi", "sms_wsj", "lhotse"):
        assert main(["export", str(out), f"--format={kind}"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert main(["validate", str(out), "--jobs=1"]) == 0
    examples = read_json(out / "sms_wsj.json")["datasets"]["set"]
    assert ["source_position" in e for e in examples.values()] == [True, False, False]
    assert ["speech_direct" in e["audio_path"] for e in examples.values()] == [False, True, True]
