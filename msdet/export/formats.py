"""The bytes of exported files, and running them as other programs do."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.export import Format
from msdet.export.recurrence import as_known, onnx_translations

if TYPE_CHECKING:
    import onnx

NEEDED: dict[Format, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "torch": ()}
"""Packages that a format needs besides those of msdet."""

OPSET = 18  # of ONNX: onnxruntime knows it since 1.14
SMALL = 1024  # entries of a tensor that may be stored where it could be computed
METADATA = "msdet"  # key of the metadata of an ONNX file
METADATA_FILE = "msdet.json"  # name of the metadata within a program of `torch.export`

Runner = Callable[[Array], dict[str, Array]]
"""Runs an exported file on a mixture; outputs by name."""


def check_installed(form: Format) -> None:
    """Raise `MsdetError` unless what a format needs is installed."""
    missing = [name for name in NEEDED[form] if importlib.util.find_spec(name) is None]
    if missing:
        raise MsdetError(f"format {form} needs {' and '.join(missing)}: pip install 'msdet[export]'")


def onnx_model(
    program: ExportedProgram, example: Tensor, outputs: Sequence[str], lengths: dict[int, str]
) -> onnx.ModelProto:
    """A program in real arithmetic, its recurrent layers packed, as ONNX; `lengths` names axes of any length."""
    import onnxscript.optimizer

    with quiet():
        found = torch.onnx.export(
            program,
            (example,),
            input_names=["mixture"],
            output_names=list(outputs),
            custom_translation_table=onnx_translations(),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
        assert found is not None
        # what is computed from a few numbers stays so, and takes no place in the file
        onnxscript.optimizer.optimize_ir(found.model, output_size_limit=SMALL)
        model: onnx.ModelProto = found.model_proto
    symbols = {model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param: name for axis, name in lengths.items()}
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda m: symbols.get(m[0], m[0]), dim.dim_param)
    for node in model.graph.node:  # where in whose file it was made
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    model.graph.name = model.producer_name = "msdet"
    model.producer_version = ""
    return model


def onnx_bytes(model: onnx.ModelProto, metadata: dict[str, Any]) -> bytes:
    """The file of an ONNX model."""
    import onnx

    onnx.helper.set_model_props(model, {METADATA: json.dumps(metadata, ensure_ascii=False)})
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def torch_bytes(program: ExportedProgram, metadata: dict[str, Any]) -> bytes:
    """The file of a program of `torch.export`."""
    known = as_known(program)
    for module in known.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)
    known._example_inputs = None  # half of a small file else
    written = io.BytesIO()
    with quiet():
        torch.export.save(known, written, extra_files={METADATA_FILE: json.dumps(metadata, ensure_ascii=False)})
    return written.getvalue()


def onnx_runner(content: bytes) -> Runner:
    """Runs an ONNX file by onnxruntime on as many threads as PyTorch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(mixture: Array) -> dict[str, Array]:
        return dict(zip(names, session.run(None, {"mixture": np.ascontiguousarray(mixture)}), strict=True))

    return run


def torch_runner(content: bytes) -> Runner:
    """Runs a program of `torch.export`."""
    said = {METADATA_FILE: ""}
    with quiet():
        module = torch.export.load(io.BytesIO(content), extra_files=said).module()
    names = json.loads(said[METADATA_FILE])["outputs"]

    def run(mixture: Array) -> dict[str, Array]:
        with torch.no_grad():
            found = module(torch.from_numpy(mixture))
        return {name: output.numpy() for name, output in zip(names, found, strict=True)}

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """What exporters tell about themselves is kept from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
