"""Every encoder in the package keeps the contract: shapes, gradients, causality, items apart."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msdet.components import component_names, find_component
from msdet.errors import MsdetError, UnknownNameError
from msdet.models.encoders import build_encoder

PACKAGE = "msdet.models.encoders"
NAMES = component_names(PACKAGE)
FEATURES = 5


def options_of(name: str) -> list[dict[str, Any]]:
    """The defaults, and the causal variant where there is one."""
    parameters = inspect.signature(find_component(PACKAGE, name, "Encoder", "encoder")).parameters
    return [{}, {"causal": True}] if "causal" in parameters else [{}]


CASES = [(name, options) for name in NAMES for options in options_of(name)]


def build(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return cast(nn.Module, build_encoder(name, options, FEATURES)).eval()


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(1))


def test_there_are_encoders_and_the_default_is_one() -> None:
    assert "ft_gru" in NAMES


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("shape", [(1, 9, 4), (2, 17, 1), (1, 1, 6), (3, 8, 2)])
def test_any_number_of_frequencies_and_frames(
    name: str, options: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    encoder = build(name, options)
    encoded = encoder(features(*shape))
    assert encoded.shape == (*shape, encoder.features_out)
    assert isinstance(encoder.causal, bool)
    assert torch.isfinite(encoded).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_reaches_every_parameter_and_the_input(name: str, options: dict[str, Any]) -> None:
    encoder = build(name, options)
    x = features(2, 9, 4).requires_grad_()
    encoder(x).square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name
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
    again = cast(nn.Module, build_encoder(name, options, FEATURES)).eval()
    x = features(1, 9, 6)
    assert not torch.equal(again(x), encoder(x))
    again.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    torch.testing.assert_close(again(x), encoder(x), rtol=0, atol=0)


@pytest.mark.parametrize("group", [1, 2, 3, 16])
def test_ft_gru_reaches_across_frequency_for_any_grouping(group: int) -> None:
    encoder = build("ft_gru", {"hidden": 6, "group": group})
    x = features(1, 9, 3)
    changed = x.clone()
    changed[:, 8] += 1.0
    assert encoder(x).shape == (1, 9, 3, 6)
    assert (encoder(x) - encoder(changed)).abs()[:, 0].max() > 0


def test_unknown_encoder_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown encoder 'ft_grru'; did you mean 'ft_gru'"):
        build_encoder("ft_grru", {}, FEATURES)


@pytest.mark.parametrize(("option", "nearest"), [("hiden", "hidden"), ("grup", "group")])
def test_unknown_option_offers_the_nearest(option: str, nearest: str) -> None:
    with pytest.raises(MsdetError, match=f"has no option '{option}'; did you mean '{nearest}'"):
        build_encoder("ft_gru", {option: 1}, FEATURES)


def test_derived_size_is_no_option() -> None:
    with pytest.raises(MsdetError, match="has no option 'features_in'"):
        build_encoder("ft_gru", {"features_in": 3}, FEATURES)


@pytest.mark.parametrize(
    "path", ["no_such_module:Encoder", "msdet.files:Encoder", "msdet.files:", ":Encoder"]
)
def test_import_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(MsdetError, match=f"encoder '{path}'"):
        build_encoder(path, {}, FEATURES)
