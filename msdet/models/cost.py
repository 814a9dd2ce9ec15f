"""What a model costs: parameters, and multiply-accumulates per second of audio."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Cost(NamedTuple):
    """Number of parameters, and multiply-accumulates (MAC) per second of audio."""

    parameters: int
    macs_per_s: float


def count_cost(module: nn.Module, example: Tensor, seconds: float) -> Cost:
    """Count what a forward pass does for an example input, such as a mixture ``(1, mic, time)``, of so many seconds.

    Counted are products of layers, attention and beams, a complex one as four; not solvers, transforms and elementwise.
    """
    training = module.training
    counter = _Counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # of the flag on other machines
        # without fused kernels recurrent layers and attention are products, which can be counted
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            module.eval()
            with counter:
                module(example)
    module.train(training)
    return Cost(sum(p.numel() for p in module.parameters()), counter.operations / 2 / seconds)


class _Counter(TorchDispatchMode):
    """Adds up floating-point operations by torch's own formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            complex_product = any(isinstance(a, Tensor) and a.is_complex() for a in args)
            self.operations += (4 if complex_product else 1) * formula(*args, **(kwargs or {}), out_val=out)
        return out
