"""The Python API: load a model once, give it recordings.

Example::

    import msdet

    model = msdet.load("exp/demo/model")
    result = model(mixture, sample_rate)  # mixture: (mic, time), channels in the array's order
    result.estimates  # (talker, time), ascending in azimuth
    result.azimuth_deg, result.confidence  # (talker,)
    result.track_deg, result.activity, result.time_s  # over time

A long recording is cut and joined as by ``msdet separate``, so its length is limited by the memory that
mixture and voices take alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from msdet.arrays import MicrophoneArray, load_array
from msdet.components import allowing
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.inference.blocks import BlockOptions
from msdet.inference.recording import Inference, RecordingSystem, drop_dead_channels
from msdet.inference.sources import MemorySource, resampled, scan
from msdet.methods.trained import model_separator
from msdet.models.checkpoint import load_model
from msdet.models.joint import JointModel


@dataclass(frozen=True)
class Result:
    """What is in a recording, talkers ascending in azimuth.

    Attributes:
        estimates: ``(talker, time)`` float32 at the reference microphone, of the mixture's length and rate.
        azimuth_deg: ``(talker,)``, [0, 360), where each is heard most, in the array's frame.
        confidence: ``(talker,)`` in [0, 1].
        elevation_deg: ``(talker,)``; None of a model that does not tell.
        time_s: centers ``(frame,)`` of frames.
        track_deg: azimuth ``(talker, frame)``; NaN where nobody is heard.
        activity: ``(talker, frame)``, probability that each speaks.
        warnings: what should be known of the mixture: clipped, dead or offset channels.
    """

    estimates: Array
    azimuth_deg: Array
    confidence: Array
    elevation_deg: Array | None
    time_s: Array
    track_deg: Array
    activity: Array
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A joint model, ready to be called.

    Attributes:
        joint: the network, in evaluation mode.
        folder: its checkpoint directory.
        options: how long recordings are cut and joined.
        allow_code: modules that its description may name parts of.
    """

    joint: JointModel
    folder: Path
    options: BlockOptions = field(default_factory=BlockOptions)
    allow_code: Sequence[str] = ()

    @property
    def array(self) -> MicrophoneArray:
        """Geometry of the microphones."""
        return self.joint.array

    @property
    def sample_rate(self) -> int:
        """That the network works at, hertz."""
        return self.joint.sample_rate

    @property
    def talkers(self) -> int:
        """Most talkers that it finds at a time."""
        return self.joint.config.talkers

    def __call__(self, mixture: npt.ArrayLike | torch.Tensor, sample_rate: int) -> Result:
        """Separate and localize.

        Args:
            mixture: ``(mic, time)``, channels in the array's order; full scale is 1, or that of integers.
            sample_rate: of the mixture, hertz.

        Raises:
            MsdetError: a mixture that is not of this array, too short, silent, or not finite.
        """
        samples = _waveforms(mixture)
        if not isinstance(sample_rate, int | np.integer) or sample_rate < 1000:
            raise MsdetError(f"sample_rate is {sample_rate!r}, expected hertz as a whole number")
        if samples.ndim == 2 and len(samples) != self.array.microphones == samples.shape[1]:
            raise MsdetError(f"mixture is {samples.shape}, expected (mic, time): transpose it")
        if samples.ndim != 2:
            raise MsdetError(f"mixture has {samples.ndim} axes, expected (mic, time)")
        source = MemorySource(samples, int(sample_rate))
        system, found = drop_dead_channels(
            self._system, self.array, scan(source, self.array, self.sample_rate)
        )
        inference = Inference(system, source, found, self.options)
        pieces = (piece.estimates for piece in inference.pieces() if piece.estimates is not None)
        voices = np.concatenate(list(resampled(pieces, self.sample_rate, source.sample_rate)), axis=-1)
        t = inference.talkers()
        unknown = np.full(len(t.slots), np.nan)
        return Result(
            voices[t.slots, : samples.shape[1]],
            unknown if t.azimuth_deg is None else t.azimuth_deg,
            unknown if t.confidence is None else t.confidence,
            t.elevation_deg,
            t.time_s,
            t.frames.azimuth_deg,
            t.frames.activity,
            found.warnings,
        )

    def _system(self, array: MicrophoneArray) -> RecordingSystem:
        joint = self.joint
        if array is not self.array:  # some microphones are dead
            with allowing(self.allow_code):
                joint = load_model(self.folder, array).to(next(joint.parameters()).device)
        return RecordingSystem(
            model_separator(joint), array, self.sample_rate, self.talkers, str(self.folder)
        )


def load(
    folder: str | Path,
    array: str | MicrophoneArray | None = None,
    device: str = "cpu",
    options: BlockOptions | None = None,
    allow_code: Sequence[str] = (),
) -> Model:
    """Load a model for inference.

    Args:
        folder: the checkpoint directory, a package (.tar), or the name of a shipped model.
        array: another array than it was trained on, by name, path or itself, if the model allows that.
        device: of torch, for example ``cuda``.
        options: how long recordings are cut and joined.
        allow_code: modules, or packages of them, that the model may take parts from which are not msdet's.

    Raises:
        CodeNotAllowedError: it has such a part of another module; nothing was imported.
        MsdetError: no checkpoint directory, or a model that cannot serve `array`.
    """
    geometry = load_array(array) if isinstance(array, str) else array
    with allowing(allow_code):
        joint = load_model(Path(folder), geometry)
    try:
        joint = joint.to(device)
    except (RuntimeError, AssertionError) as error:
        raise MsdetError(
            f"device is '{device}', which cannot be used ({str(error).splitlines()[0]})"
        ) from error
    return Model(joint, Path(folder), options or BlockOptions(), allow_code)


def _waveforms(mixture: npt.ArrayLike | torch.Tensor) -> Array:
    """A mixture as float32, full scale 1."""
    given = mixture.detach().cpu().numpy() if isinstance(mixture, torch.Tensor) else np.asarray(mixture)
    if given.dtype.kind == "i":
        return (given / -float(np.iinfo(given.dtype).min)).astype(np.float32)
    if given.dtype.kind != "f":
        raise MsdetError(f"mixture is of type {given.dtype}, expected floats or signed integers")
    return np.ascontiguousarray(given, dtype=np.float32)
