"""Smaller ONNX files: weights in half precision, or in 8 bits.

Only weights change. What follows from the array's coordinates, the STFT, and all arithmetic on spectra stay in 32 bits:
there, rounding moves directions. Half precision is a matter of storage; with 8 bits, products with weight matrices are
computed in whole numbers too, by onnxruntime's dynamic quantization of what enters them. Weights of recurrences and
convolutions, for which that has no operation that other programs know, are stored in 8 bits, a scale for each output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdet.conventions import Array
from msdet.export import Precision
from msdet.export.formats import quiet

if TYPE_CHECKING:
    import onnx

SMALLEST = 1024  # entries of a weight; smaller ones stay as they are, and so do biases

LAYERS = ("MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose", "GRU", "LSTM")
"""Operations with weights, which are among their first three inputs."""


def lowered(model: onnx.ModelProto, precision: Precision, buffers: Collection[str]) -> onnx.ModelProto:
    """A copy of a model in 32 bits with its weights in another precision; `buffers` names what is no weight."""
    import onnx

    if precision == "float32":
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if precision == "int8":
        changed = _integer_products(changed, _weights(changed, buffers))
    names = _weights(changed, buffers)
    axes = _output_axes(changed)
    kept = [t for t in changed.graph.initializer if t.name not in names]
    nodes: list[onnx.NodeProto] = []
    for tensor in changed.graph.initializer:
        if tensor.name in names:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            is_int8 = precision == "int8"
            more, node = _eight_bits(name, values, axes.get(name, 0)) if is_int8 else _half(name, values, precision)
            kept += more
            nodes.append(node)
    nodes += changed.graph.node
    del changed.graph.initializer[:], changed.graph.node[:]
    changed.graph.initializer.extend(kept)
    changed.graph.node.extend(nodes)
    return changed


def _weights(model: onnx.ModelProto, buffers: Collection[str]) -> set[str]:
    """Names of the matrices and kernels that are weights, but for small ones."""
    import onnx

    used = {name for node in model.graph.node if node.op_type in LAYERS for name in node.input[:3]}
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    return {t.name for t in floats if np.prod(t.dims) >= SMALLEST} & used - set(buffers)


def _output_axes(model: onnx.ModelProto) -> dict[str, int]:
    """Along which axis of a weight its outputs lie, where that is not the first."""
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "GRU", "LSTM", "ConvTranspose"):
            axes |= dict.fromkeys(node.input[1:4], 1)
    return axes


def _integer_products(model: onnx.ModelProto, weights: Collection[str]) -> onnx.ModelProto:
    """Products with weight matrices in whole numbers.

    Both factors are unsigned: of mixed signs, processors with AVX2 alone saturate sums of two products.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for number, node in enumerate(model.graph.node):
        node.name = f"{number}_{node.op_type}"
    chosen = [n.name for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    if not chosen:
        return model
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul"], nodes_to_quantize=chosen, per_channel=True,
            weight_type=QuantType.QUInt8, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(path)


def _half(name: str, values: Array, precision: Precision) -> tuple[list[Any], Any]:
    """A weight in 16 bits, and the node that makes 32 of them."""
    import ml_dtypes
    from onnx import TensorProto, helper, numpy_helper

    dtype = np.float16 if precision == "float16" else ml_dtypes.bfloat16
    stored = numpy_helper.from_array(values.astype(dtype), f"{name}.{precision}")
    return [stored], helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT)


def _eight_bits(name: str, values: Array, axis: int) -> tuple[list[Any], Any]:
    """A weight in 8 bits with a scale for each output, and the node that multiplies them out."""
    from onnx import helper, numpy_helper

    axis = min(axis, values.ndim - 1)
    others = tuple(n for n in range(values.ndim) if n != axis)
    scale = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127
    stored = [
        numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}.int8"),
        numpy_helper.from_array(scale.reshape(-1).astype(np.float32), f"{name}.scale"),
    ]
    return stored, helper.make_node("DequantizeLinear", [t.name for t in stored], [name], axis=axis)
