"""Streaming: a causal model on a signal that has no end yet, the sum of pieces equal to the whole.

Example::

    streamer = msdet.Streamer(msdet.load("exp/streaming"))
    for chunk in microphone:  # (mic, time), of any length
        result = streamer.push(chunk)
        result.estimates, result.azimuth_deg  # what is final now
    result = streamer.finish()

A sample of a voice is final once every STFT frame that it lies in has come, so the algorithmic latency is one
frame, `Streamer.latency_s`. What a model's parts must offer is said by their packages: `stream` in
`msdet.models.frontends`, `msdet.models.encoders`, `msdet.models.sharing` and `msdet.models.heads`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from msdet.components import Registry
from msdet.conventions import Array
from msdet.dsp.spatial import decode_azimuth
from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.inference.sources import MAX_SAMPLE
from msdet.models.encoders import ENCODERS
from msdet.models.frontends import FRONT_ENDS
from msdet.models.heads import DOA_HEADS, SEPARATION_HEADS, slot_occupancy
from msdet.models.joint import JointModel
from msdet.models.sharing import SHARING_SCHEMES

if TYPE_CHECKING:
    from msdet.inference.model import Model

FRAMES_AT_ONCE = 32  # of a long chunk, so many STFT frames are worked on together: memory does not grow with it


@dataclass(frozen=True)
class StreamResult:
    """What is final after a chunk.

    Attributes:
        estimates: the next samples ``(talker, time)`` at the reference microphone, float32; slots keep the
            order that the model gives them.
        time_s: centers ``(frame,)`` of the frames that are new, seconds from the start.
        azimuth_deg: ``(talker, frame)`` in [0, 360), where each slot's talker is by what came so far; of the
            causal task ``tracking`` where a model has it, otherwise of the DoA head.
        confidence: ``(talker, frame)`` in [0, 1].
        occupancy: probability ``(talker, frame)`` that a slot is occupied; 1 for a model without variable_num_speakers.
        activity: probability ``(talker, frame)`` of speech; None of a model without the task ``activity``.
        doa_logits: ``(talker, frame, class)``; the last frame's, after `Streamer.finish`, are the model's of
            the whole recording.
    """

    estimates: Array
    time_s: Array
    azimuth_deg: Array
    confidence: Array
    occupancy: Array
    activity: Array | None
    doa_logits: Array


@dataclass(frozen=True)
class StreamState:
    """All that a `Streamer` remembers. Nothing in it is changed in place: a state that is kept stays valid."""

    samples: int  # that came
    frames: int  # of the STFT that were worked on
    recent: Tensor  # the last samples (mic, time) that a later frame needs
    overlap: Tensor  # what the last frame adds to the next samples, (talker, hop)
    parts: State  # of the model


class Streamer:
    """Separates and localizes a signal that comes in chunks.

    The model is as `msdet.load` gives it, or the network; one that cannot stream is refused, by the part that keeps it
    from it.
    """

    state: StreamState
    """All that is remembered; it may be set to one that was kept, to go on from there."""

    def __init__(self, model: JointModel | Model) -> None:
        model = model if isinstance(model, JointModel) else model.joint
        obstacle = why_not(model)
        if obstacle:
            raise MsdetError(f"the model cannot stream: {obstacle} (the configuration 'streaming' can)")
        self.model = model.eval()
        self._device = model.stft.window.device
        self._tasks = [name for name in model.config.tasks if _task_streams(model, name)]
        self.reset()

    @property
    def latency_s(self) -> float:
        """Algorithmic latency: no sample of a voice depends on input that comes later after it than this.

        A sample that comes also waits for the others of its hop, which is half of this, and to be computed.
        """
        return latency_s(self.model)

    def reset(self) -> None:
        """Forget everything: what comes next is the start of another recording."""
        hop, talkers = self.model.stft.hop, self.model.config.talkers
        recent = torch.zeros(self.model.array.microphones, hop, device=self._device)
        self.state = StreamState(0, 0, recent, torch.zeros(talkers, hop, device=self._device), None)

    def push(self, chunk: npt.ArrayLike | Tensor) -> StreamResult:
        """Take the next samples ``(mic, time)``, of any length, at the model's sample rate; give what is final.

        Channels are in the array's order, full scale is 1; the chunk may be used again for other samples. Refuses one
        that is not of this array, not finite, or far beyond full scale.
        """
        given = chunk.detach() if isinstance(chunk, Tensor) else np.asarray(chunk)
        mics = self.model.array.microphones
        floats = given.is_floating_point() if isinstance(given, Tensor) else given.dtype.kind == "f"
        if given.ndim != 2 or len(given) != mics or not floats:
            raise MsdetError(
                f"chunk is {tuple(given.shape)} of {str(given.dtype).removeprefix('torch.')}, expected "
                f"floats (mic, time) of the {mics} microphones of '{self.model.array.name}'"
            )
        samples = _tensor(given, self._device)
        if not samples.isfinite().all():
            raise MsdetError("chunk holds NaN or infinite samples")
        if (samples.abs() > MAX_SAMPLE).any():
            raise MsdetError(f"chunk holds samples up to {samples.abs().max():.2g}, expected full scale 1")
        s = self.state
        self.state = replace(s, samples=s.samples + samples.shape[1], recent=torch.cat([s.recent, samples], dim=1))
        return self._joined(list(self._advance()))

    def finish(self) -> StreamResult:
        """What is left after the last chunk; then forget everything. All voices together are as long as what came."""
        s, hop = self.state, self.model.stft.hop
        if s.samples == 0:
            return self._joined([])
        self.state = replace(s, recent=torch.nn.functional.pad(s.recent, (0, -s.samples % hop + hop)))
        result = self._joined(list(self._advance()))
        self.reset()
        return result

    @torch.inference_mode()
    def _advance(self) -> Iterator[_Step]:
        """Work on all frames that are complete, some at a time."""
        stft = self.model.stft
        while (ready := self.state.recent.shape[1] // stft.hop - 1) > 0:
            s, frames = self.state, min(ready, FRAMES_AT_ONCE)
            windows = s.recent.unfold(1, stft.length, stft.hop)[:, :frames] * stft.window
            spectrum = torch.fft.rfft(windows)[None].transpose(2, 3)
            estimate, logits, predictions, parts = self._step(spectrum, s.parts)
            pieces = torch.fft.irfft(estimate[0].transpose(1, 2), stft.length) * stft.window
            first, second = pieces.split(stft.hop, dim=-1)
            before = torch.cat([s.overlap[:, None], second[:, :-1]], dim=1)
            voices = (first + before).flatten(1)
            if s.frames == 0:  # half of the first frame lies before the start
                voices = voices[:, stft.hop :]
            given = max(0, (s.frames - 1) * stft.hop)
            recent = s.recent[:, frames * stft.hop :].clone()
            self.state = StreamState(s.samples, s.frames + frames, recent, second[:, -1].clone(), parts)
            yield _Step(voices[:, : s.samples - given], logits, predictions)

    def _step(self, spectrum: Tensor, memory: State) -> tuple[Tensor, Tensor, dict[str, Tensor], State]:
        """The next frames ``(1, mic, freq, frame)`` through all parts.

        Gives estimates ``(1, talker, freq, frame)``, DoA logits and predictions of every frame, and the memory.
        """
        model = cast(Any, self.model)
        front, shared_before, doa, separation, tasks = memory or (None,) * 5
        observation, front = model.front_end.stream(spectrum, front)
        doa_after = []

        def localize(features: Tensor) -> Tensor:
            logits, kept = model.doa_head.stream(features, observation, doa)
            doa_after.append(kept)
            return cast(Tensor, logits)

        shared, shared_after = model.sharing.stream(observation.features, localize, shared_before)
        azimuths = shared.logits[..., : model.config.doa_classes]
        spectra, separation = model.separation_head.stream(shared.separation, observation, azimuths, separation)
        found, kept = {}, {}
        for name in self._tasks:
            before = tasks[name] if tasks else None
            found[name], kept[name] = model.task_head(name).stream(shared.doa, observation, before)
        parts = (front, shared_after, doa_after[0], separation, kept)
        return spectra[-1], shared.logits, found, parts

    def _joined(self, steps: list[_Step]) -> StreamResult:
        """What several steps found, as arrays."""
        c, stft = self.model.config, self.model.stft
        steps = steps or [self._nothing()]
        logits = torch.cat([step.logits for step in steps], dim=2)[0].float()
        found = {n: torch.cat([s.predictions[n] for s in steps], dim=2)[0].float() for n in self._tasks}
        classes = logits[..., : c.doa_classes]
        azimuth_deg, confidence = decode_azimuth(found.get("tracking", classes))
        activity = found.get("activity")
        last, frames = self.state.frames, logits.shape[1]
        return StreamResult(
            torch.cat([step.estimates for step in steps], dim=1).cpu().numpy(),
            np.arange(last - frames, last) * (stft.hop / self.model.sample_rate),
            azimuth_deg.cpu().numpy(),
            confidence.cpu().numpy(),
            slot_occupancy(logits, c.doa_classes).cpu().numpy(),
            None if activity is None else activity.sigmoid().cpu().numpy(),
            classes.cpu().numpy(),
        )

    def _nothing(self) -> _Step:
        c = self.model.config
        logits = torch.zeros(1, c.talkers, 0, c.doa_classes + c.variable_num_speakers)
        empty = {"activity": logits[..., 0], "tracking": logits[..., : c.doa_classes]}
        return _Step(torch.zeros(c.talkers, 0), logits, {name: empty[name] for name in self._tasks})


class _Step(NamedTuple):
    """Voices ``(talker, time)``, DoA logits ``(1, talker, frame, outputs)`` and what tasks predicted."""

    estimates: Tensor
    logits: Tensor
    predictions: dict[str, Tensor]


def _task_streams(model: JointModel, name: str) -> bool:
    """Whether a task is used on a stream: ``activity``, and ``tracking`` if it is causal."""
    return name == "activity" or (name == "tracking" and getattr(model.task_head(name), "causal", False))


def latency_s(model: JointModel) -> float:
    """Algorithmic latency of a causal model in seconds: the length of its STFT frame."""
    return model.stft.length / model.sample_rate


def why_not(model: JointModel) -> str | None:
    """Why a model cannot stream, in one line that names the part and what can; None where it can."""
    c, sharing = model.config, cast(Any, model.sharing)
    parts = (
        (FRONT_ENDS, c.front_end, "front_end", model.front_end),
        (SHARING_SCHEMES, c.sharing, "sharing", None),
        (ENCODERS, c.encoder, "encoder", sharing),
        (DOA_HEADS, c.doa_head, "doa", model.doa_head),
        (SEPARATION_HEADS, c.separation_head, "separation", model.separation_head),
    )
    return next((line for part in parts if (line := _obstacle(*part))), None)


def _obstacle(registry: Registry, name: str, settings: str, part: object) -> str | None:
    """Why a part, whose options begin with `settings`, keeps its model from streaming; None is causal if it can."""
    kind, factory = registry.kind, registry.find(name)
    streams = hasattr(factory, "stream")
    able = ", ".join(other for other in registry.names() if hasattr(registry.find(other), "stream"))
    if part is not None and not getattr(part, "causal", False):
        if streams and "causal" in inspect.signature(factory).parameters:
            return f"{kind} '{name}' is not causal; train with model.{settings}_options.causal true"
        return f"{kind} '{name}' is not causal; causal {kind}s: {able}"
    if streams:
        return None
    reason = "is not causal" if part is None else "is causal but has no method 'stream'"
    return f"{kind} '{name}' {reason}; {kind}s that can stream: {able}"


def _tensor(samples: Tensor | Array, device: torch.device) -> Tensor:
    """Samples as float32 on a device; an array may be read-only, of any strides and byte order."""
    if isinstance(samples, Tensor):
        return samples.to(device, torch.float32)
    with np.errstate(over="ignore"):  # doubles beyond float32 are infinite, which is refused
        return torch.from_numpy(np.array(samples, dtype=np.float32, order="C")).to(device)
