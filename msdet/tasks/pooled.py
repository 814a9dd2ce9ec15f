"""Tasks on features pooled by learned attention: of each slot's talker, and of the scene as a whole.

The option ``hidden`` of every head is the width of the features that it pools (`hidden_width`).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from msdet.dsp.streaming_state import State
from msdet.errors import MsdetError
from msdet.losses.doa import class_loss
from msdet.models.frontends import FrontEndOutput
from msdet.models.heads import TASKS, HeadSizes
from msdet.models.heads.separation import at_least_one
from msdet.tasks.labels import BatchLabels, LabeledLoss

THRESHOLD_DB = 40.0
"""A frame is speech if it is no further below the loudest one, as STOI counts frames (Taal et al. 2011)."""


def hidden_width(sizes: HeadSizes, hidden: int | None) -> int:
    """Width of the features that a head pools: as given, or that of its own, 32 at most."""
    return min(32, sizes.features) if hidden is None else at_least_one(hidden, "hidden")


def pool_and_classifier(
    sizes: HeadSizes, hidden: int | None, pools: int, outputs: int, joined: bool = False
) -> tuple[Pool, nn.Sequential]:
    """Pooled features, and two linear layers that give outputs from each pool, or from all of them joined."""
    width = hidden_width(sizes, hidden)
    pool = Pool(sizes, pools, width)
    features = pools * pool.features_out if joined else pool.features_out
    return pool, nn.Sequential(nn.Linear(features, 2 * width), nn.ReLU(), nn.Linear(2 * width, outputs))


class Pool(nn.Module):
    """Attentive statistics of bins (Okabe, Koshinaka and Shinoda, Interspeech 2018), a few times over.

    Each pool weighs all bins by an attention of its own, and gives the mean and the standard deviation of the
    embedded features, and their mean after a learned weight of each frequency: phase differences mean another
    direction at each frequency. A learned offset tells the pools apart. What one gives is three times `hidden` wide.
    """

    def __init__(self, sizes: HeadSizes, pools: int, hidden: int) -> None:
        super().__init__()
        freqs = sizes.geometry.steering.shape[1]
        self.features_out = 3 * hidden
        self.attention = nn.Linear(sizes.features, pools)
        self.embed = nn.Linear(sizes.features, hidden)
        self.frequency = nn.Parameter(torch.randn(freqs, hidden) * 0.1)
        self.offset = nn.Parameter(torch.randn(pools, self.features_out) * 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, freq, frame, feature)`` to ``(batch, pool, features_out)``."""
        shares = self.attention(features).flatten(1, 2).softmax(1).mT
        embedded = torch.relu(self.embed(features)).float()  # half precision loses small deviations
        placed = embedded * self.frequency[:, None]
        with torch.autocast(features.device.type, enabled=False):
            mean, square, somewhere = (shares.float() @ x.flatten(1, 2) for x in (embedded, embedded.square(), placed))
            deviation = ((square - mean.square()).clamp_min(0.0) + 1e-5).sqrt()
            pooled: Tensor = torch.cat([mean, deviation, somewhere], dim=-1) + self.offset
        return pooled

    def of_frames(self, features: Tensor) -> Tensor:
        """Each frame for itself: ``(batch, pool, frame, features_out)``."""
        batch, _, frames, _ = features.shape
        alone = features.transpose(1, 2).flatten(0, 1)[:, :, None]
        return cast(Tensor, self(alone).unflatten(0, (batch, frames)).transpose(1, 2))


class LogHead(nn.Module):
    """Natural logarithms of a quantity, from pooled features: of each slot, or one of the scene."""

    of_slots = True

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        self.pool, self.estimate = pool_and_classifier(sizes, hidden, sizes.talkers if self.of_slots else 1, 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logarithms ``(batch, slot)``, or ``(batch,)`` of scenes."""
        logarithms: Tensor = self.estimate(self.pool(features))[..., 0]
        return logarithms if self.of_slots else logarithms[:, 0]


def log_loss(prediction: Tensor, target: Tensor, known: Tensor) -> LabeledLoss:
    """Smooth L1 loss (Girshick 2015) of natural logarithms ``(batch, ...)`` against the quantity itself.

    The square of the error counts up to 0.2, about 20 percent, and beyond that its size. `known` says where it matters.
    """
    labeled = known & (target > 0.0)
    wanted = target.nan_to_num(1.0).clamp_min(1e-3).log()  # no quantity is smaller
    return LabeledLoss(smooth_l1_loss(prediction.float(), wanted, reduction="none", beta=0.2), labeled)


class ActivityHead(nn.Module):
    """One logit a slot and frame, from features pooled over frequency."""

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, frame)`` on the frames of the model's STFT."""
        logits: Tensor = self.classify(self.pool.of_frames(features))
        return logits[..., 0]

    def stream(self, features: Tensor, front_end: FrontEndOutput, state: State) -> tuple[Tensor, State]:
        """The next frames, each for itself."""
        return self(features, front_end), None


@TASKS.register("activity")
class ActivityTask:
    """Binary cross-entropy of speech in every slot and frame, where the references are known."""

    Head = ActivityHead
    NEEDS = "references"

    def __init__(self, threshold_db: float = THRESHOLD_DB) -> None:
        self.threshold_db = threshold_db

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot, frame)`` of logits of the same shape."""
        target = self.target(truth).float()
        value = binary_cross_entropy_with_logits(prediction.float(), target, reduction="none")
        return LabeledLoss(value, truth.referenced[:, None, None].expand_as(value))

    def target(self, truth: BatchLabels) -> Tensor:
        """Whether the slot's talker speaks, bool ``(batch, slot, frame)``; false of an empty slot."""
        return speech_activity(truth.references.spectrum, self.threshold_db) & truth.active[..., None]

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """F1 of speech over the frames of each talker, and the share of frames that are right in a slot."""
        estimated, wanted = prediction > 0.0, self.target(truth)
        both = (estimated & wanted).sum(-1)
        f1 = 2.0 * both / (estimated.sum(-1) + wanted.sum(-1))  # NaN without speech, estimated or true
        unknown = ~truth.referenced[:, None]
        return {
            "activity_f1": f1.masked_fill(unknown | ~truth.active, torch.nan),
            "activity_accuracy": (estimated == wanted).float().mean(-1).masked_fill(unknown, torch.nan),
        }


def speech_activity(spectrum: Tensor, threshold_db: float = THRESHOLD_DB) -> Tensor:
    """Frames ``(..., frame)`` of clean spectra ``(..., freq, frame)`` near the loudest one; none of silence."""
    energy = (spectrum.real.square() + spectrum.imag.square()).sum(-2)
    least = energy.amax(-1, keepdim=True) * 10.0 ** (-threshold_db / 10.0)
    return cast(Tensor, (energy >= least) & (energy > 0.0))


@TASKS.register("distance")
class DistanceTask:
    """Smooth L1 loss of the logarithm of meters, which the ratio of direct sound to reverberation follows."""

    Head = LogHead
    NEEDS = "distances"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.distance_m, truth.active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each talker, in meters and relative to the true distance."""
        distance_m = truth.distance_m.masked_fill(~truth.active, torch.nan)
        error_m = (prediction.float().exp() - distance_m).abs()
        return {"distance_error_m": error_m, "distance_error_percent": 100.0 * error_m / distance_m}


class ElevationHead(nn.Module):
    """A classifier on pooled features of arrays that tell up from down: a class every `width_deg` from -90 to 90."""

    def __init__(self, sizes: HeadSizes, width_deg: float = 10.0, hidden: int | None = None) -> None:
        super().__init__()
        domain = sizes.geometry.domain
        if domain.axis is not None:
            raise MsdetError(f"task 'elevation' needs microphones that span space; these resolve {domain.words}")
        steps = round(180.0 / width_deg) if width_deg > 0 else 0
        if steps < 1 or abs(steps * width_deg - 180.0) > 1e-6:
            raise ValueError(f"width_deg is {width_deg}, expected to divide 180")
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, steps + 1)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, slot, class)``."""
        return cast(Tensor, self.classify(self.pool(features)))


@TASKS.register("elevation")
class ElevationTask:
    """Cross-entropy of the nearest class, of talkers whose elevation is known."""

    Head = ElevationHead
    NEEDS = "directions"

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch, slot)`` of logits ``(batch, slot, class)``."""
        target = elevation_to_class(truth.elevation_deg.nan_to_num(0.0), prediction.shape[-1])
        return LabeledLoss(class_loss(prediction, target), truth.elevation_deg.isfinite() & truth.active)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each talker."""
        error = (decode_elevation(prediction)[0] - truth.elevation_deg).abs()
        return {"elevation_mae_deg": error.masked_fill(~truth.active, torch.nan)}


def elevation_to_class(elevation_deg: Tensor, classes: int) -> Tensor:
    """The class whose center is nearest; half-way, the upper one.

    >>> elevation_to_class(torch.tensor([-90.0, -85.1, -85.0, 0.0, 84.9, 90.0]), 19).tolist()
    [0, 0, 1, 9, 17, 18]
    """
    place = (elevation_deg + 90.0) * ((classes - 1) / 180.0)
    return (place + 0.5).floor().long().clamp(0, classes - 1)


def decode_elevation(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Elevation in degrees, a mean over the peak class and its neighbors, their probability, of ``(..., class)``."""
    posterior = logits.float().softmax(-1)
    classes = logits.shape[-1]
    index = torch.arange(classes, device=logits.device)
    nearby = (index - posterior.argmax(-1, keepdim=True)).abs() <= 1
    weight = posterior * nearby
    confidence = weight.sum(-1)
    return (weight * index).sum(-1) / confidence * (180.0 / (classes - 1)) - 90.0, confidence


class CountHead(nn.Module):
    """A classifier on features pooled once for each slot (counting by classes: Stöter et al., 2019)."""

    def __init__(self, sizes: HeadSizes, hidden: int | None = None) -> None:
        super().__init__()
        outputs = sizes.talkers + 1
        self.pool, self.classify = pool_and_classifier(sizes, hidden, sizes.talkers, outputs, joined=True)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, count)`` of no talker, one and so on to as many as there are slots."""
        return self.classify(self.pool(features).flatten(1))  # type: ignore[no-any-return]


@TASKS.register("count")
class CountTask:
    """Cross-entropy of the number of talkers, which every scene has."""

    Head = CountHead

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logits ``(batch, count)``."""
        count = truth.active.sum(-1)
        return LabeledLoss(class_loss(prediction, count), count >= 0)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Share of scenes whose count is right."""
        return {"count_accuracy": (prediction.argmax(-1) == truth.active.sum(-1)).float()}


class T60Head(LogHead):
    """Of seconds, for the scene."""

    of_slots = False


@TASKS.register("t60")
class T60Task:
    """Smooth L1 loss of the T60's logarithm; a scene without reverberation has no label."""

    Head = T60Head

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logarithms of the same shape."""
        return log_loss(prediction, truth.t60_s, truth.t60_s > 0.0)

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Absolute error of each scene."""
        return {"t60_error_s": (prediction.float().exp() - truth.t60_s).abs()}


class DomainHead(nn.Module):
    """A classifier on pooled features behind a layer that reverses the gradient.

    It learns to tell rooms or corpora apart, and the shared features learn to hide them (Ganin and Lempitsky,
    "Unsupervised domain adaptation by backpropagation", ICML 2015). Domains that agree modulo `domains` count as one;
    `strength` is the factor of the reversed gradient (λ there).
    """

    def __init__(self, sizes: HeadSizes, domains: int = 16, strength: float = 1.0, hidden: int | None = None) -> None:
        super().__init__()
        if domains < 2:
            raise ValueError(f"domains is {domains}, expected at least 2")
        if not 0.0 <= strength < math.inf:
            raise ValueError(f"strength is {strength}, expected 0 or more")
        self.strength = strength
        self.pool, self.classify = pool_and_classifier(sizes, hidden, 1, domains)

    def forward(self, features: Tensor, front_end: FrontEndOutput) -> Tensor:
        """Logits ``(batch, domain)``."""
        logits: Tensor = self.classify(self.pool(reverse_gradient(features, self.strength)))
        return logits[:, 0]


@TASKS.register("domain")
class DomainTask:
    """Cross-entropy of the domain, where it is known.

    A shared encoder has succeeded where the accuracy is that of guessing, on domains that training saw.
    """

    Head = DomainHead

    def loss(self, prediction: Tensor, truth: BatchLabels) -> LabeledLoss:
        """Loss ``(batch,)`` of logits ``(batch, domain)``."""
        return LabeledLoss(class_loss(prediction, self.target(prediction, truth)), truth.domain >= 0)

    def target(self, prediction: Tensor, truth: BatchLabels) -> Tensor:
        """Class ``(batch,)`` of each scene; any class where the domain is not known."""
        return truth.domain.clamp_min(0) % prediction.shape[-1]

    def scores(self, prediction: Tensor, truth: BatchLabels) -> dict[str, Tensor]:
        """Share of scenes whose domain is right."""
        right = (prediction.argmax(-1) == self.target(prediction, truth)).float()
        return {"domain_accuracy": right.masked_fill(truth.domain < 0, torch.nan)}


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """The same values; the gradient comes back times ``-strength``.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(3.0 * x, 0.5).sum().backward()
    >>> x.grad.tolist()
    [-1.5, -1.5]
    """
    fixed = x.detach()
    return fixed - strength * (x - fixed)
