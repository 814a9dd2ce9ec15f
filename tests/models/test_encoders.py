"""Every encoder in the package keeps the contract: shapes, gradients, causality, items apart, precision."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msdet.errors import MsdetError, UnknownNameError
from msdet.models.encoders import BLOCK_MEMBERS, ENCODERS, build_encoder

PACKAGE = "msdet.models.encoders"
NAMES = ENCODERS.names()
FEATURES = 5
FREQS = 9
METHODS = [member for member in BLOCK_MEMBERS if member != "depth"]  # which an encoder has once it is built


def factory(name: str) -> Any:
    return ENCODERS.find(name)


def takes(name: str, option: str) -> bool:
    return option in inspect.signature(factory(name)).parameters


def options_of(name: str) -> list[dict[str, Any]]:
    """A small one, and its causal variant where there is one."""
    tiny = ENCODERS.fact(name, "tiny", {})
    return [tiny, {**tiny, "causal": True}] if takes(name, "causal") else [tiny]


CASES = [
    pytest.param(name, options, id=f"{name}-causal" if options.get("causal") else name)
    for name in NAMES
    for options in options_of(name)
]
CHECKPOINTED = [case for case in CASES if takes(str(case.values[0]), "checkpoint")]
DROPPING = [case for case in CASES if takes(str(case.values[0]), "dropout")]
BLOCKWISE = [case for case in CASES if all(hasattr(factory(str(case.values[0])), m) for m in METHODS)]
COMPILED = [name for name in NAMES if getattr(factory(name), "compiles", False)]


def build(name: str, options: dict[str, Any], freqs: int = FREQS) -> nn.Module:
    torch.manual_seed(0)
    return cast(nn.Module, build_encoder(name, options, FEATURES, freqs)).eval()


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(1))


def gradients(encoder: nn.Module, x: Tensor) -> dict[str, Tensor]:
    encoder(x).square().sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


def test_the_package_has_the_encoders_it_promises() -> None:
    promised = {"conv_tasnet", "dense_unet", "dprnn", "ft_gru", "ft_jnf", "spatialnet", "tfgridnet"}
    assert promised <= set(NAMES)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("shape", [(1, 9, 4), (2, 17, 1), (1, 1, 7), (3, 8, 2), (1, 12, 50)])
def test_any_number_of_frequencies_and_frames(name: str, options: dict[str, Any], shape: tuple[int, int, int]) -> None:
    encoder = build(name, options, freqs=shape[1])
    encoded = encoder(features(*shape))
    assert encoded.shape == (*shape, encoder.features_out)
    assert isinstance(encoder.causal, bool)
    assert torch.isfinite(encoded).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_one_encoder_takes_any_number_of_frames(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    for frames in (1, 7, 50):
        assert encoder(features(2, FREQS, frames)).shape == (2, FREQS, frames, encoder.features_out)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_reaches_every_parameter_and_the_input(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    x = features(2, 9, 4).requires_grad_()
    reached = gradients(encoder, x)
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert len(trained) > 0.9 * len(list(encoder.parameters()))
    for parameter_name in trained:
        assert parameter_name in reached, parameter_name
        assert torch.isfinite(reached[parameter_name]).all(), parameter_name
        assert reached[parameter_name].any(), parameter_name
    assert x.grad is not None
    assert x.grad.abs().amax((0, 3)).all(), "some bin is ignored"


@pytest.mark.parametrize(("name", "options"), CASES)
def test_declared_causality_is_true(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    x = features(1, 9, 8)
    changed = x.clone()
    changed[:, :, 5:] += 1.0
    difference = (encoder(x) - encoder(changed)).abs().amax((0, 1, 3))
    assert (difference[5:] > 0).all()
    if encoder.causal:
        assert (difference[:5] <= 1e-6).all()
    else:
        assert (difference[:5] > 0).any()
    if options.get("causal"):
        assert encoder.causal


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if "causal" in str(case.id)])
def test_causal_encoder_of_a_prefix_gives_the_prefix(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    x = features(1, 9, 11)
    torch.testing.assert_close(encoder(x[:, :, :6]), encoder(x)[:, :, :6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_items_of_a_batch_do_not_touch(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    x = features(2, 9, 6)
    alone = torch.cat([encoder(x[:1]), encoder(x[1:])])
    torch.testing.assert_close(encoder(x), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_saved_weights_give_the_same_encoder(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    encoder = build(name, options)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    torch.manual_seed(99)
    again = cast(nn.Module, build_encoder(name, options, FEATURES, FREQS)).eval()
    x = features(1, 9, 6)
    assert not torch.equal(again(x), encoder(x))
    again.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    torch.testing.assert_close(again(x), encoder(x), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_bfloat16_stays_within_5_percent_of_float32(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    x = features(2, 9, 20)
    exact = encoder(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder(x)
        rough.float().square().sum().backward()  # the backward pass works too
    error = (rough.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 0.0 < error < 0.05
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize(("name", "options"), CHECKPOINTED)
def test_checkpointing_changes_no_gradient(name: str, options: dict[str, Any]) -> None:
    x = features(2, 9, 4)
    kept = gradients(build(name, options).train(), x)
    recomputed = gradients(build(name, {**options, "checkpoint": True}).train(), x)
    assert kept.keys() == recomputed.keys()
    for parameter, gradient in kept.items():
        torch.testing.assert_close(recomputed[parameter], gradient, msg=parameter)


@pytest.mark.parametrize(("name", "options"), DROPPING)
def test_dropout_drops_in_training_only(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, {**options, "dropout": 0.5})
    x = features(1, 9, 4)
    torch.testing.assert_close(encoder(x), build(name, options)(x), rtol=0, atol=0)
    encoder.train()
    assert not torch.equal(encoder(x), encoder(x))


def test_encoders_that_are_made_of_blocks_show_them() -> None:
    assert {case.values[0] for case in BLOCKWISE} >= {"ft_gru", "ft_jnf", "spatialnet", "tfgridnet"}


@pytest.mark.parametrize(("name", "options"), BLOCKWISE)
def test_encoder_is_its_blocks_in_turn(name: str, options: dict[str, Any]) -> None:
    encoder: Any = build(name, options)
    x = features(2, FREQS, 6)
    state = encoder.start(x)
    assert encoder.depth >= 1
    for index in range(encoder.depth):
        state = encoder.block(index, state)
        assert (state.shape[0], *state.shape[-2:]) == (2, 6, encoder.width(index))
    torch.testing.assert_close(encoder.finish(state, x), encoder(x), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "options"), BLOCKWISE)
def test_there_is_a_way_out_after_every_block(name: str, options: dict[str, Any]) -> None:
    encoder: Any = build(name, options)
    x = features(2, FREQS, 6).requires_grad_()
    owned = {id(p) for p in encoder.parameters()}
    state = encoder.start(x)
    for index in range(encoder.depth):
        state = encoder.block(index, state)
        way_out = encoder.exit_after(index)
        assert not owned & {id(p) for p in way_out.parameters()}
        found = way_out(state, x)
        assert found.shape == (2, FREQS, 6, way_out.features_out)
        found.square().sum().backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.any() for p in way_out.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_declared_compilation_has_no_graph_break(name: str) -> None:
    encoder = build(name, options_of(name)[-1])
    x = features(1, 9, 6)
    torch.compiler.reset()
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")  # what breaks, breaks before code
    for frames in (6, 4):
        part = x[:, :, :frames]
        torch.testing.assert_close(compiled(part), encoder(part), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_option_offers_the_nearest_of_any_encoder(name: str) -> None:
    parameters = inspect.signature(factory(name)).parameters
    option = next(o for o in parameters if o not in ("features_in", "freqs"))
    with pytest.raises(MsdetError, match=f"has no option '{option}x'; did you mean '{option}'"):
        build_encoder(name, {f"{option}x": 1}, FEATURES, FREQS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["features_in", "freqs"])
def test_derived_size_is_no_option(name: str, size: str) -> None:
    with pytest.raises(MsdetError, match=f"encoder '{name}' has no option '{size}'"):
        build_encoder(name, {size: 3}, FEATURES, FREQS)


@pytest.mark.parametrize("name", [name for name in NAMES if takes(name, "freqs")])
def test_encoder_that_needs_the_number_of_frequencies_says_so(name: str) -> None:
    with pytest.raises(MsdetError, match=f"encoder '{name}' needs the number of frequencies"):
        build_encoder(name, {}, FEATURES)


OWN = """
from torch import nn

class Plain(nn.Module):
    causal, features_out = True, 3
    def __init__(self, features_in):
        super().__init__()
        self.sizes = (features_in,)

class Sized(Plain):
    def __init__(self, features_in, freqs=None):
        super().__init__(features_in)
        self.sizes = (features_in, freqs)
"""


def test_own_encoder_is_given_the_sizes_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_encoders.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    assert cast(Any, build_encoder("own_encoders:Plain", {}, FEATURES, FREQS)).sizes == (FEATURES,)
    assert cast(Any, build_encoder("own_encoders:Sized", {}, FEATURES, FREQS)).sizes == (FEATURES, FREQS)
    assert cast(Any, build_encoder("own_encoders:Sized", {}, FEATURES)).sizes == (FEATURES, None)


def test_unknown_encoder_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown encoder 'ft_grru'; did you mean 'ft_gru'"):
        build_encoder("ft_grru", {}, FEATURES)


@pytest.mark.parametrize(("option", "nearest"), [("hiden", "hidden"), ("grup", "group")])
def test_unknown_option_offers_the_nearest(option: str, nearest: str) -> None:
    with pytest.raises(MsdetError, match=f"has no option '{option}'; did you mean '{nearest}'"):
        build_encoder("ft_gru", {option: 1}, FEATURES)


@pytest.mark.parametrize("path", ["no_such_module:Encoder", "msdet.io.files:Encoder", "msdet.io.files:", ":Encoder"])
def test_import_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(MsdetError, match=f"encoder '{path}'"):
        build_encoder(path, {}, FEATURES)
