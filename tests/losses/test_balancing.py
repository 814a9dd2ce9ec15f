"""Each way of balancing on small problems whose answer is known."""

from __future__ import annotations

import copy
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msdet.errors import MsdetError
from msdet.losses.weighting import BALANCERS, GradientBalancer

NAMES = BALANCERS.names()
TORCHJD = ["aligned_mtl", "cagrad", "imtl_g", "mgda", "nash_mtl", "pcgrad", "upgrad"]
BOTH = {"a": 1.0, "b": 1.0}


def build(name: str, weights: dict[str, float] = BOTH, **options: Any) -> Any:
    return BALANCERS.build(name, options, weights=weights)


def gradient(balancer: Any, *rows: list[float]) -> list[float]:
    """What a balancer makes of gradients, those of linear losses of one shared parameter."""
    shared = torch.zeros(len(rows[0]), dtype=torch.double, requires_grad=True)
    losses = {n: shared @ torch.tensor(r, dtype=torch.double) + 1 for n, r in zip("abcd", rows, strict=False)}
    (found,) = balancer.gradients(losses, [shared])
    listed: list[float] = found.tolist()
    return listed


def test_torchjd_methods_are_those_that_give_gradients() -> None:
    assert [n for n in NAMES if isinstance(build(n, {"a": 1.0, "doa": 1.0}), GradientBalancer)] == sorted(
        [*TORCHJD, "gradnorm"]
    )


def test_uncertainty_finds_the_noise_of_fixed_losses() -> None:
    """½ e⁻ˢ L + ½ s is least at eˢ = L, e⁻ˢ L + ½ s at eˢ = 2 L."""
    weights = {"separation": 0.7, "doa": 0.3}
    balancer = build("uncertainty", weights)
    minimize(balancer.parameters(), lambda: balancer({"separation": torch.tensor(0.3), "doa": torch.tensor(2.0)}))
    assert balancer.log_variance.exp().tolist() == pytest.approx([0.3, 4.0], rel=1e-3)
    assert balancer.task_weights().tolist() == pytest.approx([0.7 * 0.5 / 0.3, 0.3 / 4.0], rel=1e-3)


def test_uncertainty_converges_on_two_quadratics() -> None:
    """L = (x ± 1)² + 2: the product of both is least at x = 0, where both are 3."""
    balancer = build("uncertainty", classification=[])
    x = torch.tensor(0.7, requires_grad=True)
    minimize([x, *balancer.parameters()], lambda: balancer({"a": (x + 1) ** 2 + 2, "b": (x - 1) ** 2 + 2}))
    assert x.item() == pytest.approx(0.0, abs=1e-2)
    assert balancer.log_variance.tolist() == pytest.approx([math.log(3)] * 2, abs=1e-2)


def minimize(parameters: Any, loss: Any) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss()
        value.backward()
        return value

    optimizer.step(closure)


def test_uncertainty_of_an_unlabeled_task_stays() -> None:
    balancer = build("uncertainty", {"separation": 0.7, "doa": 0.3})
    balancer({"separation": torch.tensor(2.0)}).backward()
    assert balancer.log_variance.grad[0] != 0
    assert balancer.log_variance.grad[1] == 0


def test_dynamic_weight_average_by_hand() -> None:
    balancer = build("dynamic_weight_average", {"a": 0.75, "b": 0.25}, temperature=0.5)

    def epoch(number: int, *steps: tuple[float, float | None]) -> None:
        balancer.start_epoch(number)
        for a, b in steps:
            losses = {"a": torch.tensor(a)} | ({} if b is None else {"b": torch.tensor(b)})
            before = balancer.task_weights()
            total = sum(float(w) * float(x) for w, x in zip(before, losses.values(), strict=False))
            assert float(balancer(losses)) == pytest.approx(total, nan_ok=True)

    epoch(0, (4.0, 1.0), (2.0, None))
    assert balancer.task_weights().tolist() == pytest.approx([0.75, 0.25])
    epoch(1, (1.0, 1.0), (2.0, 0.8))
    assert balancer.task_weights().tolist() == pytest.approx([0.75, 0.25]), "one epoch has no rate"
    epoch(2, (math.nan, 0.1))
    # means 3 and 1, then 1.5 and 0.9: rates 0.5 and 0.9, over the temperature
    share = 1 / (1 + math.exp((0.9 - 0.5) / 0.5))
    expected = [0.75 * 2 * share, 0.25 * 2 * (1 - share)]
    assert balancer.task_weights().tolist() == pytest.approx(expected)
    balancer.start_epoch(2)
    assert balancer.task_weights().tolist() == pytest.approx(expected), "a resumed epoch starts twice"
    balancer.start_epoch(3)
    share = 1 / (1 + math.exp((0.1 / 0.9 - 1.0) / 0.5))
    assert balancer.task_weights().tolist() == pytest.approx([0.75 * 2 * share, 0.25 * 2 * (1 - share)]), (
        "a loss that was not finite is no part of the mean"
    )


def test_dynamic_weight_average_learns_nothing_from_validation() -> None:
    balancer = build("dynamic_weight_average")
    before = copy.deepcopy(balancer.state_dict())
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
    with torch.no_grad():
        balancer(losses)
    balancer.eval()(losses)
    for name, value in balancer.state_dict().items():
        torch.testing.assert_close(value, before[name], equal_nan=True)


def test_gradnorm_equalizes_norms() -> None:
    """Gradients of lengths 1 and 10: with alpha 0 weights of 10 : 1, which keep their sum."""
    balancer = build("gradnorm", {"a": 0.75, "b": 0.25}, alpha=0.0)
    for _ in range(400):
        gradient(balancer, [1.0, 0.0], [6.0, 8.0])
    assert balancer.present.tolist() == pytest.approx([10 / 11, 1 / 11], rel=0.05)


def test_gradnorm_pulls_towards_the_task_that_lags() -> None:
    """Where one loss halved and the other stayed, norms are 2 : 1 with alpha 1."""
    balancer = build("gradnorm", alpha=1.0)
    gramian = torch.eye(2, dtype=torch.double)
    balancer.shares(gramian, [0, 1], torch.tensor([3.0, 8.0]))
    for _ in range(400):
        balancer.shares(gramian, [0, 1], torch.tensor([3.0, 4.0]))
    ratio = float(balancer.present[0] / balancer.present[1])
    assert ratio == pytest.approx(2.0, rel=0.1)
    assert float(balancer.present.sum()) == pytest.approx(2.0)


def test_gradnorm_step_by_hand() -> None:
    """Norms 0.5 and 1.5, mean 1: the first weight grows by rate · 0.5, the second falls by rate · 1.5."""
    balancer = build("gradnorm", {"a": 0.5, "b": 0.5}, alpha=1.0, rate=0.1)
    assert gradient(balancer, [1.0, 0.0], [0.0, 3.0]) == pytest.approx([0.5, 1.5]), "this step's weights"
    moved = [0.5 * math.exp(0.1 * 0.5), 0.5 * math.exp(-0.1 * 1.5)]
    assert balancer.present.tolist() == pytest.approx([w / sum(moved) for w in moved])


def test_pcgrad_removes_the_conflicting_component() -> None:
    # (1, 0) loses its part along (-1, 1), which is -1/2 of it; (-1, 1) its part along (1, 0)
    assert gradient(build("pcgrad"), [1.0, 0.0], [-1.0, 1.0]) == pytest.approx([0.5 + 0.0, 0.5 + 1.0])
    assert gradient(build("pcgrad"), [1.0, 0.0], [1.0, 1.0]) == pytest.approx([2.0, 1.0]), "no conflict"
    assert gradient(build("pcgrad", {"a": 0.75, "b": 0.25}), [1.0, 0.0], [1.0, 1.0]) == pytest.approx([1, 0.25])


def test_mgda_finds_the_shortest_combination() -> None:
    assert gradient(build("mgda"), [2.0, 0.0], [0.0, 1.0]) == pytest.approx([0.4, 0.8], rel=1e-3)
    assert gradient(build("mgda"), [1.0, 0.0], [3.0, 0.0]) == pytest.approx([1.0, 0.0], rel=1e-3)
    # two quadratics |x - (±1, 0)|² / 2 at (0, y): the shortest is straight towards the segment between both
    assert gradient(build("mgda"), [-1.0, 0.3], [1.0, 0.3]) == pytest.approx([0.0, 0.3], abs=1e-6)
    # weights scale the gradients first
    weighted = build("mgda", {"a": 0.5, "b": 1.0})
    assert gradient(weighted, [4.0, 0.0], [0.0, 1.0]) == pytest.approx([0.4, 0.8], rel=1e-3)


def test_cagrad_stays_within_its_radius_and_improves_the_worst_task() -> None:
    rows = torch.tensor([[4.0, -1.0, 0.3], [-1.0, 1.0, 0.1]])
    mean = rows.mean(0)
    assert gradient(build("cagrad", radius=0.0), *rows.tolist()) == pytest.approx(mean.tolist(), abs=1e-6)
    worst = []
    for radius in (0.2, 0.4, 0.8):
        found = torch.tensor(gradient(build("cagrad", radius=radius), *rows.tolist()))
        assert float((found - mean).norm()) == pytest.approx(radius * float(mean.norm()), rel=1e-3)
        worst.append(float((rows @ found).min()))
    assert float((rows @ mean).min()) < worst[0] < worst[1] < worst[2]


def test_imtl_g_projects_equally_on_all_gradients() -> None:
    assert gradient(build("imtl_g"), [2.0, 0.0], [0.0, 1.0]) == pytest.approx([2 / 3, 2 / 3])
    rows = torch.tensor([[4.0, -1.0, 0.3], [-1.0, 1.0, 0.1]])
    along = nn.functional.normalize(rows) @ torch.tensor(gradient(build("imtl_g"), *rows.tolist()))
    assert float(along[0]) == pytest.approx(float(along[1]), rel=1e-4)
    assert float(along[0]) > 0


def test_aligned_mtl_makes_gradients_equally_long() -> None:
    assert gradient(build("aligned_mtl"), [1.0, 0.0], [0.0, 4.0]) == pytest.approx([0.5, 0.5])
    found = gradient(build("aligned_mtl", length="rmse"), [1.0, 0.0], [0.0, 4.0])
    assert found == pytest.approx([math.sqrt(17 / 2) / 2] * 2)


def test_nash_mtl_solves_the_bargain() -> None:
    """G α = 1 / α up to a factor (eq. 2), and the direction is clipped."""
    rows = torch.tensor([[4.0, -1.0, 0.3], [-1.0, 1.0, 0.1]], dtype=torch.double)
    found = torch.tensor(gradient(build("nash_mtl", largest_norm=0.0), *rows.tolist()), dtype=torch.double)
    weights = torch.linalg.lstsq(rows.T, found[:, None]).solution[:, 0]
    gains = (rows @ found) * weights
    assert (weights > 0).all()
    assert float(gains[0]) == pytest.approx(float(gains[1]), rel=1e-2)
    clipped = torch.tensor(gradient(build("nash_mtl", largest_norm=0.1), *rows.tolist()), dtype=torch.double)
    assert float(clipped.norm()) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["mgda", "nash_mtl", "pcgrad", "upgrad", "imtl_g"])
@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_no_loss_rises_along_the_direction(name: str, scale: float) -> None:
    """For two tasks, whatever their conflict; also late in training, where gradients are small."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        rows = scale * torch.randn(2, 3, generator=generator)
        found = torch.tensor(gradient(build(name), *rows.tolist()))
        assert ((rows @ found) >= -1e-3 * rows.norm(dim=-1) * found.norm()).all()
        assert found.norm() > 0


def test_upgrad_by_hand() -> None:
    """Each half gradient, projected on what raises no loss, as PCGrad does for two tasks; then their sum."""
    found = gradient(build("upgrad"), [1.0, 0.0], [-1.0, 1.0])
    assert found == pytest.approx([0.25, 0.75], abs=1e-3)


@pytest.mark.parametrize("name", [*TORCHJD, "gradnorm"])
class TestEveryGradientBalancer:
    """What holds for all of them."""

    def problem(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Two losses of a shared parameter, one of a's own, and one of b's that a's loss goes through."""
        generator = torch.Generator().manual_seed(3)
        shared, head_a, head_b = (torch.randn(3, generator=generator, requires_grad=True) for _ in range(3))
        b = (shared * head_b).sum().square() + 0.1
        a = ((shared * head_a).sum() - 0.5 * b).square() + 0.1
        unused = torch.zeros(2, requires_grad=True)
        return {"a": a, "b": b}, [shared, head_a, head_b, unused]

    def test_shared_parameters_are_those_that_both_losses_reach(self, name: str) -> None:
        losses, (shared, head_a, head_b, unused) = self.problem()
        weights = {"a": 0.75, "b": 0.25}
        found = build(name, weights).gradients(losses, [shared, head_a, head_b, unused])
        assert found[3] is None
        torch.testing.assert_close(found[1], 0.75 * torch.autograd.grad(losses["a"], head_a, retain_graph=True)[0])
        jacobian = torch.stack(
            [
                weights[k] * torch.cat(torch.autograd.grad(losses[k], [shared, head_b], retain_graph=True))
                for k in weights
            ]
        )
        torch.testing.assert_close(torch.cat([found[0], found[2]]), self.expected(name, jacobian), rtol=2e-3, atol=1e-4)

    def expected(self, name: str, jacobian: Tensor) -> Tensor:
        """The same from TorchJD, of the whole matrix."""
        from torchjd import aggregation as A

        if name == "gradnorm":
            return jacobian.sum(0)  # the first step's weights are those given
        aggregators = {
            "aligned_mtl": A.AlignedMTL(), "cagrad": A.CAGrad(c=0.4), "imtl_g": A.IMTLG(), "mgda": A.MGDA(),
            "nash_mtl": A.NashMTL(2), "pcgrad": A.PCGrad(), "upgrad": A.UPGrad(),
        }  # fmt: skip
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Tensor = aggregators[name](jacobian)
        return found

    def test_task_without_gradient_takes_no_part(self, name: str) -> None:
        losses, parameters = self.problem()
        alone = torch.autograd.grad(losses["a"], parameters[:3], retain_graph=True)
        for balancer, b in ((build(name), losses["b"] * 0), (build(name, {"a": 1.0, "b": 0.0}), losses["b"])):
            found = balancer.gradients({"a": losses["a"], "b": b}, parameters)
            for got, wanted in zip(found, alone, strict=False):
                torch.testing.assert_close(got, wanted)

    def test_nothing_labeled_is_no_step(self, name: str) -> None:
        losses, parameters = self.problem()
        found = build(name).gradients({k: v * 0 for k, v in losses.items()}, parameters)
        assert not any(g.any() for g in found[:3])

    def test_nothing_shared_is_refused(self, name: str) -> None:
        x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        with pytest.raises(MsdetError, match="no parameter that learns is reached by two tasks"):
            build(name).gradients({"a": x.sum(), "b": y.sum()}, [x, y])

    def test_gradient_that_is_not_finite_comes_out_as_such(self, name: str) -> None:
        x = torch.ones(2, requires_grad=True)
        balancer = build(name)
        before = copy.deepcopy(balancer.state_dict())
        (found,) = balancer.gradients({"a": x.sum() * torch.nan, "b": x.sum()}, [x])
        assert found.isnan().all()
        for key, value in balancer.state_dict().items():
            torch.testing.assert_close(value, before[key], equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_saving(name: str) -> None:
    """A balancer that goes on from saved state does bit for bit what the first one does."""
    weights = {"separation": 0.5, "doa": 0.3, "t60": 0.2}
    balancer, resumed = (BALANCERS.build(name, {}, weights=weights) for _ in range(2))
    for step in range(6):
        if step == 4:
            resumed.load_state_dict(copy.deepcopy(balancer.state_dict()))  # type: ignore[attr-defined]
            saved = torch.get_rng_state()
            first = [one_step(balancer, s, weights) for s in (4, 5)]
            torch.set_rng_state(saved)
            torch.rand(7)  # other numbers are drawn in a resumed run
            again = [one_step(resumed, s, weights) for s in (4, 5)]
            assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
            return
        one_step(balancer, step, weights)


def one_step(balancer: Any, step: int, weights: dict[str, float]) -> Tensor:
    """Gradients of a step of three conflicting losses; every other step is an epoch."""
    if hasattr(balancer, "start_epoch"):
        balancer.start_epoch(step // 2)
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, generator=generator, requires_grad=True)
    losses = {n: (x - torch.randn(4, generator=generator)).square().sum() for n in weights}
    if isinstance(balancer, GradientBalancer):
        (found,) = balancer.gradients(losses, [x])
        assert found is not None
        return found
    for parameter in balancer.parameters():
        parameter.grad = None
    balancer(losses).backward()
    for parameter in balancer.parameters():
        parameter.data -= 0.1 * parameter.grad
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("name", TORCHJD)
def test_balancing_draws_nothing_from_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    one_step(BALANCERS.build(name, {}, weights={"a": 1.0, "b": 1.0, "c": 1.0}), 0, {"a": 1.0, "b": 1.0, "c": 1.0})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_every_balancer_gives_a_scalar_for_any_labeled_tasks(name: str) -> None:
    balancer = build(name, {"separation": 0.75, "doa": 0.25})
    x = torch.tensor(2.0, requires_grad=True)
    losses = {"separation": x.square(), "doa": x + 1}
    for known in (["separation", "doa"], ["doa"], []):
        total = balancer({task: losses[task] for task in known})
        assert total.shape == () and total.isfinite()


@pytest.mark.parametrize("name", TORCHJD)
def test_missing_torchjd_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(MsdetError, match=r"needs TorchJD: pip install 'msdet\[mtl\]'") as caught:
        build(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradnrm", {}, "unknown balancing 'gradnrm'; did you mean 'gradnorm'"),
        ("cagrad", {"radious": 1.0}, "has no option 'radious'; did you mean 'radius'"),
        ("cagrad", {"radius": -1.0}, "cannot be built with radius=-1.0"),
        ("gradnorm", {"alpha": -1.0}, "cannot be built with alpha=-1.0"),
        ("mgda", {"epsilon": 0.0}, "cannot be built with epsilon=0.0"),
        ("aligned_mtl", {"length": "mean"}, "expected min, median or rmse"),
        ("dynamic_weight_average", {"temperature": 0.0}, "temperature: expected more than 0"),
        ("uncertainty", {"classification": ["aa"]}, "unknown task in balance_options.classification: 'aa'"),
    ],
)
def test_wrong_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build(name, {"a": 1.0, "doa": 1.0}, **options)


@pytest.mark.parametrize("name", ["uncertainty", "dynamic_weight_average", "gradnorm"])
def test_loss_below_zero_is_refused_by_what_compares_ratios(name: str) -> None:
    balancer = build(name, {"a": 1.0, "doa": 1.0})
    x = torch.tensor(1.0, requires_grad=True)
    losses = {"a": -x, "doa": x}
    with pytest.raises(MsdetError, match=f"balance '{name}' needs losses of 0 or more: that of a is -1"):
        balancer.gradients(losses, [x]) if isinstance(balancer, GradientBalancer) else balancer(losses)
