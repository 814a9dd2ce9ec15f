"""Recurrent layers that stay one operation when a model is traced; PyTorch would unroll them over frames.

They are traced as an operation with PyTorch's own arguments, which a program of `torch.export` has in the
end. For ONNX they become, in the second trace, one operation a layer with weights as ONNX's GRU and LSTM take
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

ONNX_GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""Which of PyTorch's gates (r z n, and i f g o) stand where in ONNX (z r n, and i o f g)."""

_LIBRARY = torch.library.Library("msdet", "DEF")

_ARGUMENTS = "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, "

_LIBRARY.define(f"gru(Tensor input, Tensor hx, {_ARGUMENTS}bool batch_first) -> (Tensor, Tensor)")

_LIBRARY.define(f"lstm(Tensor input, Tensor[] hx, {_ARGUMENTS}bool batch_first) -> (Tensor, Tensor, Tensor)")

_LIBRARY.define("gru_layer(Tensor input, Tensor w, Tensor r, Tensor b, Tensor h) -> (Tensor, Tensor)")

_LIBRARY.define(
    "lstm_layer(Tensor input, Tensor w, Tensor r, Tensor b, Tensor h, Tensor c) -> (Tensor, Tensor, Tensor)"
)

_LIBRARY.impl("gru", lambda *args: torch.ops.aten.gru.input(*args), "CompositeExplicitAutograd")

_LIBRARY.impl("lstm", lambda *args: torch.ops.aten.lstm.input(*args), "CompositeExplicitAutograd")

KEPT: dict[Any, str] = {torch.ops.msdet.gru.default: "gru", torch.ops.msdet.lstm.default: "lstm"}
"""What recurrent layers are in a traced graph."""


def _shapes(given: Tensor, states: Sequence[Tensor], directions: int) -> tuple[Tensor, ...]:
    output = given.new_empty(*given.shape[:-1], directions * states[0].shape[-1])
    return output, *(torch.empty_like(state) for state in states)


def _gru(given: Tensor, hx: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return _shapes(given, [hx], 2 if rest[5] else 1)


def _lstm(given: Tensor, hx: Sequence[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    return _shapes(given, hx, 2 if rest[5] else 1)


def _layer(given: Tensor, w: Tensor, r: Tensor, b: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
    return _shapes(given, states, len(w))


for _name, _shape in (("gru", _gru), ("lstm", _lstm), ("gru_layer", _layer), ("lstm_layer", _layer)):
    torch.library.register_fake(f"msdet::{_name}", _shape, lib=_LIBRARY)


class _Keep(TorchFunctionMode):
    """Sees to it that recurrent layers are traced as one operation."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for known, kept in ((torch.gru, torch.ops.msdet.gru), (torch.lstm, torch.ops.msdet.lstm)):
            if function is known and isinstance(args[2], (list, tuple)):  # packed sequences come otherwise
                return kept(*args)
        return function(*args, **(kwargs or {}))


@contextmanager
def recurrences_kept() -> Iterator[None]:
    """Within, GRUs and LSTMs are traced as one operation each."""
    with _Keep():
        yield


def packed(kind: str, params: Sequence[Tensor], biases: bool, layers: int, directions: int) -> list[list[Tensor]]:
    """Weights as ONNX has them: for each layer W ``(direction, gates * hidden, input)``, R and B.

    Args:
        kind: ``gru`` or ``lstm``.
        params: as PyTorch has them.
        biases: whether there are any.
        layers: number of layers.
        directions: 1, or 2 for both.
    """

    def ordered(tensor: Tensor) -> Tensor:
        gates = tensor.chunk(len(ONNX_GATES[kind]))
        return torch.cat([gates[gate] for gate in ONNX_GATES[kind]])

    per_direction = 4 if biases else 2
    found = []
    for layer in range(layers):
        weights = []
        for direction in range(directions):
            first = (layer * directions + direction) * per_direction
            w, r, *b = (ordered(tensor) for tensor in params[first : first + per_direction])
            weights.append((w, r, torch.cat(b or [w.new_zeros(2 * len(w))])))
        found.append([torch.stack(parts) for parts in zip(*weights, strict=True)])
    return found


def run_packed(kind: str, given: Tensor, hx: Any, weights: Sequence[Sequence[Tensor]], batch_first: bool) -> Any:
    """What the layers give, each run as one operation of ONNX."""
    states = [hx] if kind == "gru" else list(hx)
    operation = getattr(torch.ops.msdet, f"{kind}_layer")
    x = given.transpose(0, 1) if batch_first else given
    last = []
    for layer, (w, r, b) in enumerate(weights):
        own = slice(layer * len(w), (layer + 1) * len(w))
        x, *after = operation(x, w, r, b, *(state[own] for state in states))
        last.append(after)
    ends = [torch.cat(parts) for parts in zip(*last, strict=True)]
    return (x.transpose(0, 1) if batch_first else x), *ends


def as_known(program: ExportedProgram) -> ExportedProgram:
    """The same program with PyTorch's own operations for recurrent layers, so that it runs without msdet."""
    for node in program.graph.nodes:
        if node.target in KEPT:
            node.target = getattr(torch.ops.aten, KEPT[node.target]).input
    program.graph_module.recompile()
    return program


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How layers of `run_packed` are written in ONNX."""
    from onnxscript import opset18

    op: Any = opset18

    def joined(y: Any) -> Any:  # (frame, direction, batch, hidden), directions to be side by side
        return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))

    def gru_layer(given: Any, w: Any, r: Any, b: Any, h: Any) -> Any:
        direction = "bidirectional" if w.shape[0] == 2 else "forward"
        hidden = int(r.shape[2])
        y, end = op.GRU(given, w, r, b, None, h, direction=direction, hidden_size=hidden, linear_before_reset=1)
        return joined(y), end

    def lstm_layer(given: Any, w: Any, r: Any, b: Any, h: Any, c: Any) -> Any:
        direction = "bidirectional" if w.shape[0] == 2 else "forward"
        y, end, cell = op.LSTM(given, w, r, b, None, h, c, direction=direction, hidden_size=int(r.shape[2]))
        return joined(y), end, cell

    return {torch.ops.msdet.gru_layer.default: gru_layer, torch.ops.msdet.lstm_layer.default: lstm_layer}
