"""Separating whole recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdet import audio
from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.files import write_json
from msdet.models.joint import JointModel
from msdet.objectives.doa import decode_azimuth

LONGEST_S = 300.0
"""Longest recording that is processed, in one piece and in memory."""


@dataclass(frozen=True)
class Separation:
    """What was found in a recording: voices, azimuths, or both; None is what a system does not give.

    Attributes:
        voices: ``(talker, time)`` float32 at the reference microphone, ascending in azimuth where given.
        azimuth_deg: ``(talker,)`` in the array's frame, in the order of `voices`.
        confidence: ``(talker,)`` in [0, 1]: of a model, the probability around each azimuth.
    """

    voices: Array | None = None
    azimuth_deg: Array | None = None
    confidence: Array | None = None

    def __post_init__(self) -> None:
        given = {name: len(v) for name, v in vars(self).items() if v is not None}
        if not given.keys() & {"voices", "azimuth_deg"} or len(set(given.values())) > 1:
            found = ", ".join(f"{count} {name}" for name, count in given.items()) or "nothing"
            raise MsdetError(f"a separation has {found}, expected voices or azimuth_deg, one a talker")

    @property
    def talkers(self) -> list[dict[str, float]]:
        """Of each talker ``azimuth_deg`` and ``confidence``, rounded, as far as they are given."""
        shown = {"azimuth_deg": (self.azimuth_deg, 2), "confidence": (self.confidence, 4)}
        columns = [
            [(name, round(float(value), decimals)) for value in values]
            for name, (values, decimals) in shown.items()
            if values is not None
        ]
        if columns:
            return [dict(row) for row in zip(*columns, strict=True)]
        return [{} for _ in self.voices] if self.voices is not None else []


Separator = Callable[[Array], Separation]
"""Separates a mixture ``(mic, time)``."""


def model_separator(model: JointModel) -> Separator:
    """A separator that runs a joint model on its own device; slots that nobody fills are left out."""
    device = next(model.parameters()).device

    def separate(mixture: Array) -> Separation:
        with torch.inference_mode():
            output = model(torch.from_numpy(mixture)[None].to(device))
            azimuth, confidence = decode_azimuth(output.doa_logits)
        there = (output.occupancy[0] > 0.5).cpu().numpy()
        there[int(output.occupancy[0].argmax())] = True  # somebody is, or there were nothing to write
        return Separation(
            output.waveforms[0].float().cpu().numpy()[there],
            azimuth[0].cpu().double().numpy()[there],
            confidence[0].cpu().double().numpy()[there],
        )

    return separate


def check_recording(mixture: Array, array: MicrophoneArray, sample_rate: int, origin: Path) -> None:
    """Refuse a recording that does not belong to the array, is silent, or is too long for one piece.

    Args:
        mixture: ``(mic, time)``.
        array: geometry expected.
        sample_rate: of the mixture.
        origin: file named in errors.

    Raises:
        MsdetError: names what was found and expected.
    """
    if len(mixture) != array.microphones:
        raise MsdetError(
            f"{origin}: has {len(mixture)} channels, the array '{array.name}' has {array.microphones}"
        )
    seconds = mixture.shape[-1] / sample_rate
    if seconds > LONGEST_S:
        raise MsdetError(f"{origin}: is {seconds:.0f} s long, up to {LONGEST_S:.0f} s fit; cut it first")
    if seconds < 0.1:
        raise MsdetError(f"{origin}: is {seconds:.3f} s long, expected at least 0.1 s")
    if not mixture[array.reference].any():
        raise MsdetError(f"{origin}: the reference microphone (channel {array.reference}) is silent")


def write_separation(
    folder: Path, result: Separation, sample_rate: int, array: MicrophoneArray, notes: dict[str, Any]
) -> None:
    """Write one WAV file a talker (none without voices) and ``doa.json``.

    A voice whose peak would clip is scaled down with all others, so that their balance stays.

    Args:
        folder: made if missing.
        result: what was found.
        sample_rate: hertz.
        array: named in ``doa.json``.
        notes: more entries of ``doa.json``.
    """
    voices = np.empty((0, 1), dtype=np.float32) if result.voices is None else result.voices
    peak = float(np.abs(voices).max(initial=0.0))
    gain = min(1.0, 0.99 / peak) if peak > 0 else 1.0
    names = [f"talker{n + 1}.wav" for n in range(len(voices))]
    if (folder / "doa.json").is_file():  # of an earlier separation, maybe into more talkers
        for stale in set(folder.glob("talker*.wav")) - {folder / name for name in names}:
            stale.unlink()
    for name, voice in zip(names, voices, strict=True):
        audio.write(folder / name, voice * np.float32(gain), sample_rate)
    files = [{"file": name} for name in names] or [{} for _ in result.talkers]
    talkers = [file | found for file, found in zip(files, result.talkers, strict=True)]
    write_json(
        folder / "doa.json",
        {
            "convention": "degrees in [0, 360), 0 on the array's +x axis, counter-clockwise from above",
            "array": array.to_dict(),
            "sample_rate": sample_rate,
            "gain": round(gain, 6),
            "talkers": talkers,
            **notes,
        },
    )
