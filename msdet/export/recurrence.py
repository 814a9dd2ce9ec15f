"""Recurrent layers that stay one operation when a model is traced; PyTorch would unroll them over frames.

For `torch.export` they are traced as an operation with PyTorch's own arguments; for ONNX they are replaced
beforehand by one operation a layer, with weights as ONNX's GRU and LSTM take them (`pack_recurrences`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from msdet.models.encoders.mingru import MinGRU

ONNX_GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""Which of PyTorch's gates (r z n, and i f g o) stand where in ONNX (z r n, and i o f g)."""

_LIBRARY = torch.library.Library("msdet", "DEF")

_ARGUMENTS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
)

for _schema in (
    f"gru(Tensor input, Tensor hx, {_ARGUMENTS}) -> (Tensor, Tensor)",
    f"lstm(Tensor input, Tensor[] hx, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    "gru_layer(Tensor input, Tensor w, Tensor r, Tensor b, Tensor h) -> (Tensor, Tensor)",
    "lstm_layer(Tensor input, Tensor w, Tensor r, Tensor b, Tensor h, Tensor c) -> (Tensor, Tensor, Tensor)",
):
    _LIBRARY.define(_schema)

_LIBRARY.impl("gru", lambda *args: torch.ops.aten.gru.input(*args), "CompositeExplicitAutograd")

_LIBRARY.impl("lstm", lambda *args: torch.ops.aten.lstm.input(*args), "CompositeExplicitAutograd")


def _shapes(given: Tensor, states: Sequence[Tensor], directions: int) -> tuple[Tensor, ...]:
    output = given.new_empty(*given.shape[:-1], directions * states[0].shape[-1])
    return output, *(torch.empty_like(state) for state in states)


def _kept_shapes(given: Tensor, hx: Tensor | Sequence[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    return _shapes(given, [hx] if isinstance(hx, Tensor) else hx, 2 if rest[5] else 1)


def _layer_shapes(given: Tensor, w: Tensor, r: Tensor, b: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
    return _shapes(given, states, len(w))


for _kind in ("gru", "lstm"):
    torch.library.register_fake(f"msdet::{_kind}", _kept_shapes, lib=_LIBRARY)
    torch.library.register_fake(f"msdet::{_kind}_layer", _layer_shapes, lib=_LIBRARY)


class KeepRecurrences(TorchFunctionMode):
    """Within, GRUs and LSTMs are traced as one operation each."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for known, kept in ((torch.gru, torch.ops.msdet.gru), (torch.lstm, torch.ops.msdet.lstm)):
            if function is known and isinstance(args[2], (list, tuple)):  # packed sequences come otherwise
                return kept(*args)
        return function(*args, **(kwargs or {}))


def use_grus(module: nn.Module) -> None:
    """Put PyTorch's layer in the place of every minimal GRU of a module, with the same weights and zeros."""
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, MinGRU):
                parent._modules[name] = child.as_gru()


def pack_recurrences(module: nn.Module) -> None:
    """Put an `OnnxRnn` in the place of every GRU and LSTM of a module."""
    packed: dict[nn.Module, OnnxRnn] = {}
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, nn.GRU | nn.LSTM):
                if child not in packed:
                    packed[child] = OnnxRnn(child)
                parent._modules[name] = packed[child]


class OnnxRnn(nn.Module):
    """A GRU or LSTM of PyTorch, each layer one operation with ONNX's weights W, R and B ``(direction, ...)``."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.kind, self.batch_first, self.hidden_size = rnn.mode.lower(), rnn.batch_first, rnn.hidden_size
        self.num_layers, self.bidirectional = rnn.num_layers, rnn.bidirectional
        gates = ONNX_GATES[self.kind]
        for number in range(self.num_layers):
            weights = []
            for suffix in ("", "_reverse") if self.bidirectional else ("",):
                names = [f"{part}_l{number}{suffix}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
                parts = [getattr(rnn, name).chunk(len(gates)) for name in names if hasattr(rnn, name)]
                w, r, *b = (torch.cat([part[gate] for gate in gates]) for part in parts)
                weights.append((w, r, torch.cat(b or [w.new_zeros(2 * len(w))])))
            for letter, tensors in zip("WRB", zip(*weights, strict=True), strict=True):
                self.register_parameter(f"{letter}{number}", nn.Parameter(torch.stack(tensors), requires_grad=False))

    def flatten_parameters(self) -> None:
        """Nothing is to be done."""

    def forward(self, sequence: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As the layer of PyTorch."""
        operation = getattr(torch.ops.msdet, f"{self.kind}_layer")
        directions = 1 + self.bidirectional
        x = sequence.transpose(0, 1) if self.batch_first else sequence
        if state is None:
            zeros = x.new_zeros(self.num_layers * directions, x.shape[1], self.hidden_size)
            state = (zeros, zeros) if self.kind == "lstm" else zeros
        states = state if self.kind == "lstm" else (state,)
        ends = []
        for number in range(self.num_layers):
            own = slice(number * directions, (number + 1) * directions)
            weights = [getattr(self, f"{letter}{number}") for letter in "WRB"]
            x, *end = operation(x, *weights, *(s[own] for s in states))
            ends.append(end)
        after = [torch.cat(parts) for parts in zip(*ends, strict=True)]
        return x.transpose(0, 1) if self.batch_first else x, tuple(after) if self.kind == "lstm" else after[0]


def as_known(program: ExportedProgram) -> ExportedProgram:
    """The same program with PyTorch's own operations for recurrent layers, so that it runs without msdet."""
    for node in program.graph.nodes:
        for kind in ("gru", "lstm"):
            if node.target == getattr(torch.ops.msdet, kind).default:
                node.target = getattr(torch.ops.aten, kind).input
    program.graph_module.recompile()
    return program


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How layers of `OnnxRnn` are written in ONNX."""
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
