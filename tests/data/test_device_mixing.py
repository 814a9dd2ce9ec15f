"""Batches mixed on the training device are the scenes that are mixed one by one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate

from msdet.corpora import Corpus, load_corpus
from msdet.data.dataset import DynamicMixingDataset, LabelSubset
from msdet.data.device_mixing import collate_dry, convolve, mix_batch
from msdet.data.example import Example
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank

NOISY: dict[str, dict[str, Any]] = {
    "sensor": {},
    "spherical, point": {"diffuse": "spherical", "point_noises": 1},
    "cylindrical, microphones that differ": {"diffuse": "cylindrical", "gain_error_db": 1.0, "phase_error_deg": 4.0},
    "point, gains alone": {"point_noises": 1, "gain_error_db": 2.0},
    "reverberant target": {"target": "reverberant"},
}


@pytest.fixture(scope="module")
def corpus(speech: Path) -> Corpus:
    return load_corpus("folder", speech)


def batches(bank: RirBank, corpus: Corpus, d: SceneDistribution, slots: int | None = None) -> tuple[Example, Example]:
    """The same three scenes, mixed one by one and together."""
    how = (bank, corpus, "train", d, 3, None, slots, None)
    alone, together = DynamicMixingDataset(*how), DynamicMixingDataset(*how, dry=True)
    return default_collate([alone[n] for n in range(3)]), mix_batch(collate_dry([together[n] for n in range(3)]))


@pytest.mark.parametrize("kind", NOISY)
def test_same_scenes(bank: RirBank, corpus: Corpus, small_room: SceneDistribution, kind: str) -> None:
    alone, together = batches(bank, corpus, dataclasses.replace(small_room, **NOISY[kind]), slots=3)
    assert alone.keys() == together.keys()
    assert alone["mixture"].abs().amax() > 0.05
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=0, atol=1e-6, equal_nan=True, msg=name)  # type: ignore[literal-required]


def test_loud_peaks_are_scaled_down(bank: RirBank, corpus: Corpus, small_room: SceneDistribution) -> None:
    alone, together = batches(bank, corpus, dataclasses.replace(small_room, snr_db=(-30.0, -30.0)))
    assert together["mixture"].abs().amax((1, 2)) == pytest.approx(0.9)
    torch.testing.assert_close(together["mixture"], alone["mixture"], rtol=0, atol=1e-6)


def test_withheld_references_stay_withheld(bank: RirBank, corpus: Corpus, small_room: SceneDistribution) -> None:
    dry = DynamicMixingDataset(bank, corpus, "train", small_room, seed=3, epoch_size=None, dry=True)
    some = LabelSubset(dry, 0.5, 0.5, seed=0, block=4)
    mixed = mix_batch(collate_dry([some[n] for n in range(4)]))
    assert sorted(mixed["referenced"].tolist()) == [False, False, True, True]
    assert ((mixed["references"].abs().amax((1, 2)) > 0) == mixed["referenced"]).all()
    assert sorted(mixed["azimuth_deg"].isnan().any(1).tolist()) == [False, False, True, True]


def test_silent_talker_is_no_example(bank: RirBank, corpus: Corpus, small_room: SceneDistribution) -> None:
    dry = DynamicMixingDataset(bank, corpus, "train", small_room, seed=3, epoch_size=None, dry=True)
    examples = [dry[n] for n in range(2)]
    examples[0]["dry"]["speech"][1] = 0.0
    finite = mix_batch(collate_dry(examples))["mixture"].isfinite().flatten(1).all(1)
    assert finite.tolist() == [False, True]  # a step that is not finite is skipped and counted


def test_rendered_batch_is_left_alone(bank: RirBank, corpus: Corpus, small_room: SceneDistribution) -> None:
    alone, _ = batches(bank, corpus, small_room)
    assert mix_batch(alone) is alone


def test_convolution_is_cut_to_the_signal() -> None:
    signal, response = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 0.5, 0.0, 3.0])
    torch.testing.assert_close(convolve(signal, response), torch.tensor([1.0, 0.5, 2.0]))
