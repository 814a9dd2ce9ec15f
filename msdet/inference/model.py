"""The Python API: load a model once, give it recordings.

Example::

    import msdet

    model = msdet.load("exp/demo/model").to("cuda")
    result = model(mixture, sample_rate)  # mixture: (mic, time), channels in the array's order
    result.estimates  # (talker, time), ascending in azimuth
    result.azimuth_deg, result.confidence  # (talker,)
    result.track_deg, result.activity, result.time_s  # over time

A long recording is cut and joined as by ``msdet separate``, so its length is limited by the memory that
mixture and estimates take alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray, load_array
from msdet.components import allowing
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.inference.blocks import BlockOptions
from msdet.inference.offline import OfflineSeparation, RecordingSystem, SystemFactory, prepare
from msdet.inference.results import write_separation
from msdet.inference.sources import FileSource, MemorySource, resampled
from msdet.inference.training_range import TrainingRange
from msdet.io import audio
from msdet.methods.base import Separation
from msdet.methods.trained import model_separator
from msdet.models.checkpoint import load_model, read_description, to_device
from msdet.models.joint import JointModel
from msdet.models.packages import require_own_array


@dataclass(frozen=True)
class Model:
    """A joint model, ready to be called.

    Attributes:
        joint: the network, in evaluation mode.
        folder: its checkpoint directory.
        options: how long recordings are cut and joined.
        allow_code: modules that its description may name parts of.
        training: what it learned from, as far as known: confidences of other recordings are lowered.
    """

    joint: JointModel
    folder: Path
    options: BlockOptions = field(default_factory=BlockOptions)
    allow_code: Sequence[str] = ()
    training: TrainingRange | None = None

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

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.joint.parameters()).device

    def to(self, device: str | torch.device) -> Model:
        """Move the network to a device, for example ``cuda``; returns the model itself."""
        to_device(self.joint, device)
        return self

    def __call__(self, mixture: npt.ArrayLike | Tensor, sample_rate: int) -> Any:
        """Separate and localize: a `Separation`, its estimates as long as the mixture and at its rate.

        The mixture is ``(mic, time)``, channels in the array's order, full scale 1 or that of integers. Of a batch
        ``(batch, mic, time)`` a list is given, of tensors tensors on the same device. Refuses a mixture that is not of
        this array, too short, silent, or not finite.
        """
        samples = _waveforms(mixture)
        if not isinstance(sample_rate, int | np.integer) or sample_rate < 1000:
            raise MsdetError(f"sample_rate is {sample_rate!r}, expected hertz as a whole number")
        if samples.ndim not in (2, 3):
            raise MsdetError(f"mixture has {samples.ndim} axes, expected (mic, time) or (batch, mic, time)")
        if samples.shape[-2] != self.array.microphones == samples.shape[-1]:
            wanted = "(mic, time)" if samples.ndim == 2 else "(batch, mic, time)"
            raise MsdetError(f"mixture is {samples.shape}, expected {wanted}: transpose it")
        batch = samples if samples.ndim == 3 else samples[None]
        results = [self._separated(item, int(sample_rate)) for item in batch]
        if isinstance(mixture, Tensor):
            results = [_on_device(result, mixture.device) for result in results]
        return results if samples.ndim == 3 else results[0]

    def separate_file(
        self,
        path: str | Path,
        out: str | Path,
        keep_rate: bool = False,
        subtype: str = "PCM_16",
        channels: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Separate a recording into a folder: voices, directions, who speaks when, as ``msdet separate``.

        The folder is made if missing; `keep_rate` writes voices at the recording's sample rate, not at the model's, in
        a sample format such as PCM_16, PCM_24 or FLOAT; `channels` of the file are the array's, if not all. Gives what
        ``doa.json`` says. Refuses a recording that is not of this array, too short, silent or damaged.
        """
        audio.check_subtype(subtype)
        path = Path(path)
        offline = self._prepared(FileSource(path), channels)
        return write_separation(Path(out), offline, path.stem, path.name, keep_rate, subtype)

    def _separated(self, samples: Array, sample_rate: int) -> Separation:
        offline = self._prepared(MemorySource(samples, sample_rate))
        pieces = (piece.estimates for piece in offline.pieces() if piece.estimates is not None)
        voices = np.concatenate(list(resampled(pieces, self.sample_rate, sample_rate)), axis=-1)
        slots, talkers = offline.talkers()
        unknown = np.full(len(slots), np.nan)
        return dataclasses.replace(
            talkers,
            estimates=voices[slots, : samples.shape[1]],
            azimuth_deg=unknown if talkers.azimuth_deg is None else talkers.azimuth_deg,
            confidence=unknown if talkers.confidence is None else talkers.confidence,
        )

    def _prepared(self, source: FileSource | MemorySource, channels: Sequence[int] | None = None) -> OfflineSeparation:
        return prepare(SystemFactory(self.array, self._system, channels=channels), source, self.options)

    def _system(self, array: MicrophoneArray, sample_rate: int) -> RecordingSystem:
        joint = self.joint
        if array is not self.array:  # some microphones are dead, or left out
            with allowing(self.allow_code):
                joint = load_model(self.folder, array).to(self.device)
        separator, sizes = model_separator(joint), (self.sample_rate, self.talkers)
        return RecordingSystem(
            separator, array, *sizes, str(self.folder), self.training, joint.config.variable_num_speakers
        )


def load(
    folder: str | Path,
    array: str | Path | MicrophoneArray | None = None,
    device: str | torch.device = "cpu",
    options: BlockOptions | None = None,
    allow_code: Sequence[str] = (),
) -> Model:
    """Load a model: ``msdet.load("circular6_8k")(mixture, sample_rate)`` separates and localizes.

    Args:
        folder: the checkpoint directory, a package (.tar), or the name of a shipped model.
        array: another array than it was trained on, by name, path or itself, if the model allows that; needed for a
            model that was trained on many.
        device: of torch, for example ``cuda``.
        options: how long recordings are cut and joined.
        allow_code: modules, or packages of them, that the model may take parts from which are not msdet's.

    Raises:
        CodeNotAllowedError: it has such a part of another module; nothing was imported.
    """
    geometry = load_array(str(array)) if isinstance(array, str | Path) else array
    with allowing(allow_code):
        joint = load_model(Path(folder), geometry)
    if geometry is None:
        require_own_array(joint.config.front_end, folder)
    training = TrainingRange.of(read_description(folder))
    return Model(joint, Path(folder), options or BlockOptions(), allow_code, training).to(device)


def _waveforms(mixture: Any) -> Array:
    """A mixture as float32, full scale 1."""
    given = mixture.detach().cpu().numpy() if isinstance(mixture, Tensor) else np.asarray(mixture)
    if given.dtype.kind == "i":
        return (given / -float(np.iinfo(given.dtype).min)).astype(np.float32)
    if given.dtype.kind != "f":
        raise MsdetError(f"mixture is of type {given.dtype}, expected floats or signed integers")
    return np.ascontiguousarray(given, dtype=np.float32)


def _on_device(result: Separation, device: torch.device) -> Separation:
    """The same with tensors in place of arrays."""
    values: dict[str, Any] = {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(device)
        for name, value in vars(result).items()
        if isinstance(value, np.ndarray)
    }
    return dataclasses.replace(result, **values)
