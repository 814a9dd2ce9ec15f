"""What every system is: a function from the mixture, or a block of it, to voices and directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.models.joint import JointModel, JointOutput
from msdet.objectives.doa import decode_azimuth
from msdet.tasks.elevation import decode_elevation
from msdet.tasks.tracking import decode_track


@dataclass(frozen=True)
class Separation:
    """What was found in a recording: voices, azimuths, or both; None is what a system does not give.

    Attributes:
        voices: ``(talker, time)`` float32 at the reference microphone, ascending in azimuth where given.
        azimuth_deg: ``(talker,)`` in the array's frame, in the order of `voices`.
        confidence: ``(talker,)`` in [0, 1]: of a model, the probability around each azimuth.
        elevation_deg: ``(talker,)``.
        activity: ``(talker, frame)``, probability that each speaks, in frames evenly over the recording.
        track_deg: azimuths ``(talker, frame)`` likewise.
    """

    voices: Array | None = None
    azimuth_deg: Array | None = None
    confidence: Array | None = None
    elevation_deg: Array | None = None
    activity: Array | None = None
    track_deg: Array | None = None

    def __post_init__(self) -> None:
        given = {name: len(v) for name, v in vars(self).items() if v is not None}
        if not given.keys() & {"voices", "azimuth_deg"} or len(set(given.values())) > 1:
            found = ", ".join(f"{count} {name}" for name, count in given.items()) or "nothing"
            raise MsdetError(f"a separation has {found}, expected voices or azimuth_deg, one a talker")

    @property
    def count(self) -> int:
        """Number of talkers."""
        return next(len(v) for v in vars(self).values() if v is not None)


Separator = Callable[[Array], Separation]
"""Separates a mixture ``(mic, time)``."""


def model_separator(model: JointModel) -> Separator:
    """A separator that runs a joint model on its own device; slots that nobody fills are left out.

    Of the auxiliary tasks, ``activity``, ``elevation`` and ``tracking`` are used where a model has them.
    """
    device = next(model.parameters()).device

    def separate(mixture: Array) -> Separation:
        with torch.inference_mode():
            output = model(torch.from_numpy(mixture)[None].to(device))
            azimuth, confidence = decode_azimuth(output.doa_logits)
            known = _auxiliary(output)
        there = (output.occupancy[0] > 0.5).cpu().numpy()
        there[int(output.occupancy[0].argmax())] = True  # somebody is, or there were nothing to write
        return Separation(
            output.waveforms[0].float().cpu().numpy()[there],
            azimuth[0].cpu().double().numpy()[there],
            confidence[0].cpu().double().numpy()[there],
            **{name: value[0].cpu().double().numpy()[there] for name, value in known.items()},
        )

    return separate


def _auxiliary(output: JointOutput) -> dict[str, torch.Tensor]:
    """What auxiliary tasks say, as `Separation` has it."""
    found = {}
    if "activity" in output.predictions:
        found["activity"] = output.predictions["activity"].float().sigmoid()
    if "elevation" in output.predictions:
        found["elevation_deg"] = decode_elevation(output.predictions["elevation"])[0]
    if "tracking" in output.predictions:
        found["track_deg"] = decode_track(output.predictions["tracking"], found.get("activity"))[0]
    return found
