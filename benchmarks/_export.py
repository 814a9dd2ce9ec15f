"""What `inference.py` measures of exported models: whether voices are the model's, size and speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import take_turns

from msdet.export import Precision
from msdet.export.formats import onnx_runner
from msdet.export.parity import deviation, run_on_waveforms
from msdet.export.writing import onnx_contents
from msdet.models.checkpoint import load_model

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
ROUNDS = 5
SECONDS = 4.0


def export_figures(folder: Path) -> dict[str, Any]:
    """Of a checkpoint: parity of ONNX on the voices, sizes in MB, and speed relative to PyTorch's.

    Speed is that of 4 s of noise on the threads that PyTorch uses, the ways taking turns; the STFT, outside
    the file, is counted for all. ``onnx_int8_si_sdr_db`` is of the voices against those of the model.
    """
    model = load_model(folder)
    contents = onnx_contents(model, PRECISIONS, "outside")
    runners = {precision: onnx_runner(content) for precision, content in contents.items()}
    samples = round(SECONDS * model.sample_rate)
    mixture = np.random.default_rng(0).standard_normal((1, model.array.microphones, samples), np.float32)

    def itself() -> None:
        with torch.inference_mode():
            model(torch.from_numpy(mixture))

    def way(precision: Precision) -> Any:
        return lambda: run_on_waveforms(model, runners[precision], "outside", mixture)

    times = take_turns({"torch": itself, **{precision: way(precision) for precision in PRECISIONS}}, ROUNDS)
    seconds = {name: float(np.median(taken)) for name, taken in times.items()}
    figures: dict[str, Any] = {
        "onnx_max_relative_error": deviation(model, runners["float32"], "outside").estimates,
        "onnx_rtf": seconds["float32"] / SECONDS,
        "onnx_speed_over_pytorch": seconds["torch"] / seconds["float32"],
        "onnx_int8_speed_over_pytorch": seconds["torch"] / seconds["int8"],
        "onnx_int8_si_sdr_db": deviation(model, runners["int8"], "outside").si_sdr_db,
    }
    return figures | {f"onnx_{precision}_mb": len(content) / 1e6 for precision, content in contents.items()}
