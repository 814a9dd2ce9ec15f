"""Weights in 16 and 8 bits: smaller, nearly the same, and made of operations that every runtime knows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from msdet.conventions import Array
from msdet.export import Precision
from msdet.export.formats import OPSET, onnx_bytes, onnx_runner
from msdet.export.precision import lowered

FRAMES, WIDTH, HIDDEN = 7, 40, 40


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """A product with a matrix, a GRU in both directions, and a tensor that is no weight."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Array:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    tensors = {
        "matrix": weight(WIDTH, WIDTH),
        "w": weight(2, 3 * HIDDEN, WIDTH),
        "r": weight(2, 3 * HIDDEN, HIDDEN),
        "geometry": weight(WIDTH, WIDTH),
    }
    nodes = [
        helper.make_node("MatMul", ["mixture", "matrix"], ["x"]),
        helper.make_node("MatMul", ["x", "geometry"], ["y"]),
        helper.make_node("GRU", ["y", "w", "r"], ["z"], hidden_size=HIDDEN, direction="bidirectional"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("mixture", TensorProto.FLOAT, [FRAMES, "batch", WIDTH])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [FRAMES, 2, "batch", HIDDEN])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


@pytest.mark.parametrize(
    ("precision", "share", "error"), [("float16", 0.7, 1e-3), ("bf16", 0.7, 1e-2), ("int8", 0.5, 3e-2)]
)
def test_weights_shrink_and_outputs_hardly_change(
    network: onnx.ModelProto, precision: Precision, share: float, error: float
) -> None:
    mixture = np.random.default_rng(1).standard_normal((FRAMES, 3, WIDTH)).astype(np.float32)
    full, small = (onnx_bytes(lowered(network, p, {"geometry"}), {}) for p in ("float32", precision))
    assert len(small) < share * len(full)
    wanted, found = (onnx_runner(content)(mixture)["z"] for content in (full, small))
    assert 0 < np.abs(found - wanted).max() < error


def test_only_weights_change_and_only_common_operations_are_used(network: onnx.ModelProto) -> None:
    before = network.SerializeToString()
    small = lowered(network, "int8", {"geometry"})
    assert network.SerializeToString() == before
    kept = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer}
    assert kept["geometry"].dtype == np.float32
    assert "matrix" not in kept
    assert {node.domain for node in small.graph.node} == {""}
    assert "MatMulInteger" in {node.op_type for node in small.graph.node}
