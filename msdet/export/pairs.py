"""Complex tensors as pairs of real ones: ONNX has no complex tensors, and no `solve`.

A value that is known to be real stays one tensor, also where PyTorch would call it complex.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Pair:
    """A complex tensor: its real and imaginary parts, of the same shape."""

    __slots__ = ("imag", "real")

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag


def holds_pair(*values: Any) -> bool:
    """Whether any of these, or anything within lists or tuples of these, is a pair."""
    return any(isinstance(leaf, Pair) for leaf in pytree.tree_leaves(values))


def real(value: Any) -> Any:
    """Real part; anything else as it is."""
    return value.real if isinstance(value, Pair) else value


def imag(value: Any) -> Tensor:
    """Imaginary part, zeros of a real tensor."""
    return value.imag if isinstance(value, Pair) else torch.zeros_like(value)


def partwise(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that is linear and real, such as one that moves entries about, on both parts apart.

    Whatever it gives, such as a list of tensors, is given with pairs in their place. Real tensors in a list
    with pairs have zeros for imaginary parts.
    """

    def apply(*args: Any, **kwargs: Any) -> Any:
        def of(part: Callable[[Any], Any]) -> Any:
            chosen = [[part(v) for v in a] if isinstance(a, (list, tuple)) and holds_pair(a) else a for a in args]
            return operation(*(part(a) if isinstance(a, Pair) else a for a in chosen), **kwargs)

        return pytree.tree_map(Pair, of(real), of(imag))

    return apply


def bilinear(times: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A product of any kind, of pairs and real values."""

    def multiply(a: Any, b: Any) -> Any:
        if not isinstance(a, Pair):
            return Pair(times(a, b.real), times(a, b.imag)) if isinstance(b, Pair) else times(a, b)
        if not isinstance(b, Pair):
            return Pair(times(a.real, b), times(a.imag, b))
        return Pair(times(a.real, b.real) - times(a.imag, b.imag), times(a.real, b.imag) + times(a.imag, b.real))

    return multiply


mul = bilinear(operator.mul)

matmul = bilinear(torch.matmul)


def add(a: Any, b: Any, alpha: float = 1) -> Any:
    """``a + alpha b``."""
    b = b if alpha == 1 else mul(b, alpha)
    total = real(a) + real(b)
    if not holds_pair(a, b):
        return total
    parts = [x.imag for x in (a, b) if isinstance(x, Pair)]
    return Pair(total, sum(parts[1:], parts[0]).expand_as(total))


def sub(a: Any, b: Any, alpha: float = 1) -> Any:
    """``a - alpha b``."""
    return add(a, b, -alpha)


def conj(a: Any) -> Any:
    """Complex conjugate."""
    return Pair(a.real, -a.imag) if isinstance(a, Pair) else a


def adjoint(a: Any) -> Any:
    """Conjugate transpose of matrices."""
    return conj(partwise(torch.transpose)(a, -2, -1) if isinstance(a, Pair) else a.mT)


def power(a: Any) -> Tensor:
    """Squared magnitude."""
    return a.real.square() + a.imag.square() if isinstance(a, Pair) else a.square()


def magnitude(a: Any) -> Tensor:
    """Absolute value."""
    return power(a).sqrt() if isinstance(a, Pair) else a.abs()


def div(a: Any, b: Any) -> Any:
    """``a / b``."""
    if isinstance(b, Pair):
        return div(mul(a, conj(b)), power(b))
    return Pair(a.real / b, a.imag / b) if isinstance(a, Pair) else a / b


def einsum(equation: str, operands: Any, path: Any = None) -> Any:
    """Einstein summation of one or two values."""
    if len(operands) == 1:
        return partwise(torch.einsum)(equation, *operands)
    if len(operands) > 2:
        raise NotImplementedError
    return bilinear(lambda a, b: torch.einsum(equation, a, b))(*operands)


def solve(a: Any, b: Any, *, left: bool = True) -> Any:
    """Solution ``x`` of ``a x = b``, by Gauss-Jordan elimination without pivoting.

    That is stable for Hermitian matrices with a loaded diagonal, the only ones that beamformers invert. The
    complex system, `a` ``(..., n, n)`` and `b` ``(..., n, k)``, is solved as the real one of twice its size.
    """
    if not left or real(b).dim() < real(a).dim():
        raise NotImplementedError
    size, columns = real(b).shape[-2:]
    is_complex = isinstance(a, Pair)
    if isinstance(a, Pair):
        upper, lower = torch.cat([a.real, -a.imag], -1), torch.cat([a.imag, a.real], -1)
        a, b = torch.cat([upper, lower], -2), torch.cat([real(b), imag(b)], -2)
    elif isinstance(b, Pair):
        b = torch.cat([b.real, b.imag], -1)
    rest = torch.cat([a, b], -1)
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for step in range(a.shape[-1]):  # the first column of what is left becomes one of the identity
        row = rest[..., step : step + 1, 1:] / rest[..., step : step + 1, :1]
        rest = rest[..., 1:] - (rest[..., :1] - eye[:, step, None]) * row
    if is_complex:
        return Pair(rest[..., :size, :], rest[..., size:, :])
    return rest if rest.shape[-1] == columns else Pair(rest[..., :columns], rest[..., columns:])
