"""Writing a model as a file that other programs run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from msdet import __version__
from msdet.conventions import class_azimuths_deg
from msdet.errors import MsdetError
from msdet.export import Format, Precision, StftPlace
from msdet.export.formats import Runner, check_installed, onnx_bytes, onnx_model, onnx_runner, torch_bytes, torch_runner
from msdet.export.model import ExportedModel
from msdet.export.parity import LIMIT, Deviation, deviation
from msdet.export.precision import lowered
from msdet.export.program import in_real_arithmetic, trace
from msdet.export.recurrence import pack_recurrences, use_grus
from msdet.io.files import write_bytes
from msdet.models.joint import JointModel

SCHEMA = 1  # of what a file says of itself
_TRACED_FRAMES = 23


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written, and what it was compared with."""

    path: Path  # of the file
    size: int  # bytes
    runner: Runner  # runs it
    parity: Deviation  # of the arithmetic, in 32 bits, with the model
    lowered: Deviation | None  # of the file with the model, where its weights are not in 32 bits; None where they are
    full_size: int  # bytes of the same in 32 bits


def export_model(
    model: JointModel,
    out: Path,
    form: Format = "onnx",
    precision: Precision = "float32",
    stft: StftPlace = "outside",
    notes: dict[str, Any] | None = None,
) -> ExportedFile:
    """Write a model, on the CPU, as a file that other programs run, after comparing it with the model.

    A program of `torch.export` has weights in 32 bits. `notes` are what the checkpoint says of itself. Writes no file
    if a part of the model cannot be exported, or the voices are not the model's.
    """
    check_installed(form)
    if form == "torch" and precision != "float32":
        raise MsdetError(f"precision is '{precision}', but a file of format torch has weights in float32")
    if form == "torch":
        contents, make_runner = {precision: torch_content(model, stft, notes)}, torch_runner
    else:
        contents, make_runner = onnx_contents(model, {"float32", precision}, stft, notes), onnx_runner
    runner = make_runner(contents[precision])
    parity = deviation(model, runner if precision == "float32" else make_runner(contents["float32"]), stft)
    if not parity.estimates <= LIMIT:
        raise MsdetError(
            f"{out}: not written: its voices differ from the model's by {parity.estimates:.1e} of their "
            f"peak, allowed is {LIMIT:g}"
        )
    loss = None if precision == "float32" else deviation(model, runner, stft)
    write_bytes(out, contents[precision])
    return ExportedFile(out, len(contents[precision]), runner, parity, loss, len(contents["float32"]))


def onnx_contents(
    model: JointModel, precisions: Collection[Precision], stft: StftPlace, notes: dict[str, Any] | None = None
) -> dict[Precision, bytes]:
    """ONNX files of a model with weights in several precisions, not compared with it; see `export_model`."""
    program, wrapper, example, lengths = _traced(model, stft, onnx=True)
    proto = onnx_model(program, example, wrapper.outputs, lengths)
    buffers = {name for name, _ in program.named_buffers()}
    return {
        p: onnx_bytes(lowered(proto, p, buffers), describe(model, stft, wrapper.outputs, p, notes or {}))
        for p in precisions
    }


def torch_content(model: JointModel, stft: StftPlace, notes: dict[str, Any] | None = None) -> bytes:
    """A program of `torch.export` of a model, not compared with it; see `export_model`."""
    program, wrapper, _, _ = _traced(model, stft, onnx=False)
    return torch_bytes(program, describe(model, stft, wrapper.outputs, "float32", notes or {}))


def describe(
    model: JointModel, stft: StftPlace, outputs: list[str], precision: Precision, notes: dict[str, Any]
) -> dict[str, Any]:
    """What a file says of itself: all that is needed to use it; `notes` are those of the checkpoint or package."""
    spectral = stft == "outside"
    axes = ["freq", "frame", "2 (real, imaginary)"] if spectral else ["sample"]
    known = {
        "estimates": ["batch", "talker", *axes],
        "doa": ["batch", "talker", "class"],
        "occupancy": ["batch", "talker"],
        "activity": ["batch", "talker", "frame"],
    }
    training, package = (_dict(notes.get(key)) for key in ("training", "package"))
    return {
        "schema": SCHEMA,
        "msdet": __version__,
        "input": {"mixture": ["batch", "mic", *axes]},
        "outputs": {name: known[name] for name in outputs},
        "sample_rate": model.sample_rate,
        "stft": {
            "place": stft,
            "window": "square root of a periodic Hann window",
            "window_samples": model.stft.length,
            "hop_samples": model.stft.hop,
            "padding": "half a window of zeros before; zeros after until every sample is in two frames",
        },
        "array": model.array.to_dict(),
        "azimuth_deg": [float(a) for a in class_azimuths_deg(model.config.doa_classes)],
        "azimuth": "0 is the array's +x axis, counter-clockwise seen from +z",
        "talkers": model.config.talkers,
        "assignment": _dict(training.get("objective")).get("assignment"),
        "precision": precision,
        "license": package.get("license", notes.get("license")),
    }


def _dict(value: Any) -> dict[str, Any]:
    """What should be an object in a description; an empty one if it is none."""
    return value if isinstance(value, dict) else {}


def _traced(
    model: JointModel, stft: StftPlace, onnx: bool
) -> tuple[ExportedProgram, ExportedModel, torch.Tensor, dict[int, str]]:
    """A model in real arithmetic, what was traced, with what input, and the axes of that which have any length."""
    microphones = model.array.microphones
    shape: tuple[int, ...] = (2, microphones, model.stft.freqs, _TRACED_FRAMES, 2)
    lengths = {0: "batch", 3: "frame"}
    if stft == "inside":
        shape = (2, microphones, (_TRACED_FRAMES - 1) * model.stft.hop - 3)  # no whole number of hops
        lengths = {0: "batch", 2: "sample"}
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wrapper = ExportedModel(model, stft)
    use_grus(wrapper)
    if onnx:
        pack_recurrences(wrapper)
    return in_real_arithmetic(trace(wrapper, example, lengths), example, lengths), wrapper, example, lengths
