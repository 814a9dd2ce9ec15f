"""Sharing schemes: how much of the encoder localization and separation have in common.

A scheme is a `Sharing` built as ``Scheme(make_encoder, sizes, **options)``: ``make_encoder()`` gives a new encoder,
`SharingSizes` what else sizes follow from. It registers itself, ``@SHARING_SCHEMES.register("hard")``, and says there
if it needs an encoder that shows its blocks (``needs_blocks``) and if it adds a penalty to the loss (``penalizes``). A
user's own scheme needs no base class, and says so by attributes.
"""

from __future__ import annotations

import fnmatch
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from msdet.components import Registry
from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.models.encoders import BLOCK_MEMBERS, ENCODERS, BlockEncoder, Encoder
from msdet.models.frontends import final_frame_logits

MakeEncoder = Callable[[], Encoder]

Localize = Callable[[Tensor], Tensor]
"""The DoA head, from features to logits."""

SHARING_SCHEMES = Registry("sharing scheme", __name__, network=True)


class SharingSizes(NamedTuple):
    """What the sizes of a scheme follow from: the number of output slots, and of outputs of the DoA head for each."""

    talkers: int
    doa_outputs: int


class Shared(NamedTuple):
    """What a scheme gives."""

    doa: Tensor
    """Features that the DoA head saw, ``(batch, freq, frame, feature)``."""
    logits: Tensor
    """What it said, ``(batch, talker, outputs)``, or of a causal head ``(batch, talker, frame, outputs)``."""
    separation: Tensor
    """Features for the separation head, ``(batch, freq, frame, feature)``, with the axis talker where of each slot."""


class Sharing(nn.Module, ABC):
    """What every scheme offers: widths of the features that heads are given, and whether there are some of each slot.

    One whose encoders are causal may have ``stream(features, localize, state) -> (Shared, state)``, as these do.
    """

    features_doa: int
    features_separation: int
    per_slot = False
    causal: bool

    @abstractmethod
    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """Features for either head; separation may depend on what `localize` says."""

    def penalty(self) -> Tensor | None:
        """A scalar added to the loss, if any."""
        return None


def as_encoder(encoder: Encoder) -> Any:
    """An encoder that says what every encoder says, and, if it can, works on a stream."""
    if not isinstance(encoder, nn.Module):
        raise MsdetError(f"encoder {type(encoder).__name__} is not a torch.nn.Module")
    for attribute in ("features_out", "causal"):
        if not hasattr(encoder, attribute):
            raise MsdetError(f"encoder {type(encoder).__name__} has no attribute '{attribute}'")
    return encoder


def as_blocks(encoder: Encoder, scheme: str, at_least: int = 1) -> BlockEncoder:
    """An encoder as the blocks that it is made of, if it shows them and has as many as a sharing scheme needs."""
    blocks: BlockEncoder = as_encoder(encoder)
    what, name = f"sharing scheme '{scheme}'", ENCODERS.name_of(type(encoder))
    missing = [member for member in BLOCK_MEMBERS if not hasattr(encoder, member)]
    if missing:
        others = [s for s in SHARING_SCHEMES.names() if not SHARING_SCHEMES.fact(s, "needs_blocks", False)]
        absent = f"encoder '{name}' does not show: it has no {', '.join(missing)}; it can do: {', '.join(others)}"
        raise MsdetError(f"{what} works between blocks, which {absent}")
    if blocks.depth < at_least:
        raise MsdetError(f"{what} needs at least {at_least} blocks, encoder '{name}' has {blocks.depth}")
    return blocks


@SHARING_SCHEMES.register("hard")
class HardSharing(Sharing):
    """One encoder serves both heads, as in MSDET."""

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes) -> None:
        super().__init__()
        self.encoder = as_encoder(make_encoder())
        self.features_doa = self.features_separation = self.encoder.features_out
        self.causal = self.encoder.causal

    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """The same features for both."""
        encoded = self.encoder(features)
        return Shared(encoded, localize(encoded), encoded)

    def stream(self, features: Tensor, localize: Localize, state: State) -> tuple[Shared, State]:
        """The next frames, of a causal encoder."""
        encoded, state = self.encoder.stream(features, state)
        return Shared(encoded, localize(encoded), encoded), state


@SHARING_SCHEMES.register("none")
class NoSharing(Sharing):
    """Two encoders of the same kind, twice the parameters: the baseline that sharing is measured against."""

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes) -> None:
        super().__init__()
        self.encoder_doa, self.encoder_separation = as_encoder(make_encoder()), as_encoder(make_encoder())
        self.features_doa = self.features_separation = self.encoder_doa.features_out
        self.causal = self.encoder_doa.causal

    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """Features of either encoder."""
        encoded = self.encoder_doa(features)
        return Shared(encoded, localize(encoded), self.encoder_separation(features))

    def stream(self, features: Tensor, localize: Localize, state: State) -> tuple[Shared, State]:
        """The next frames, of causal encoders."""
        of_doa, of_separation = state or (None, None)
        doa, of_doa = self.encoder_doa.stream(features, of_doa)
        separation, of_separation = self.encoder_separation.stream(features, of_separation)
        return Shared(doa, localize(doa), separation), (of_doa, of_separation)


@SHARING_SCHEMES.register("soft", penalizes=True)
class SoftSharing(NoSharing):
    """Two encoders, one for each head, and a penalty on how far apart their weights are.

    L. Duong, T. Cohn, S. Bird and P. Cook, "Low resource dependency parsing: cross-lingual parameter sharing
    in a neural network parser", ACL-IJCNLP 2015: the squared L2 distance of the weights is added to the loss.

    Args:
        weight: of the penalty.
        parameters: patterns of names within the encoder, such as ``blocks.0.*``; distances of these groups are added.
        normalize: take a group's distance relative to the mean of its two squared norms, so that a weight means the
            same for any size of encoder: 2 for weights that have nothing in common. The norms are not trained by it.
        start_equal: start the second encoder from the weights of the first.
    """

    def __init__(
        self,
        make_encoder: MakeEncoder,
        sizes: SharingSizes,
        weight: float = 0.1,
        parameters: str | Sequence[str] = "*",
        normalize: bool = True,
        start_equal: bool = True,
    ) -> None:
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise ValueError(f"weight {weight} is not 0 or more")
        patterns = [parameters] if isinstance(parameters, str) else parameters
        if not patterns:
            raise ValueError("parameters is empty: name at least one pattern")
        super().__init__(make_encoder, sizes)
        self.weight = weight
        self.normalize = normalize
        self.groups = [_matching(self.encoder_doa, pattern) for pattern in patterns]
        if start_equal:
            self.encoder_separation.load_state_dict(self.encoder_doa.state_dict())

    def penalty(self) -> Tensor:
        """Weighted sum of the groups' squared distances."""
        doa = dict(self.encoder_doa.named_parameters())
        separation = dict(self.encoder_separation.named_parameters())
        groups = ([(doa[name], separation[name]) for name in names] for names in self.groups)
        return self.weight * torch.stack([self._distance(pairs) for pairs in groups]).sum()

    def _distance(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        distance = torch.stack([(a - b).square().sum() for a, b in pairs]).sum()
        if not self.normalize:
            return distance
        with torch.no_grad():
            norm = torch.stack([(a.square() + b.square()).sum() / 2 for a, b in pairs]).sum()
        return distance / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def _matching(encoder: nn.Module, pattern: str) -> list[str]:
    """Names of the trained parameters that match a pattern, at least one."""
    names = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    if matching := fnmatch.filter(names, pattern):
        return matching
    nearest = (*get_close_matches(pattern, names, n=1, cutoff=0.0), "none: it has none")[0]
    reason = f"no trained parameter of the encoder matches '{pattern}'; the nearest is {nearest}"
    raise MsdetError(f"sharing scheme 'soft': {reason}")


@SHARING_SCHEMES.register("cross_stitch", needs_blocks=True)
class CrossStitchSharing(Sharing):
    """Two encoders, one for each head, whose features mix after each block.

    I. Misra, A. Shrivastava, A. Gupta and M. Hebert, "Cross-stitch networks for multi-task learning", CVPR
    2016, equation 1: either encoder hands on a learned linear combination of both, one 2 x 2 matrix a channel; `own`
    and `other` are the initial weights of an encoder's own and the other's features; the paper finds these good.
    """

    encoder_doa: BlockEncoder
    encoder_separation: BlockEncoder

    def __init__(self, make_encoder: MakeEncoder, sizes: SharingSizes, own: float = 0.9, other: float = 0.1) -> None:
        super().__init__()
        self.encoder_doa = as_blocks(make_encoder(), "cross_stitch")
        self.encoder_separation = as_blocks(make_encoder(), "cross_stitch")
        self.features_doa = self.features_separation = self.encoder_doa.features_out
        self.causal = self.encoder_doa.causal
        widths = map(self.encoder_doa.width, range(self.encoder_doa.depth))
        self.stitches = nn.ModuleList(_Stitch(width, own, other) for width in widths)

    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """Features of either encoder."""
        doa, separation = self.encoder_doa.start(features), self.encoder_separation.start(features)
        for index, stitch in enumerate(self.stitches):
            doa, separation = self.encoder_doa.block(index, doa), self.encoder_separation.block(index, separation)
            doa, separation = stitch(doa, separation)
        encoded = self.encoder_doa.finish(doa, features)
        return Shared(encoded, localize(encoded), self.encoder_separation.finish(separation, features))

    def stream(self, features: Tensor, localize: Localize, state: State) -> tuple[Shared, State]:
        """The next frames, of causal encoders."""
        first, second = cast(Any, self.encoder_doa), cast(Any, self.encoder_separation)
        (of_doa, of_separation), *others = state or [(None, None)] * (len(self.stitches) + 1)
        doa, of_doa = first.stream_start(features, of_doa)
        separation, of_separation = second.stream_start(features, of_separation)
        after = [(of_doa, of_separation)]
        for index, (stitch, (of_doa, of_separation)) in enumerate(zip(self.stitches, others, strict=True)):
            doa, of_doa = first.stream_block(index, doa, of_doa)
            separation, of_separation = second.stream_block(index, separation, of_separation)
            doa, separation = stitch(doa, separation)
            after.append((of_doa, of_separation))
        encoded = first.finish(doa, features)
        return Shared(encoded, localize(encoded), second.finish(separation, features)), after


class _Stitch(nn.Module):
    """Mixes two tensors ``(..., width)``, each feature channel by a matrix of its own, DoA first."""

    def __init__(self, width: int, own: float, other: float) -> None:
        super().__init__()
        mix = torch.tensor([[own, other], [other, own]])
        self.mix = nn.Parameter(mix[..., None].repeat(1, 1, width))

    def forward(self, doa: Tensor, separation: Tensor) -> tuple[Tensor, Tensor]:
        mix = self.mix
        return (mix[0, 0] * doa + mix[0, 1] * separation, mix[1, 0] * doa + mix[1, 1] * separation)


@SHARING_SCHEMES.register("hierarchical", needs_blocks=True)
class HierarchicalSharing(Sharing):
    """One encoder: lower blocks serve both heads, upper ones run once for each slot, told its direction.

    A task of a lower level is supervised at lower layers (A. Søgaard and Y. Goldberg, "Deep multi-task
    learning with low level tasks supervised at lower layers", ACL 2016), and its result is given to those
    above (V. Sanh, T. Wolf and S. Ruder, "A hierarchical multi-task approach for learning embeddings from
    semantic tasks", AAAI 2019). That a direction steers a filter to the talker who is there is from K. Tesch
    and T. Gerkmann, "Multi-channel speech separation using spatially selective deep non-linear filters",
    IEEE/ACM TASLP 32, 2024. The conditioning is feature-wise linear modulation (E. Perez et al., AAAI 2018).

    Localization has a way out of its own (`BlockEncoder.exit_after`). The posterior is of the whole recording.

    Args:
        after: number of lower blocks, at least 1 and not all; None for half of them.
        temperature: divides the logits: above 1 the posterior that conditions is flatter than that of the DoA loss.
        detach: keep the separation loss from training localization through the posterior.
    """

    per_slot = True
    causal = False

    encoder: BlockEncoder

    def __init__(
        self,
        make_encoder: MakeEncoder,
        sizes: SharingSizes,
        after: int | None = None,
        temperature: float = 1.0,
        detach: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = as_blocks(make_encoder(), "hierarchical", at_least=2)
        depth = self.encoder.depth
        self.after = depth // 2 if after is None else after
        if not 1 <= self.after < depth:
            raise ValueError(f"after {after} is not 1 to {depth - 1}: the encoder has {depth} blocks")
        if not (temperature > 0.0 and math.isfinite(temperature)):
            raise ValueError(f"temperature {temperature} is not above 0")
        self.temperature = temperature
        self.detach = detach
        self.exit_doa: Any = self.encoder.exit_after(self.after - 1)
        self.features_doa = self.exit_doa.features_out
        self.features_separation = self.encoder.features_out
        self.condition = _Condition(sizes.doa_outputs, self.encoder.width(self.after - 1))

    def forward(self, features: Tensor, localize: Localize) -> Shared:
        """Features for localization, and features of each slot."""
        x = self.encoder.start(features)
        for index in range(self.after):
            x = self.encoder.block(index, x)
        encoded = self.exit_doa(x, features)
        logits = final_frame_logits(localize(encoded))
        posterior = (logits / self.temperature).softmax(-1)
        by_slot = self.condition(x, posterior.detach() if self.detach else posterior)
        slots = by_slot.shape[:2]
        x = by_slot.flatten(0, 1)
        for index in range(self.after, self.encoder.depth):
            x = self.encoder.block(index, x)
        again = features[:, None].expand(*slots, *features.shape[1:]).flatten(0, 1)
        return Shared(encoded, logits, self.encoder.finish(x, again).unflatten(0, slots))


class _Condition(nn.Module):
    """Scales and shifts features, for each slot by what its posterior says.

    A slot gets the mean, under its posterior, of a learned scale and shift for each output of the DoA head; zero first.
    """

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(outputs, 2 * width)
        nn.init.zeros_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, x: Tensor, posterior: Tensor) -> Tensor:
        """``(batch, ..., width)`` and ``(batch, talker, outputs)`` to ``(batch, talker, ..., width)``."""
        embedded = self.embed(posterior)
        between = [1] * (x.dim() - 2)
        scale, shift = embedded.view(*embedded.shape[:2], *between, -1).chunk(2, dim=-1)
        return cast(Tensor, x[:, None] * (1.0 + scale) + shift)


def __getattr__(name: str) -> Any:  # from msdet.models.sharing import CrossStitchSharing
    return SHARING_SCHEMES.exported(name)
