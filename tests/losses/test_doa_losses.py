"""Losses of DoA against values worked out by hand, around the whole circle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from msdet.errors import MsdetError
from msdet.losses.doa import DOA_LOSSES, circular_distance, doa_loss, soft_target

NAMES = DOA_LOSSES.names()


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", ["von_mises", "gaussian"])
@pytest.mark.parametrize("azimuth_deg", [0.0, 180.0, 359.9, 2.5, 123.4])
def test_soft_target_sums_to_one_and_is_symmetric_about_the_azimuth(shape: Any, azimuth_deg: float) -> None:
    target = soft_target(torch.tensor(azimuth_deg, dtype=torch.double), 72, 8.0, shape)
    assert float(target.sum()) == pytest.approx(1.0)
    mirrored = soft_target(torch.tensor(-azimuth_deg % 360, dtype=torch.double), 72, 8.0, shape)
    torch.testing.assert_close(target, mirrored.roll(-1).flip(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", ["von_mises", "gaussian"])
def test_soft_target_goes_across_zero(shape: Any) -> None:
    target = soft_target(torch.tensor(0.0), 72, 5.0, shape)
    assert int(target.argmax()) == 0
    torch.testing.assert_close(target[1:36], target[37:].flip(0))
    between = soft_target(torch.tensor(357.5), 72, 5.0, shape)
    assert float(between[71]) == pytest.approx(float(between[0]), rel=1e-4)


def test_soft_target_by_hand() -> None:
    """Four classes, one radian wide, at class 0: the others are 90°, 180° and 90° away."""
    von_mises = torch.tensor([1.0, math.exp(-1), math.exp(-2), math.exp(-1)])
    quarter = math.exp(-((math.pi / 2) ** 2) / 2)
    gaussian = torch.tensor([1.0, quarter, math.exp(-(math.pi**2) / 2), quarter])
    width = math.degrees(1.0)
    for shape, weights in (("von_mises", von_mises), ("gaussian", gaussian)):
        found = soft_target(torch.tensor(0.0), 4, width, shape)  # type: ignore[arg-type]
        torch.testing.assert_close(found, weights / weights.sum())


def test_narrow_soft_target_is_the_class() -> None:
    logits = random_logits(2, 72)
    azimuth = torch.tensor([10.0, 355.0])
    torch.testing.assert_close(
        doa_loss("soft", {"width_deg": 0.5})(logits, azimuth), doa_loss("cross_entropy")(logits, azimuth)
    )


def test_soft_loss_is_least_where_the_posterior_is_the_target() -> None:
    target = soft_target(torch.tensor([33.3]), 72, 7.0) + 1e-20
    best = doa_loss("soft", {"width_deg": 7.0})(target.log(), torch.tensor([33.3]))
    torch.testing.assert_close(best, -(target * target.log()).sum(-1))
    for seed in range(3):
        other = target.log() + 0.3 * random_logits(1, 72, seed=seed)
        assert doa_loss("soft", {"width_deg": 7.0})(other, torch.tensor([33.3])) > best


def test_smoothed_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0, 0.0]])  # probabilities 1/2 and 1/6
    for azimuth, nearest in ((350.0, 0.5), (90.0, 1 / 6)):
        found = doa_loss("smoothed", {"smoothing": 0.2})(logits, torch.tensor([azimuth]))
        expected = -0.8 * math.log(nearest) - 0.05 * (math.log(0.5) + 3 * math.log(1 / 6))
        assert float(found) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        doa_loss("smoothed", {"smoothing": 0.1})(logits, torch.tensor([90.0])),
        torch.nn.functional.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.1)[None],
    )


@pytest.mark.parametrize("classes", [8, 9, 72])
def test_earth_mover_moves_a_peak_along_the_shorter_arc(classes: int) -> None:
    for moved in range(classes):
        logits = torch.full((1, classes), -60.0)
        logits[0, moved] = 0.0
        for target in (0, 1, classes - 1):
            steps = min((moved - target) % classes, (target - moved) % classes)
            found = doa_loss("earth_mover")(logits, torch.tensor([target * 360.0 / classes]))
            assert float(found) == pytest.approx(steps * 2 * math.pi / classes, abs=1e-4)


def test_earth_mover_of_half_and_half_by_hand() -> None:
    """Half at the target, half opposite: half of the mass travels π. Half one class off: a class' half."""
    logits = torch.full((2, 8), -60.0)
    logits[0, [3, 7]] = logits[1, [3, 4]] = 0.0
    found = doa_loss("earth_mover")(logits, torch.tensor([135.0, 135.0]))
    assert found.tolist() == pytest.approx([math.pi / 2, math.pi / 8], abs=1e-5)


def test_squared_earth_mover_by_hand() -> None:
    """A quarter turn on four classes: differences 1 0 0 0 less their mean, squared, times π / 2."""
    first, second = torch.eye(4)[0], torch.eye(4)[1]
    found = circular_distance(first, second, squared=True)
    assert float(found) == pytest.approx(math.pi / 2 * (0.75**2 + 3 * 0.25**2))


@pytest.mark.parametrize("squared", [False, True])
def test_earth_mover_does_not_depend_on_where_zero_is(squared: bool) -> None:
    first, second = (random_logits(5, 12).double().softmax(-1), random_logits(5, 12, seed=1).double().softmax(-1))
    wanted = circular_distance(first, second, squared)
    for turn in range(1, 12):
        torch.testing.assert_close(circular_distance(first.roll(turn, -1), second.roll(turn, -1), squared), wanted)
    torch.testing.assert_close(circular_distance(first.flip(-1), second.flip(-1), squared), wanted)


@pytest.mark.parametrize("classes", [6, 7])
def test_earth_mover_is_the_optimal_transport(classes: int) -> None:
    """Against the linear program over all transport plans, with distances along the circle."""
    gap = torch.arange(classes)[:, None] - torch.arange(classes)
    cost = torch.minimum(gap % classes, -gap % classes).double() * 2 * math.pi / classes
    marginals = torch.zeros(2 * classes, classes, classes)
    for k in range(classes):
        marginals[k, k], marginals[classes + k, :, k] = 1.0, 1.0
    for seed in range(4):
        first = random_logits(classes, seed=seed).double().softmax(-1)
        second = (2 * random_logits(classes, seed=seed + 10)).double().softmax(-1)
        plan = linprog(
            cost.flatten().numpy(), A_eq=marginals.flatten(1).numpy(), b_eq=torch.cat([first, second]).numpy()
        )
        assert float(circular_distance(first, second)) == pytest.approx(plan.fun, abs=1e-7)


def test_earth_mover_gradient_is_that_of_its_value() -> None:
    logits = random_logits(3, 8).double().requires_grad_()
    target = random_logits(3, 8, seed=1).double().softmax(-1)
    assert torch.autograd.gradcheck(lambda x: circular_distance(x.softmax(-1), target), logits)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_keeps_the_leading_axes_and_treats_pairs_alike(name: str) -> None:
    logits, azimuth = random_logits(2, 3, 72), torch.tensor([[0.0, 120.2, 359.9], [5.0, 180.0, 2.6]])
    loss = doa_loss(name)
    pairs = loss(logits[:, :, None].expand(-1, -1, 3, -1), azimuth[:, None].expand(2, 3, 3))
    assert pairs.shape == (2, 3, 3)
    for batch, slot, talker in itertools.product(range(2), range(3), range(3)):
        torch.testing.assert_close(pairs[batch, slot, talker], loss(logits[batch, slot], azimuth[batch, talker]))


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_turns_with_the_scene_and_prefers_the_truth(name: str) -> None:
    logits, azimuth = random_logits(4, 72), torch.tensor([0.0, 91.0, 184.0, 358.0])
    loss = doa_loss(name)
    torch.testing.assert_close(
        loss(logits.roll(7, -1), (azimuth + 35.0) % 360.0), loss(logits, azimuth), atol=1e-4, rtol=1e-4
    )
    near, far = ((soft_target((azimuth + turn) % 360, 72, 6.0) + 1e-20).log() for turn in (0.0, 40.0))
    assert (loss(near, azimuth) < loss(far, azimuth)).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_has_finite_gradients_for_certain_logits(name: str) -> None:
    logits = torch.full((2, 72), -300.0)
    logits[0, 0] = logits[1, 36] = 300.0
    logits.requires_grad_()
    doa_loss(name)(logits, torch.tensor([0.0, 0.0])).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("soft", {"width_deg": 0.0}, "width_deg is 0.0, expected more than 0"),
        ("soft", {"width_deg": math.nan}, "width_deg is nan"),
        ("soft", {"shape": "gausian"}, "did you mean 'gaussian'"),
        ("smoothed", {"smoothing": 1.0}, "smoothing is 1.0, expected 0 or more and below 1"),
        ("earth_mover", {"width_deg": -1.0}, "width_deg is -1.0"),
    ],
)
def test_wrong_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        doa_loss(name, options)(torch.zeros(1, 72), torch.zeros(1))
