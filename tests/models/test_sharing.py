"""Sharing schemes: each keeps the contract with any encoder it can work with, and does what it says."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msdet.errors import MsdetError, UnknownNameError
from msdet.models.encoders import build_encoder, ft_gru, ft_jnf, spatialnet
from msdet.models.sharing import SHARING_SCHEMES, Shared, SharingSizes

SCHEMES = SHARING_SCHEMES.names()
BETWEEN_BLOCKS = ["cross_stitch", "hierarchical"]
TINY: dict[str, dict[str, Any]] = {
    "ft_gru": {**ft_gru.TINY, "blocks": 2},
    "spatialnet": spatialnet.TINY,
    "ft_jnf": ft_jnf.TINY,
}
FEATURES, FREQS, TALKERS, OUTPUTS = 5, 9, 3, 11
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)
every_encoder = pytest.mark.parametrize("encoder", TINY)


class Locate(nn.Module):
    """Stands for a DoA head: logits ``(batch, talker, outputs)`` of pooled features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, TALKERS * OUTPUTS)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features.mean((1, 2))).unflatten(-1, (TALKERS, OUTPUTS))
        return logits


def make(encoder: str, **options: Any) -> Any:
    """Makes encoders of a kind, of `TINY` size."""
    return partial(build_encoder, encoder, {**TINY.get(encoder, {}), **options}, FEATURES, FREQS)


def build(scheme: str, make_encoder: Any, jitter: float = 0.0, **options: Any) -> Any:
    """A scheme; with `jitter`, one that has left its starting point."""
    torch.manual_seed(0)
    sharing: Any = SHARING_SCHEMES.build(
        scheme, options, make_encoder=make_encoder, sizes=SharingSizes(TALKERS, OUTPUTS)
    )
    with torch.no_grad():
        for parameter in sharing.parameters() if jitter else ():
            parameter += jitter * torch.randn(parameter.shape)
    return sharing.eval()


def locate(sharing: Any) -> Locate:
    torch.manual_seed(1)
    return Locate(sharing.features_doa)


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(2))


def test_the_package_has_the_schemes_it_promises() -> None:
    assert {"hard", "none", "soft", "cross_stitch", "hierarchical"} <= set(SCHEMES)


@every_scheme
@every_encoder
@pytest.mark.parametrize("frames", [1, 6])
def test_shapes(scheme: str, encoder: str, frames: int) -> None:
    sharing = build(scheme, make(encoder))
    shared: Shared = sharing(features(2, FREQS, frames), locate(sharing))
    slots = (TALKERS,) if sharing.per_slot else ()
    assert shared.doa.shape == (2, FREQS, frames, sharing.features_doa)
    assert shared.logits.shape == (2, TALKERS, OUTPUTS)
    assert shared.separation.shape == (2, *slots, FREQS, frames, sharing.features_separation)
    assert sharing.per_slot == (scheme == "hierarchical")


@every_scheme
@every_encoder
def test_both_heads_reach_every_parameter(scheme: str, encoder: str) -> None:
    """And each head alone reaches no parameter that the scheme keeps for the other."""
    sharing = build(scheme, make(encoder), jitter=0.05)
    head = locate(sharing)
    shared = sharing(features(2, FREQS, 4), head)
    losses = {"doa": shared.logits.square().sum(), "separation": shared.separation.square().sum()}
    reached: dict[str, set[str]] = {}
    for task, loss in losses.items():
        sharing.zero_grad()
        loss.backward(retain_graph=True)
        reached[task] = {n for n, p in sharing.named_parameters() if p.grad is not None and p.grad.any()}
    names = {name for name, _ in sharing.named_parameters()}
    assert reached["doa"] | reached["separation"] == names
    assert reached["doa"] & reached["separation"] or scheme in ("none", "soft")
    for task, other in itertools.permutations(losses):
        if scheme in ("none", "soft"):
            assert all(name.startswith(f"encoder_{task}.") for name in reached[task] - reached[other])
        if scheme in ("hard", "cross_stitch"):
            assert len(reached[task]) > 0.8 * len(names)
    if scheme == "hierarchical":
        assert {n for n in names if n.startswith("exit_doa.")} <= reached["doa"]
        assert not {n for n in names if n.startswith("condition.")} & reached["doa"]


@every_scheme
@every_encoder
def test_items_of_a_batch_do_not_touch(scheme: str, encoder: str) -> None:
    sharing = build(scheme, make(encoder), jitter=0.05)
    x, head = features(2, FREQS, 6), locate(sharing)
    alone = [sharing(x[:1], head), sharing(x[1:], head)]
    for together, parts in zip(sharing(x, head), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(parts), atol=1e-5, rtol=1e-5)


@every_scheme
@every_encoder
@pytest.mark.parametrize("causal", [False, True])
def test_no_scheme_looks_ahead_but_through_the_posterior(scheme: str, encoder: str, causal: bool) -> None:
    sharing = build(scheme, make(encoder, causal=causal), jitter=0.05)
    logits = torch.randn(1, TALKERS, OUTPUTS)
    x = features(1, FREQS, 8)
    changed = x.clone()
    changed[:, :, 5:] += 1.0
    before, after = sharing(x, lambda _: logits), sharing(changed, lambda _: logits)
    doa, separation = (
        (found - expected).abs().movedim(-2, 0).flatten(1).amax(1)
        for found, expected in ((after.doa, before.doa), (after.separation, before.separation))
    )
    assert (doa[5:] > 0).all() and (separation[5:] > 0).all()
    assert bool((separation[:5] <= 1e-5).all()) == causal
    assert (doa[:5] <= 1e-5).all() or not causal
    assert sharing.causal == (causal and scheme != "hierarchical")


@every_scheme
@every_encoder
def test_saved_weights_give_the_same_features(scheme: str, encoder: str, tmp_path: Path) -> None:
    sharing = build(scheme, make(encoder), jitter=0.05)
    save_file(sharing.state_dict(), tmp_path / "sharing.safetensors")
    again = build(scheme, make(encoder))
    again.load_state_dict(load_file(tmp_path / "sharing.safetensors"))
    x, head = features(1, FREQS, 6), locate(sharing)
    for found, expected in zip(again(x, head), sharing(x, head), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@every_scheme
@every_encoder
@torch.no_grad()
def test_half_precision_stays_near(scheme: str, encoder: str) -> None:
    sharing = build(scheme, make(encoder), jitter=0.05)
    x, head = features(2, FREQS, 6), locate(sharing)
    exact = sharing(x, head)
    with torch.autocast("cpu", torch.bfloat16):
        rough = sharing(x, head)
    for found, expected in zip(rough, exact, strict=True):
        assert float((found.float() - expected).norm() / expected.norm()) < 0.02


@every_scheme
def test_checkpointing_changes_no_gradient(scheme: str) -> None:
    found = []
    for checkpoint in (False, True):
        sharing = build(scheme, make("spatialnet", checkpoint=checkpoint), jitter=0.05).train()
        sharing(features(1, FREQS, 4), locate(sharing)).separation.square().sum().backward()
        found.append([p.grad for p in sharing.parameters() if p.grad is not None])
    for kept, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, kept)


# soft


@every_encoder
def test_soft_encoders_start_equal_and_are_held_together(encoder: str) -> None:
    sharing = build("soft", make(encoder))
    shared = sharing(features(1, FREQS, 4), locate(sharing))
    torch.testing.assert_close(shared.separation, shared.doa, rtol=0, atol=0)
    assert sharing.penalty().item() == 0.0
    apart = build("soft", make(encoder), start_equal=False)
    penalty = apart.penalty()
    assert penalty.item() > 0.0
    penalty.backward()
    pairs = zip(apart.encoder_doa.parameters(), apart.encoder_separation.parameters(), strict=True)
    for doa, separation in pairs:
        torch.testing.assert_close(doa.grad, -separation.grad)  # they pull at each other


def test_soft_penalty_is_the_squared_distance_of_the_named_groups() -> None:
    patterns = ["blocks.0.*", "leave.weight"]
    options: dict[str, Any] = {"weight": 0.3, "parameters": patterns, "start_equal": False}
    plain = build("soft", make("ft_gru"), normalize=False, **options)
    relative = build("soft", make("ft_gru"), **options)
    pairs = [
        (a.detach(), b.detach(), name)
        for (name, a), b in zip(
            plain.encoder_doa.named_parameters(), plain.encoder_separation.parameters(), strict=True
        )
    ]
    groups = [[p for p in pairs if p[2].startswith("blocks.0.")], [p for p in pairs if p[2] == "leave.weight"]]
    distances = [sum((a - b).square().sum() for a, b, _ in group) for group in groups]
    norms = [sum((a.square() + b.square()).sum() / 2 for a, b, _ in group) for group in groups]
    torch.testing.assert_close(plain.penalty(), 0.3 * (distances[0] + distances[1]))
    expected = 0.3 * (distances[0] / norms[0] + distances[1] / norms[1])
    torch.testing.assert_close(relative.penalty(), expected)
    relative.penalty().backward()
    held = {name for name, p in relative.encoder_doa.named_parameters() if p.grad is not None}
    assert held == {name for group in groups for _, _, name in group}


def test_relative_distance_does_not_depend_on_the_scale_of_the_weights() -> None:
    sharing = build("soft", make("ft_jnf"), start_equal=False)
    before = sharing.penalty().item()
    with torch.no_grad():
        for parameter in sharing.parameters():
            parameter *= 7.0
    assert sharing.penalty().item() == pytest.approx(before, rel=1e-4)


def test_soft_penalty_alone_brings_the_encoders_together() -> None:
    sharing = build("soft", make("ft_jnf"), weight=1.0, start_equal=False)
    optimizer = torch.optim.Adam(sharing.parameters(), lr=0.02)
    first = sharing.penalty().item()
    for _ in range(50):
        optimizer.zero_grad()
        sharing.penalty().backward()
        optimizer.step()
    assert sharing.penalty().item() < 0.05 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": ["bloks.0.*"]}, "matches 'bloks.0.*'; the nearest is blocks.0."),
        ({"parameters": "*.wieght"}, "matches '*.wieght'; the nearest is leave.weight"),
        ({"parameters": []}, "parameters is empty"),
        ({"weight": -1.0}, "weight -1.0 is not 0 or more"),
        ({"weight": float("nan")}, "weight nan is not 0 or more"),
        ({"wieght": 1.0}, "sharing scheme 'soft' has no option 'wieght'; did you mean 'weight'"),
    ],
)
def test_wrong_option_of_soft_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError) as error:
        build("soft", make("ft_gru"), **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_frozen_parameters_are_not_held_together() -> None:
    sharing = build("soft", make("conv_tasnet", **{"hidden": 8, "skip": 5, "blocks": 2, "repeats": 1}))
    names = sharing.groups[0]
    assert names and not any("TCN.1.res_conv" in name for name in names)


# cross-stitch


@every_encoder
def test_cross_stitch_at_identity_is_two_encoders(encoder: str) -> None:
    stitched, apart = build("cross_stitch", make(encoder), own=1.0, other=0.0), build("none", make(encoder))
    x, head = features(2, FREQS, 5), locate(apart)
    for found, expected in zip(stitched(x, head), apart(x, head), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_cross_stitch_mixes_each_channel_of_each_block() -> None:
    sharing = build("cross_stitch", make("ft_jnf"), jitter=0.3)
    encoders = (sharing.encoder_doa, sharing.encoder_separation)
    assert [stitch.mix.shape for stitch in sharing.stitches] == [
        (2, 2, encoders[0].width(0)),
        (2, 2, encoders[0].width(1)),
    ]
    x = features(1, FREQS, 4)
    states = [x, x]
    for index, stitch in enumerate(sharing.stitches):
        states = [encoder.block(index, state) for encoder, state in zip(encoders, states, strict=True)]
        states = list(torch.einsum("uvc,vbftc->ubftc", stitch.mix, torch.stack(states)))
    shared = sharing(x, locate(sharing))
    torch.testing.assert_close(shared.doa, states[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(shared.separation, states[1], atol=1e-6, rtol=1e-5)


def test_cross_stitch_starts_from_its_options() -> None:
    for options, values in ({}, (0.9, 0.1)), ({"own": 0.7, "other": 0.2}, (0.7, 0.2)):
        sharing = build("cross_stitch", make("spatialnet"), **options)
        for stitch in sharing.stitches:
            assert torch.equal(stitch.mix[:, :, 3], torch.tensor([values, values[::-1]]))


# what cannot be built


@pytest.mark.parametrize("scheme", BETWEEN_BLOCKS)
@pytest.mark.parametrize("encoder", ["conv_tasnet", "dprnn", "dense_unet"])
def test_encoder_without_blocks_is_refused_with_what_it_can_do(scheme: str, encoder: str) -> None:
    with pytest.raises(MsdetError, match=f"'{scheme}' works between blocks, which encoder '{encoder}'") as error:
        build(scheme, partial(build_encoder, encoder, {}, FEATURES, FREQS))
    assert str(error.value).endswith("it has no depth, start, block, finish, width, exit_after; it can do: "
                                     "hard, none, soft")  # fmt: skip


class Silent(nn.Module):
    """An encoder of which nothing is known."""


@pytest.mark.parametrize(("scheme", "made"), [("hard", Silent), ("cross_stitch", Silent), ("none", object)])
def test_what_is_no_encoder_is_named(scheme: str, made: Any) -> None:
    message = "has no attribute 'features_out'" if made is Silent else r"is not a torch\.nn\.Module"
    with pytest.raises(MsdetError, match=f"encoder {made.__name__} {message}"):
        build(scheme, made)


def test_unknown_scheme_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown sharing scheme 'crosstitch'; did you mean 'cross_stitch'"):
        build("crosstitch", make("ft_gru"))


# a user's own scheme

OWN = '''
"""Branches: the first blocks are common, from there on each head has its own."""

import torch

from msdet.models.sharing import Shared, as_blocks


class Branches(torch.nn.Module):
    per_slot = False
    needs_blocks = True

    def __init__(self, make_encoder, sizes, common=1):
        super().__init__()
        self.encoder = as_blocks(make_encoder(), "branches", at_least=2)
        self.branch = as_blocks(make_encoder(), "branches")
        self.common = common
        self.features_doa = self.features_separation = self.encoder.features_out
        self.causal = self.encoder.causal

    def forward(self, features, localize):
        state = self.encoder.start(features)
        for index in range(self.common):
            state = self.encoder.block(index, state)
        doa = separation = state
        for index in range(self.common, self.encoder.depth):
            doa, separation = self.branch.block(index, doa), self.encoder.block(index, separation)
        doa = self.branch.finish(doa, features)
        return Shared(doa, localize(doa), self.encoder.finish(separation, features))

    def penalty(self):
        return None
'''


def test_scheme_of_a_user_works_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sharing_of_a_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    scheme = "sharing_of_a_user:Branches"
    sharing = build(scheme, make("spatialnet"))
    x, head = features(2, FREQS, 4), locate(sharing)
    shared = cast(Shared, sharing(x, head))
    torch.testing.assert_close(shared.separation, sharing.encoder(x), rtol=0, atol=0)
    assert not torch.equal(shared.doa, shared.separation)
    shared.logits.square().sum().backward()
    reached = {name for name, p in sharing.named_parameters() if p.grad is not None}
    assert any(name.startswith("encoder.narrow_band.0") for name in reached)
    assert not any(name.startswith("encoder.narrow_band.1") for name in reached)
    with pytest.raises(MsdetError, match="has no option 'comon'; did you mean 'common'"):
        build(scheme, make("spatialnet"), comon=1)
    with pytest.raises(MsdetError, match="'branches' needs at least 2 blocks, encoder 'ft_gru' has 1"):
        build(scheme, make("ft_gru", blocks=1))
