"""A traced model in real arithmetic: complex values become pairs, whatever part of the model made them.

A model is traced as it is; its graph is then run node by node on `pairs`, and traced again. So front ends,
encoders and heads are written as they like, their own arithmetic stays what training knows, and a part that
cannot be exported is named.
"""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from msdet.errors import MsdetError
from msdet.export import pairs
from msdet.export.formats import quiet
from msdet.export.pairs import Pair
from msdet.export.recurrence import KEPT, packed, recurrences_kept, run_packed

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
    """Trace a module of one input.

    Args:
        module: in evaluation mode.
        example: its input.
        dynamic: axes of the input that may have any length, at least 1, by the name of the length.

    Raises:
        MsdetError: what cannot be traced, and where it is.
    """
    axes = {axis: Dim(name, min=1 if axis == 0 else 2) for axis, name in dynamic.items()}
    try:
        with quiet(), torch.no_grad(), recurrences_kept():
            return export(
                module,
                (example,),
                dynamic_shapes=(axes,),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except MsdetError as error:  # to which torch adds lines of its own
        raise MsdetError(str(error).partition("\n")[0]) from error
    except Exception as error:  # whatever a part does that cannot be traced
        reason = " ".join(str(error).split()) or type(error).__name__
        if "Constraints violated" in reason:
            reason = "what it computes depends on the length, as that of the causal front end 'steered' does"
        raise MsdetError(f"{_where(module, error)} cannot be exported ({reason[:120]})") from error


def in_real_arithmetic(
    traced: ExportedProgram, example: Tensor, dynamic: Mapping[int, str], onnx: bool
) -> ExportedProgram:
    """The same program without complex numbers.

    Args:
        traced: by `trace`.
        example: its input.
        dynamic: as for `trace`.
        onnx: recurrent layers are to be ONNX's.

    Raises:
        MsdetError: an operation on complex numbers that has no counterpart here, and where it is.
    """
    return trace(RealProgram(traced, onnx), example, dynamic)


class RealProgram(nn.Module):
    """Runs the graph of a traced module, complex values as pairs.

    Args:
        traced: by `trace`.
        onnx: recurrent layers are to be ONNX's.
    """

    def __init__(self, traced: ExportedProgram, onnx: bool = False) -> None:
        super().__init__()
        self.traced = traced
        tensors = {**traced.constants, **traced.state_dict}
        specs = [spec for spec in traced.graph_signature.input_specs if spec.kind != InputKind.USER_INPUT]
        given = {spec.arg.name: spec.target for spec in specs}
        (self.given,) = traced.graph_signature.user_inputs
        self.recurrent: dict[fx.Node, list[list[str]]] = {}
        packed_already: dict[str, list[list[str]]] = {}
        gone: set[str] = set()
        for node in traced.graph.nodes if onnx else ():
            if node.target in KEPT:
                parameters: Any = node.args[2]
                names = [given[parameter.name] for parameter in parameters]
                if names[0] not in packed_already:
                    packed_already[names[0]] = self._pack(node, names, tensors)
                self.recurrent[node] = packed_already[names[0]]
                gone.update(parameter.name for parameter in parameters)
        self.held = {p: self._hold(name, tensors[name]) for p, name in given.items() if p not in gone}

    def _pack(self, node: fx.Node, names: list[str], tensors: Mapping[str, Tensor]) -> list[list[str]]:
        """Hold the weights of a recurrent layer as ONNX has them; their names, of each layer."""
        arguments: Any = node.args
        _, _, _, biases, layers, _, _, both, _ = arguments
        weights = packed(KEPT[node.target], [tensors[n] for n in names], biases, layers, 2 if both else 1)
        path = names[0].rpartition(".")[0]
        return [
            [
                self._hold(f"{path}.{letter}{number}", nn.Parameter(tensor))[0]
                for letter, tensor in zip("WRB", layer, strict=True)
            ]
            for number, layer in enumerate(weights)
        ]

    def _hold(self, name: str, tensor: Tensor) -> list[str]:
        """Hold a tensor where the traced module does, a complex one as two; the names of what is held."""
        path, _, leaf = name.removeprefix("model.").rpartition(".")
        module: nn.Module = self
        for part in path.split(".") if path else ():
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        prefix = f"{path}." if path else ""
        if tensor.is_complex():
            module.register_buffer(f"{leaf}_real", tensor.real.clone())
            module.register_buffer(f"{leaf}_imag", tensor.imag.clone())
            return [f"{prefix}{leaf}_real", f"{prefix}{leaf}_imag"]
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(leaf, nn.Parameter(tensor.detach(), requires_grad=False))
        else:
            module.register_buffer(leaf, tensor)
        return [prefix + leaf]

    def forward(self, given: Tensor) -> tuple[Tensor, ...]:
        """What the traced module gives."""
        values: list[Any] = []
        for node in self.traced.graph.find_nodes(op="placeholder"):
            if node.name in self.held:
                values.append(self._value(self.held[node.name]))
            else:  # the input, or weights that are held as ONNX has them
                values.append(given if node.name == self.given else None)
        result: tuple[Tensor, ...] = tuple(_Run(self.traced.graph_module, self).run(*values))
        return result

    def layers(self, node: fx.Node) -> list[list[Tensor]]:
        """The weights of a recurrent layer as ONNX has them."""
        return [[operator.attrgetter(name)(self) for name in layer] for layer in self.recurrent[node]]

    def _value(self, names: list[str]) -> Any:
        parts = [operator.attrgetter(name)(self) for name in names]
        return Pair(*parts) if len(parts) == 2 else parts[0]


class _Run(fx.Interpreter):
    """One run of a graph on pairs."""

    def __init__(self, module: fx.GraphModule, program: RealProgram) -> None:
        super().__init__(module)
        self.program = program
        self.node: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Apply an operation, to pairs if it is given any."""
        assert self.node is not None
        if target is torch.ops.higher_order.wrap_with_autocast:  # a region that keeps its precision
            return _Run(args[4], self.program).run(*args[5:])
        if self.node in self.program.recurrent:
            return run_packed(KEPT[target], args[0], args[1], self.program.layers(self.node), args[8])
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
