"""Front ends, one file each: what the encoder sees of the spectrum.

A module defines ``FrontEnd``, a `torch.nn.Module` built as ``FrontEnd(sizes, **options)`` with
`FrontEndSizes`. It maps a spectrum ``(batch, mic, freq, frame)`` to an `Observation` and has the attributes

- ``features_out`` (int): features of a bin;
- ``causal`` (bool): no frame of the features depends on a later frame, nor on the level of the whole
  recording. ``seed_logits`` are the last word on the whole recording either way;
- ``array_bound`` (bool): the weights belong to one array. If false, a checkpoint serves any array: the
  features' width and meaning do not depend on it, nor on the order of the other microphones.

A causal front end may work on a stream: ``stream(spectrum, memory) -> (Observation, memory)`` takes the next
frames, at least one, at any level, and what it returned as memory before, None at first. Pieces in turn give
what ``forward`` gives of them joined. A memory (`msdet.running`) is never changed in place. One with a
localiser gives ``seeds_so_far``, too.

Separation by a causal front end, encoder and separation head is causal but for the STFT's window: the model
scales the mixture by its level, and such a front end looks past that scale.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from msdet.components import build, find_network
from msdet.errors import MsdetError
from msdet.models.frontend import ArrayGeometry, Observation


class FrontEndSizes(NamedTuple):
    """What a front end's sizes follow from.

    Attributes:
        geometry: of the array; ``geometry.steering`` is ``(class, freq, mic)``.
        talkers: number of output slots.
    """

    geometry: ArrayGeometry
    talkers: int


class FrontEndLike(Protocol):
    """What every front end offers."""

    features_out: int
    causal: bool
    array_bound: bool

    def __call__(self, spectrum: Tensor) -> Observation:
        """Observe a spectrum ``(batch, mic, freq, frame)`` of unit level at the reference microphone."""
        ...


def build_front_end(name: str, options: dict[str, Any], sizes: FrontEndSizes) -> FrontEndLike:
    """A front end by name or import path ``module:Class``.

    Args:
        name: of a file in this package, or an import path.
        options: what the front end's constructor takes besides sizes.
        sizes: what its sizes follow from.

    Raises:
        MsdetError: an unknown name or option, of which the nearest is offered; or what is named is no module,
            or lacks an attribute that every front end has.
    """
    factory = find_network(__name__, name, "FrontEnd", "front end")
    front_end: FrontEndLike = build(factory, options, f"front end '{name}'", sizes=sizes)
    for attribute in ("features_out", "causal", "array_bound"):
        if not hasattr(front_end, attribute):
            raise MsdetError(f"front end '{name}' has no attribute '{attribute}'")
    return front_end
