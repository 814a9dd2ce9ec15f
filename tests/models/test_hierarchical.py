"""Hierarchical sharing: localization from the lower blocks, its posterior conditions those above, by slot."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msdet.errors import MsdetError
from msdet.models.encoders import build_encoder, ft_gru, ft_jnf, spatialnet
from msdet.models.sharing import SHARING_SCHEMES, SharingSizes

TINY: dict[str, dict[str, Any]] = {"ft_gru": ft_gru.TINY, "spatialnet": spatialnet.TINY, "ft_jnf": ft_jnf.TINY}
FEATURES, FREQS, TALKERS, OUTPUTS = 5, 9, 3, 11
every_encoder = pytest.mark.parametrize("encoder", TINY)


class Locate(nn.Module):
    """Stands for a DoA head: logits ``(batch, talker, outputs)`` of pooled features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, TALKERS * OUTPUTS)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features.mean((1, 2))).unflatten(-1, (TALKERS, OUTPUTS))
        return logits


def build(
    encoder: str,
    blocks: dict[str, int] | None = None,
    jitter: float = 0.0,
    scheme: str = "hierarchical",
    **options: Any,
) -> Any:
    """The scheme; with `jitter`, one that has left its starting point."""
    torch.manual_seed(0)
    make_encoder = partial(build_encoder, encoder, {**TINY[encoder], **(blocks or {})}, FEATURES, FREQS)
    sharing: Any = SHARING_SCHEMES.build(
        scheme, options, make_encoder=make_encoder, sizes=SharingSizes(TALKERS, OUTPUTS)
    )
    with torch.no_grad():
        for parameter in sharing.parameters() if jitter else ():
            parameter += jitter * torch.randn(parameter.shape)
    return sharing.eval()


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(2))


@every_encoder
def test_slots_start_alike_and_unconditioned(encoder: str) -> None:
    sharing, plain = build(encoder), build(encoder, scheme="hard")
    plain.encoder.load_state_dict(sharing.encoder.state_dict())
    x = features(2, FREQS, 4)
    expected = plain(x, Locate(plain.features_doa)).separation
    separation = sharing(x, Locate(sharing.features_doa)).separation
    for slot in range(TALKERS):
        torch.testing.assert_close(separation[:, slot], expected, atol=1e-6, rtol=1e-5)


@every_encoder
def test_slots_follow_their_posteriors(encoder: str) -> None:
    sharing = build(encoder, jitter=0.2)
    x, logits = features(2, FREQS, 4), 3.0 * torch.randn(2, TALKERS, OUTPUTS)
    separation = sharing(x, lambda _: logits).separation
    for order in itertools.permutations(range(TALKERS)):
        permuted = sharing(x, lambda _, order=order: logits[:, list(order)]).separation
        torch.testing.assert_close(permuted, separation[:, list(order)], atol=1e-6, rtol=1e-5)
    gap = (separation[:, 0] - separation[:, 1]).abs().amax()
    assert gap > 1e-3 * separation.abs().amax()
    same = sharing(x, lambda _: logits[:, :1].expand(-1, TALKERS, -1)).separation
    torch.testing.assert_close(same[:, 0], same[:, 2], atol=1e-6, rtol=1e-5)


def test_localization_sees_the_lower_blocks_only() -> None:
    sharing = build("spatialnet", {"blocks": 5}, after=2, jitter=0.05)
    x = features(1, FREQS, 4)
    state = sharing.encoder.start(x)
    for index in range(2):
        state = sharing.encoder.block(index, state)
    torch.testing.assert_close(sharing(x, Locate(sharing.features_doa)).doa, state)
    assert build("spatialnet", {"blocks": 5}).after == 2
    assert build("spatialnet", {"blocks": 2}).after == 1


@pytest.mark.parametrize("detach", [False, True])
def test_separation_trains_localization_unless_detached(detach: bool) -> None:
    sharing = build("ft_jnf", jitter=0.1, detach=detach)
    head = Locate(sharing.features_doa)
    sharing(features(2, FREQS, 4), head).separation.square().sum().backward()
    assert (head.linear.weight.grad is None) == detach


def test_temperature_flattens_the_posterior() -> None:
    logits = 4.0 * torch.randn(1, TALKERS, OUTPUTS)
    x = features(1, FREQS, 4)
    hot = build("ft_jnf", jitter=0.2, temperature=4.0)
    plain = build("ft_jnf", jitter=0.2)
    found, expected = hot(x, lambda _: logits), plain(x, lambda _: logits / 4.0)
    torch.testing.assert_close(found.separation, expected.separation)
    torch.testing.assert_close(found.logits, logits)


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ({"blocks": 1}, {}, "needs at least 2 blocks, encoder 'ft_gru' has 1"),
        ({}, {"after": 2}, "after 2 is not 1 to 1: the encoder has 2 blocks"),
        ({}, {"after": 0}, "after 0 is not 1 to 1: the encoder has 2 blocks"),
        ({}, {"temperature": 0.0}, "temperature 0.0 is not above 0"),
        ({}, {"aftr": 1}, "sharing scheme 'hierarchical' has no option 'aftr'; did you mean 'after'"),
    ],
)
def test_wrong_hierarchy_is_refused_in_one_line(encoder: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        build("ft_gru", encoder, **options)
