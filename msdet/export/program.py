"""A traced model in real arithmetic: complex values become pairs, whatever part of the model made them.

A model is traced as it is; its graph is then run node by node on `pairs`, and traced again. So front ends,
encoders and heads are written as they like, their own arithmetic stays what training knows, and a part that
cannot be exported is named.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.utils import _pytree as pytree

from msdet.errors import MsdetError
from msdet.export import pairs
from msdet.export.formats import quiet
from msdet.export.pairs import Pair
from msdet.export.recurrence import KeepRecurrences

PARTWISE = (
    "alias", "cat", "chunk", "clone", "contiguous", "cumsum", "detach", "diagonal", "expand",
    "expand_as", "flatten", "flip", "index", "index_select", "mT", "mean", "movedim", "narrow", "neg",
    "pad", "permute", "repeat", "reshape", "roll", "select", "slice", "split", "split_with_sizes",
    "squeeze", "stack", "sum", "swapaxes", "t", "tile", "transpose", "unbind", "unflatten", "unfold",
    "unsqueeze", "view", "view_as",
)  # fmt: skip
"""Operations of ATen that do the same to real and to imaginary parts."""

HANDLED: dict[str, Callable[..., Any]] = {
    "_conj": pairs.conj,
    "conj": pairs.conj,
    "resolve_conj": lambda a: a,
    "real": pairs.real,
    "imag": pairs.imag,
    "abs": pairs.magnitude,
    "add": pairs.add,
    "sub": pairs.sub,
    "mul": pairs.mul,
    "div": pairs.div,
    "square": lambda a: pairs.mul(a, a),
    "matmul": pairs.matmul,
    "bmm": pairs.matmul,
    "einsum": pairs.einsum,
    "linalg_solve": pairs.solve,
    "linalg_solve_ex": lambda matrix, right: (pairs.solve(matrix, right), 0),
    "mH": pairs.adjoint,
    "adjoint": pairs.adjoint,
    "complex": Pair,
    "view_as_complex": lambda a: Pair(a[..., 0], a[..., 1]),
    "view_as_real": lambda a: torch.stack([pairs.real(a), pairs.imag(a)], -1),
    "polar": lambda magnitude, angle: Pair(magnitude * angle.cos(), magnitude * angle.sin()),
}
"""Other operations on complex values, by their names in ATen."""

FACTORIES = ("full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like")
"""Those that make a real tensor, also where it is to be of a complex one's type."""

ALWAYS = (
    "_conj", "complex", "conj", "imag", "linalg_solve", "polar", "real", "view_as_complex", "view_as_real",
)  # fmt: skip
"""Those of `HANDLED` that are not left to PyTorch where all they are given is real."""

_REAL = {torch.complex32: torch.half, torch.complex64: torch.float, torch.complex128: torch.double}


def trace(module: nn.Module, example: Tensor, dynamic: Mapping[int, str]) -> ExportedProgram:
    """Trace a module of one input, whose `dynamic` axes, each with a name for its length, may have any length.

    Of what cannot be traced, the error says where it is.
    """
    axes = {axis: Dim(name, min=1 if axis == 0 else 2) for axis, name in dynamic.items()}
    try:
        with quiet(), torch.no_grad(), KeepRecurrences():
            options: dict[str, Any] = {"strict": False, "prefer_deferred_runtime_asserts_over_guards": True}
            return export(module, (example,), dynamic_shapes=(axes,), **options)
    except MsdetError as error:  # to which torch adds lines of its own
        raise MsdetError(str(error).partition("\n")[0]) from error
    except Exception as error:  # whatever a part does that cannot be traced
        reason = " ".join(str(error).split()) or type(error).__name__
        if "Constraints violated" in reason:
            reason = "what it computes depends on the length, as that of the causal front end 'steered' does"
        raise MsdetError(f"{_where(module, error)} cannot be exported ({reason[:120]})") from error


def in_real_arithmetic(traced: ExportedProgram, example: Tensor, dynamic: Mapping[int, str]) -> ExportedProgram:
    """A program of `trace` without complex numbers; `example` and `dynamic` as there.

    Of an operation on complex numbers that has no counterpart here, the error says where it is.
    """
    return trace(RealProgram(traced), example, dynamic)


class RealProgram(nn.Module):
    """Runs a traced module with complex values as pairs; it holds complex buffers as two real ones each."""

    def __init__(self, traced: ExportedProgram) -> None:
        super().__init__()
        self.program = traced.module(check_guards=False)
        for path, tensor in list(self.program.named_buffers()):
            if tensor.is_complex():
                parent, _, name = path.rpartition(".")
                module = self.program.get_submodule(parent)
                delattr(module, name)
                module.register_buffer(f"{name}_real", tensor.real.clone())
                module.register_buffer(f"{name}_imag", tensor.imag.clone())

    def forward(self, given: Tensor) -> tuple[Tensor, ...]:
        """What the traced module gives."""
        result: tuple[Tensor, ...] = tuple(_Run(self.program).run(given))
        return result


class _Run(fx.Interpreter):
    """One run of a graph on pairs."""

    node: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().get_attr(target, args, kwargs)
        except RuntimeError:  # there is none: a complex tensor, which is held as two
            return Pair(self.fetch_attr(f"{target}_real"), self.fetch_attr(f"{target}_imag"))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Apply an operation, to pairs if it is given any."""
        assert self.node is not None
        if target is torch.ops.higher_order.wrap_with_autocast:  # a region that keeps its precision
            return _Run(args[4]).run(*args[5:])
        name = target._schema.name.split("::")[1] if isinstance(target, torch._ops.OpOverload) else ""
        if name.startswith("_assert"):
            return None
        if name.startswith("sym_"):  # a size
            return target(pairs.real(args[0]), *args[1:])
        if name in ("to", "_to_copy") and isinstance(args[0], Pair):
            return args[0]  # a complex number remains one
        args, kwargs = pytree.tree_map_only(torch.dtype, lambda d: _REAL.get(d, d), (args, kwargs))
        complex_given = name != "" and pairs.holds_pair(args, kwargs)
        if name in FACTORIES:
            args = (pairs.real(args[0]), *args[1:])
        elif name in PARTWISE and complex_given:
            return pairs.partwise(target)(*args, **kwargs)
        elif name in HANDLED and (complex_given or name in ALWAYS):
            try:
                return HANDLED[name](*args, **kwargs)
            except NotImplementedError:
                raise self._refusal(name) from None
        elif complex_given:
            raise self._refusal(name)
        return super().call_function(target, args, kwargs)

    def _refusal(self, name: str) -> MsdetError:
        assert self.node is not None
        stack = list(self.node.meta.get("nn_module_stack", {}).values())
        path, kind = stack[-1] if stack else ("", type(self.module))
        return MsdetError(f"{_named(path, kind)} cannot be exported: it uses {name} of complex numbers")


def _named(path: str, kind: Any) -> str:
    """A part of a model, as a message calls it."""
    words = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return f"{path.removeprefix('model.')} ({words})" if path else "the model"


def _where(module: nn.Module, error: Exception) -> str:
    """The innermost part of a model that an error came from."""
    names = {id(part): name for name, part in module.named_modules()}
    found: tuple[str, Any] = ("", type(module))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        part = frame.f_locals.get("self")
        if id(part) in names and names[id(part)]:
            found = names[id(part)], type(part)
    return _named(*found)
