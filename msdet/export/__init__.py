"""Models as files that other programs run, without msdet: ONNX and `torch.export`, in real arithmetic.

A file takes a mixture's spectrum, or the mixture itself, and gives voices and DoA posteriors (`model`). It is
written once it was found to give what the model gives (`writing`, `parity`). What it says of itself is JSON
(`writing.describe`): in an ONNX file under the key ``msdet`` of its metadata, in a program of `torch.export`
in the extra file ``msdet.json``.
"""

from __future__ import annotations

from typing import Literal

Format = Literal["onnx", "torch"]
"""ONNX, or a program of `torch.export`."""

Precision = Literal["float32", "float16", "bf16", "int8"]
"""Of weights (`precision`)."""

StftPlace = Literal["outside", "inside"]
"""Whether a file takes and gives spectra, or waveforms."""
