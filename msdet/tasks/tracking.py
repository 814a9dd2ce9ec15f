"""Tracking: the azimuth of each slot's talker in every frame, for talkers who move."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from msdet.conventions import wrap_signed_deg
from msdet.dsp.spatial import decode_azimuth, frame_response, full_precision, phase_normalize, wrap_azimuth
from msdet.dsp.streaming_state import State, with_past
from msdet.models.encoders.layers import run_rnn
from msdet.models.frontends import FrontEndOutput, running_rms_normalize
from msdet.models.heads import TASKS, HeadSizes
from msdet.models.heads.doa import bin_weights
from msdet.scenes.room_geometry import TRACK_STEP_S
from msdet.tasks.labels import BatchLabels, LabeledLoss
from msdet.tasks.pooled import Pool, hidden_width, speech_activity

TIME_CONSTANTS = (1.0, 4.0, 12.0)
"""In frames, that the averages of the steered response start from."""

REACH = 32
"""Frames after which an average forgets altogether."""


class TrackingHead(nn.Module):
    """Steered responses of each slot's bins, averaged over short times, and a network that follows the peak.

    Each slot's mask weighs the bins of a frame. Their steered response is averaged with several learned time
    constants, which is the response of as many recursively averaged covariances (the response is linear in
    the covariance) without forming them, and sharpened by convolutions over azimuth and time. It is computed
    for every second class, which is half the cost and finer than its lobes. A recurrent layer over features
    pooled over frequency, as wide as these, adds what the features know. If causal, no frame sees a later one.
    """

    def __init__(self, sizes: HeadSizes, hidden: int | None = None, channels: int = 16, causal: bool = False) -> None:
        super().__init__()
        width = hidden_width(sizes, hidden)
        self.geometry = sizes.geometry
        self.causal = causal
        self.mask = nn.Linear(sizes.features, 2 * sizes.talkers)
        self.frequency = nn.Parameter(torch.zeros(sizes.geometry.steering.shape[1]))
        self.log_memory = nn.Parameter(torch.tensor(TIME_CONSTANTS).log())
        self.trust = nn.Parameter(torch.ones(len(TIME_CONSTANTS)))
        self.sharpen = nn.ModuleList([nn.Conv2d(len(TIME_CONSTANTS), channels, (3, 5)), nn.Conv2d(channels, 1, (3, 5))])
        self.pool = Pool(sizes, sizes.talkers, width)
        self.recur = nn.GRU(self.pool.features_out, width, batch_first=True, bidirectional=not causal)
        self.classify = nn.Linear(width * (1 if causal else 2), sizes.classes)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, frame, class)`` on the frames of the model's STFT."""
        if self.causal:
            return self.stream(features, front_end, None)[0]
        response = self._response(features, front_end.spectrum, front_end.spectrum)
        averaged = running_averages(response.flatten(0, 1), self.log_memory.exp(), causal=False)
        z = _standardized(averaged)
        x = torch.relu(self._convolve(0, nn.functional.pad(z, (0, 0, 1, 1))))
        sharpened = self._convolve(1, nn.functional.pad(x, (0, 0, 1, 1)))
        known = run_rnn(self.recur, self.pool.of_frames(features).flatten(0, 1))[0]
        return self._logits(z, sharpened, known).view_as(response)

    def stream(self, features: Tensor, front_end: FrontEndOutput, state: State) -> tuple[Tensor, State]:
        """Logits ``(batch, slot, frame, class)`` of the next frames, of a causal head."""
        levels, responses, first, second, hidden = state or (None,) * 5
        seen, _, levels = running_rms_normalize(front_end.spectrum, self.geometry.reference, state=levels)
        response = self._response(features, front_end.spectrum, seen)
        joined, responses = with_past(response.flatten(0, 1), REACH, 1, responses)
        z = _standardized(running_averages(joined, self.log_memory.exp(), causal=True)[:, :, REACH:])
        joined, first = with_past(z, 2, 2, first)
        joined, second = with_past(torch.relu(self._convolve(0, joined)), 2, 2, second)
        sharpened = self._convolve(1, joined)
        known, hidden = run_rnn(self.recur, self.pool.of_frames(features).flatten(0, 1), hidden)
        logits = self._logits(z, sharpened, known).view_as(response)
        return logits, (levels, responses, first, second, hidden)

    def _response(self, features: Tensor, spectrum: Tensor, seen: Tensor) -> Tensor:
        """Steered response ``(batch, slot, frame, class)`` of each slot's bins, by the level seen."""
        weights = bin_weights(self.mask(features), seen[:, self.geometry.reference], self.frequency)
        coarse = frame_response(phase_normalize(spectrum), weights, self.geometry.steering[::2])
        return between_neighbors(coarse, self.classify.out_features)

    def _logits(self, z: Tensor, sharpened: Tensor, known: Tensor) -> Tensor:
        """``(batch and slot, frame, class)`` from standardized responses, these sharpened, and features."""
        there = (self.trust[:, None, None] * z).mean(1) + sharpened[:, 0]
        return cast(Tensor, there + self.classify(known))

    def _convolve(self, layer: int, x: Tensor) -> Tensor:
        """A convolution around the circle and over time: ``(batch, channel, frame, class)``, 2 frames off."""
        return cast(Tensor, self.sharpen[layer](nn.functional.pad(x, (2, 2, 0, 0), mode="circular")))


def _standardized(response: Tensor) -> Tensor:
    spread = response.std(-1, keepdim=True).clamp_min(1e-6)
    return (response - response.mean(-1, keepdim=True)) / spread


def between_neighbors(coarse: Tensor, classes: int) -> Tensor:
    """All classes ``(..., class)`` of a circle from every second one.

    The others are means of their neighbors.

    >>> between_neighbors(torch.tensor([1.0, 2.0, 5.0]), 6).tolist()
    [1.0, 1.5, 2.0, 3.5, 5.0, 3.0]
    >>> between_neighbors(torch.tensor([1.0, 2.0, 5.0]), 5).tolist()
    [1.0, 1.5, 2.0, 3.5, 5.0]
    """
    means = (coarse + coarse.roll(-1, -1)) / 2
    return torch.stack([coarse, means], dim=-1).flatten(-2)[..., :classes]


@full_precision
def running_averages(response: Tensor, time_constants: Tensor, causal: bool) -> Tensor:
    """Averages ``(batch, time constant, frame, direction)`` of past frames, unless causal of later ones, too."""
    batch, frames, directions = response.shape
    age = torch.arange(-REACH, 1 if causal else REACH + 1, device=response.device).abs()
    kernels = (-age / time_constants[:, None]).softmax(-1)
    by_time = response.transpose(1, 2).reshape(batch * directions, 1, frames)
    padded = nn.functional.pad(by_time, (REACH, 0 if causal else REACH))
    averaged = nn.functional.conv1d(padded, kernels[:, None])
    return averaged.view(batch, directions, len(time_constants), frames).permute(0, 2, 3, 1)


@TASKS.register("tracking")
class TrackingTask:
    """Cross-entropy of the azimuth in every frame in which the talker is there and, where known, speaks.

    The target shares its weight between the classes next to the azimuth: the posterior of who walks moves evenly.
    """

    Head = TrackingHead
    NEEDS = "directions"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot, frame)`` of logits ``(batch, slot, frame, class)``."""
        track_deg = frame_track_deg(truth, prediction.shape[2])
        classes = prediction.shape[-1]
        place = track_deg.nan_to_num(0.0) * (classes / 360.0)
        lower = place.floor()
        share = place - lower
        log_posterior = prediction.float().log_softmax(-1)
        below, above = (log_posterior.gather(-1, ((lower.long() + k) % classes)[..., None])[..., 0] for k in (0, 1))
        return LabeledLoss(-(1.0 - share) * below - share * above, self.known(track_deg, truth))

    def known(self, track_deg: Tensor, truth: BatchLabels) -> Tensor:
        """Frames ``(batch, slot, frame)`` that count."""
        speaks = speech_activity(truth.references.spectrum) | ~truth.referenced[:, None, None]
        return track_deg.isfinite() & truth.active[..., None] & speaks

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Azimuth error in each frame that counts, and whether it is within 10 degrees."""
        track_deg = frame_track_deg(truth, prediction.shape[2])
        error = wrap_signed_deg(decode_azimuth(prediction)[0] - track_deg)
        error = error.abs().masked_fill(~self.known(track_deg, truth), torch.nan)
        within = (error <= 10.0).float().masked_fill(error.isnan(), torch.nan)
        return {"track_mae_deg": error, "track_accuracy_10deg": within}


def frame_track_deg(truth: BatchLabels, frames: int) -> Tensor:
    """Azimuths ``(batch, slot, frame)``, [0, 360), between labels and after the last one; NaN where not known."""
    track_deg = truth.track_deg
    labels, samples = track_deg.shape[-1], truth.mixture.shape[-1]
    hop = truth.references.spectrum.shape[-2] - 1
    # without a sample rate the last label is at the end, which it is after a whole number of steps
    step = samples / max(labels - 1, 1) if truth.sample_rate is None else truth.sample_rate * TRACK_STEP_S
    place = (torch.arange(frames, device=track_deg.device) * (hop / step)).clamp_max(labels - 1)
    before = place.floor().long()
    after = (before + 1).clamp_max(labels - 1)
    start = track_deg[..., before]
    turn = wrap_signed_deg(track_deg[..., after] - start)
    return wrap_azimuth(start + (place - before) * turn)


def decode_track(
    logits: Tensor, speech: Tensor | None = None, time_constant: float = 4.0, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Azimuth in degrees and confidence of each frame, ``(batch, slot, frame)``.

    A talker who is silent cannot be located, and the posterior ``(batch, slot, frame, class)`` may be sure of another
    one. Given `speech`, the probability ``(batch, slot, frame)`` that the talker speaks, a frame takes the mean of the
    directions around it, or if causal of those before, weighted by that and by age with a time constant in frames,
    which bridges pauses; the confidence falls with it.
    """
    azimuth_deg, confidence = decode_azimuth(logits)
    if speech is None:
        return azimuth_deg, confidence
    angle_rad = torch.deg2rad(azimuth_deg)
    pointer = speech[..., None] * torch.stack([angle_rad.cos(), angle_rad.sin()], dim=-1)
    constant = torch.tensor([time_constant], device=logits.device)
    mean = running_averages(pointer.flatten(0, 1), constant, causal)[:, 0].unflatten(0, logits.shape[:2])
    bridged = wrap_azimuth(torch.rad2deg(torch.atan2(mean[..., 1], mean[..., 0])))
    return torch.where(mean.norm(dim=-1) > 1e-6, bridged, azimuth_deg), confidence * speech
