"""Direction maps: their targets, their loss, and their scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msdet.arrays import load_array
from msdet.dsp.stft import Signals
from msdet.models.encoders.direction_cnn import DirectionMaps
from msdet.models.frontends import ArrayGeometry
from msdet.models.heads import HeadSizes
from msdet.tasks.direction_map import DirectionMapHead, DirectionMapTask, PlacedMaps
from msdet.tasks.labels import BatchLabels

MakeTruth = Callable[..., BatchLabels]
CIRCLE = ArrayGeometry(load_array("circular4_5cm"), 5, 8000, 72)
LINE = ArrayGeometry(load_array("linear4_5cm"), 5, 8000, 72, any_domain=True)


def logits_of(*azimuths_deg: int, height: float = 8.0) -> Tensor:
    """A map ``(1, class)`` that is sure of talkers at some azimuths, with neighbors half as sure."""
    logits = torch.full((1, 72), -height)
    for azimuth in azimuths_deg:
        for step, share in ((0, 1.0), (1, 0.5), (-1, 0.5)):
            logits[0, (azimuth // 5 + step) % 72] = share * height
    return logits


def maps(
    recording: Tensor, geometry: ArrayGeometry = CIRCLE, moments: Tensor | None = None,
    second: float = -8.0, offsets_deg: tuple[float, float] = (0.0, 0.0),
) -> PlacedMaps:  # fmt: skip
    moments = recording[..., None].expand(-1, -1, 5) if moments is None else moments
    offsets = torch.tensor(offsets_deg).expand(*recording.shape, 2)
    return PlacedMaps(DirectionMaps(recording, moments, torch.full_like(recording, second), offsets), geometry)


@pytest.fixture
def two(truth_with: MakeTruth) -> BatchLabels:
    spectrum = torch.zeros(1, 2, 5, 10, dtype=torch.complex64)
    spectrum[:, 0, :, :5] = 1.0  # the first talker speaks in the first half, the second one throughout
    spectrum[:, 1] = 1.0
    return truth_with(
        azimuth_deg=[[50.0, 200.0]],
        track_deg=[[[50.0] * 4, [200.0] * 4]],
        references=Signals(spectrum, torch.real),
        referenced=[True],
    )


def test_head_gives_the_maps_that_features_end_in() -> None:
    features = torch.randn(2, 72, 5, 9)
    features[..., -1] = features[..., :1, -1]
    features[..., -5:-2] = features[..., :1, -5:-2]
    found, geometry = DirectionMapHead(HeadSizes(CIRCLE, 9, 2))(features, None)  # type: ignore[arg-type]
    torch.testing.assert_close(found.recording, features[:, :, 0, -1])
    torch.testing.assert_close(found.moments, features[..., -2])
    torch.testing.assert_close(found.second, features[:, :, 0, -3])
    torch.testing.assert_close(found.offsets_deg, features[:, :, 0, -5:-3])
    assert geometry is CIRCLE


def test_right_maps_cost_less(two: BatchLabels) -> None:
    task = DirectionMapTask()
    right, missing, more = (
        float(task.loss(maps(logits_of(*azimuths)), two).value) for azimuths in ((50, 200), (200,), (50, 200, 300))
    )
    assert right < missing
    assert right < more
    assert task.loss(maps(logits_of(50, 200)), two).known.all()


def test_a_moment_has_those_who_speak_in_it(two: BatchLabels) -> None:
    task, recording = DirectionMapTask(), logits_of(50, 200)
    both, one = logits_of(50, 200)[..., None], logits_of(200)[..., None]
    as_it_is = torch.cat([both, both, both, one, one], dim=-1)
    turned = torch.cat([one, one, both, both, both], dim=-1)
    right, wrong = (float(task.loss(maps(recording, moments=m), two).value) for m in (as_it_is, turned))
    assert right < wrong


def test_mirror_images_of_a_linear_array_are_talkers_too(two: BatchLabels) -> None:
    task = DirectionMapTask()
    mirrored, single = logits_of(50, 310, 200, 160), logits_of(50, 200)
    losses = [float(task.loss(maps(logits, LINE), two).value) for logits in (mirrored, single)]
    assert losses[0] < losses[1]
    of_circle = [float(task.loss(maps(logits), two).value) for logits in (mirrored, single)]
    assert of_circle[0] > of_circle[1]


@pytest.mark.parametrize(("geometry", "seen"), [(CIRCLE, (50.0, 56.0)), (LINE, (50.0, 56.0)), (LINE, (310.0, 304.0))])
def test_two_close_together_are_a_pair(two: BatchLabels, geometry: ArrayGeometry, seen: tuple[float, float]) -> None:
    task, logits = DirectionMapTask(), logits_of(50)
    close = two._replace(azimuth_deg=torch.tensor([seen]))

    def loss(second: float, low_deg: float, truth: BatchLabels) -> float:
        near = maps(logits, geometry, None, second, (low_deg, low_deg + 6.0))
        return float(task.loss(near, truth).value)

    assert loss(8.0, 0.0, close) < loss(-8.0, 0.0, close)
    assert loss(8.0, 0.0, close) < loss(8.0, 40.0, close)
    assert loss(8.0, 0.0, two) > loss(-8.0, 0.0, two)
    assert loss(-8.0, 0.0, two) == loss(-8.0, 40.0, two)  # of one alone there is nothing to split


def test_unknown_directions_are_not_learned_from(truth_with: MakeTruth) -> None:
    truth = truth_with(azimuth_deg=[[50.0, torch.nan]])
    loss = DirectionMapTask().loss(maps(logits_of(50)), truth)
    assert not loss.known.any()
    assert torch.isfinite(loss.value).all()


def test_without_references_the_recordings_map_is_learned(two: BatchLabels) -> None:
    unreferenced = two._replace(referenced=torch.tensor([False]))
    task = DirectionMapTask()
    assert float(task.loss(maps(logits_of(50, 200)), unreferenced).value) > 0
    moments = torch.randn(1, 72, 5)
    first, second = (task.loss(maps(logits_of(50, 200), moments=m), unreferenced).value for m in (moments, -moments))
    torch.testing.assert_close(first, second)


def test_scores_count_peaks(two: BatchLabels) -> None:
    scores = DirectionMapTask().scores(maps(logits_of(50, 300)), two)
    assert float(scores["map_f1"]) == pytest.approx(0.5)
    assert float(scores["map_count_accuracy"]) == 1.0
    folded = DirectionMapTask().scores(
        maps(logits_of(50, 310, 120, 240), LINE), two._replace(azimuth_deg=torch.tensor([[50.0, 120.0]]))
    )
    assert float(folded["map_f1"]) == 1.0
