"""What is known about a batch, in the order of the model's output slots."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msdet.conventions import wrap_signed_deg
from msdet.data.example import Example
from msdet.dsp.stft import Signals, Stft

STILL_DEG = 5.0
"""Who moves less stands still."""


class BatchLabels(NamedTuple):
    """Labels of a batch; what is not known is NaN.

    Attributes:
        references: of each slot, ``(batch, slot)`` signals at unit mixture level; zero of an empty slot.
        mixture: at the reference microphone at unit level, ``(batch, time)``.
        referenced: bool ``(batch,)``, whether the references are known.
        active: bool ``(batch, slot)``, whether there is a talker.
        azimuth_deg: ``(batch, slot)``, [0, 360).
        elevation_deg: ``(batch, slot)``.
        distance_m: ``(batch, slot)``.
        track_deg: azimuths ``(batch, slot, label)`` at times 0, 0.1, 0.2 s and so on.
        t60_s: ``(batch,)``.
        domain: number of the room or corpus, int ``(batch,)``; -1 where it is not known.
        sample_rate: hertz, if known.
        complete: whether the host knows that references, azimuths and distances of all talkers are known.
    """

    references: Signals
    mixture: Tensor
    referenced: Tensor
    active: Tensor
    azimuth_deg: Tensor
    elevation_deg: Tensor
    distance_m: Tensor
    track_deg: Tensor
    t60_s: Tensor
    domain: Tensor
    sample_rate: int | None = None
    complete: bool = False

    def in_slots(self, assignment: Tensor) -> BatchLabels:
        """The labels in the order of slots, given the reference ``(batch, slot)`` that each answers for."""
        rows = torch.arange(len(assignment), device=assignment.device)[:, None]
        of_slots = ("references", "active", "azimuth_deg", "elevation_deg", "distance_m", "track_deg")
        return self._replace(**{name: getattr(self, name)[rows, assignment] for name in of_slots})


def batch_labels(
    batch: Example, stft: Stft, reference: int, level: Tensor, sample_rate: int | None = None
) -> BatchLabels:
    """Labels of a batch, in the talkers' own order.

    `level` is the RMS ``(batch, 1, 1)`` of the mixtures at the microphone `reference`; the sample rate in hertz says at
    which frames the labels of moving talkers are.
    """
    waveforms = batch["references"] / level
    references = Signals(stft(waveforms), partial(stft.inverse, samples=waveforms.shape[-1]), waveforms)
    mixture = batch["mixture"][:, reference] / level[:, 0]
    as_they_are: dict[str, Any] = {name: batch[name] for name in BatchLabels._fields[2:-2]}  # type: ignore[literal-required]
    return BatchLabels(
        references, mixture, **as_they_are, sample_rate=sample_rate, complete=batch.get("complete", False)
    )


def located(truth: BatchLabels) -> Tensor:
    """Whether the azimuths of all talkers of a scene are known, ``(batch,)``."""
    return (truth.azimuth_deg.isfinite() | ~truth.active).all(-1)


def walks(truth: BatchLabels) -> Tensor:
    """Whether a talker moves, so that no single direction is right for it, ``(batch, slot)``."""
    moved_deg = wrap_signed_deg(truth.track_deg - truth.track_deg[..., :1]).abs()
    return (moved_deg > STILL_DEG).any(-1)


class LabeledLoss(NamedTuple):
    """A loss ``(batch, ...)`` of examples or slots, finite, and which of them have a label."""

    value: Tensor
    known: Tensor

    def mean(self) -> Tensor:
        """Mean over what is labeled; zero, with no gradient, where nothing is."""
        return self.masked().sum() / self.known.sum().clamp_min(1)

    def masked(self) -> Tensor:
        """The loss, zero where nothing is labeled."""
        return torch.where(self.known, self.value, 0.0)
