"""Pairs of real tensors do what complex tensors do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msdet.export import pairs
from msdet.export.pairs import Pair


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def pair(z: Tensor) -> Pair:
    return Pair(z.real, z.imag)


def joined(value: Pair | Tensor) -> Tensor:
    return torch.complex(value.real, value.imag) if isinstance(value, Pair) else value + 0j


A, B, R = drawn(3, 4), drawn(3, 4, seed=1), drawn(4, seed=2).real
CASES = {
    "mul": (pairs.mul(pair(A), pair(B)), A * B),
    "mul_real": (pairs.mul(pair(A), R), A * R),
    "real_mul": (pairs.mul(R, pair(A)), R * A),
    "add": (pairs.add(pair(A), pair(B), 2), A + 2 * B),
    "add_real": (pairs.add(pair(A), R), A + R),
    "add_wider_real": (pairs.add(pair(A[0]), A.real), A[0] + A.real),
    "sub_from_real": (pairs.sub(R, pair(A)), R - A),
    "div": (pairs.div(pair(A), pair(B)), A / B),
    "div_real_by": (pairs.div(R, pair(A)), R / A),
    "abs": (pairs.magnitude(pair(A)), A.abs()),
    "matmul": (pairs.matmul(pair(A), pairs.adjoint(pair(B))), A @ B.mH),
    "einsum": (pairs.einsum("ij,kj->ik", [pair(A), pair(B)]), torch.einsum("ij,kj->ik", A, B)),
    "cat": (pairs.partwise(torch.cat)([pair(A), A.real]), torch.cat([A, A.real + 0j])),
}


@pytest.mark.parametrize(("found", "wanted"), CASES.values(), ids=CASES.keys())
def test_arithmetic_is_that_of_complex_numbers(found: Pair | Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(joined(found), wanted + 0j)


def test_lists_of_pairs_come_from_operations_that_split() -> None:
    parts = pairs.partwise(torch.chunk)(pair(A), 2, 1)
    assert all(isinstance(part, Pair) for part in parts)
    torch.testing.assert_close(torch.cat([joined(part) for part in parts], 1), A)


@pytest.mark.parametrize("complex_a", [True, False])
@pytest.mark.parametrize("complex_b", [True, False])
def test_systems_of_beamformers_are_solved(complex_a: bool, complex_b: bool) -> None:
    x = drawn(2, 5, 6, 8)
    a = x @ x.mH + 0.1 * torch.eye(6)
    b = drawn(2, 5, 6, 3, seed=1)
    a, b = a if complex_a else a.real, b if complex_b else b.real
    solved = pairs.solve(pair(a) if complex_a else a, pair(b) if complex_b else b)
    wanted = torch.linalg.solve(a + 0j, b + 0j)
    torch.testing.assert_close(joined(solved), wanted, rtol=1e-3, atol=1e-4)
