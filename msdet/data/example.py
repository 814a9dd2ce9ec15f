"""One training or validation example: a mixture and its labels, in the talkers' own order, and which it has.

A task learns from the examples that are labeled for it (`msdet.tasks.labels.LabeledLoss`): recordings whose
directions were measured have no clean speech, corpora for separation often have no geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NotRequired, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.scenes.room_geometry import TRACK_STEP_S
from msdet.scenes.scene import Scene


class Example(TypedDict):
    """One mixture and its labels, padded to the model's slots; a batch has one more axis in front.

    What is not known is NaN. ``mixture (mic, time)``; ``references (slot, time)``, zero in an empty slot, and where
    ``referenced ()`` says that they are not known; ``active (slot,)``, whether there is a talker; ``azimuth_deg``,
    ``elevation_deg`` and ``distance_m (slot,)``; ``track_deg (slot, label)``, azimuths at times 0, 0.1, 0.2 s and so
    on; ``t60_s ()``; ``domain ()``, number of the room or set, -1 if not known; ``item ()``, its number in the data;
    ``array ()``, number of the array that it was recorded with, where there are several. A batch may say that it is
    ``complete``: see `is_complete`. Where it is to be mixed on the training device, ``dry`` has what it is mixed from,
    and mixture and references are empty until then (`msdet.data.device_mixing`).
    """

    mixture: Tensor
    references: Tensor
    referenced: Tensor
    active: Tensor
    azimuth_deg: Tensor
    elevation_deg: Tensor
    distance_m: Tensor
    track_deg: Tensor
    t60_s: Tensor
    domain: Tensor
    item: Tensor
    array: Tensor
    complete: NotRequired[bool]
    dry: NotRequired[dict[str, Tensor]]


def is_complete(batch: Example) -> bool:
    """Whether references, azimuths and distances of all talkers are known; asked before a batch goes to a device."""
    placed = batch["azimuth_deg"].isfinite() & batch["distance_m"].isfinite()
    return bool(batch["referenced"].all() and (placed | ~batch["active"]).all())


class TalkerPosition(NamedTuple):
    """Where a talker is, NaN where not known; `track_deg` are the azimuths of one who moves."""

    azimuth_deg: float
    elevation_deg: float
    distance_m: float
    track_deg: Array | None = None


def make_example(
    mixture: Array,
    references: Array | None,
    places: Sequence[TalkerPosition],
    slots: int,
    sample_rate: int,
    t60_s: float | None,
    domain: int,
    item: int,
) -> Example:
    """An example, padded to a number of slots, at least one a talker.

    The mixture is ``(mic, time)``, references are ``(talker, time)``; `domain` is the number of the room, or -1,
    `item` that of the example in the data.
    """
    samples, talkers = mixture.shape[-1], len(places)
    labels = int(samples / sample_rate / TRACK_STEP_S + 1e-9) + 1
    padded = np.zeros((slots, samples), np.float32)
    if references is not None:
        padded[:talkers] = references
    placed = np.full((slots, 3), np.nan, np.float32)
    tracks = np.full((slots, labels), np.nan, np.float32)
    for slot, place in enumerate(places):
        placed[slot] = place.azimuth_deg, place.elevation_deg, place.distance_m
        tracks[slot] = place.azimuth_deg
        if place.track_deg is not None:  # labels may end with the last whole step
            tracks[slot] = place.track_deg[np.minimum(np.arange(labels), len(place.track_deg) - 1)]
    return Example(
        mixture=torch.from_numpy(np.ascontiguousarray(mixture, dtype=np.float32)),
        references=torch.from_numpy(padded),
        referenced=torch.tensor(references is not None),
        active=torch.arange(slots) < talkers,
        azimuth_deg=torch.from_numpy(placed[:, 0].copy()),
        elevation_deg=torch.from_numpy(placed[:, 1].copy()),
        distance_m=torch.from_numpy(placed[:, 2].copy()),
        track_deg=torch.from_numpy(tracks),
        t60_s=torch.tensor(np.nan if t60_s is None else t60_s, dtype=torch.float32),
        domain=torch.tensor(domain),
        item=torch.tensor(item),
        array=torch.tensor(0),
    )


def example_of(
    scene: Scene, mixture: Array, references: Array | None, slots: int, item: int, array: MicrophoneArray
) -> Example:
    """`make_example` with a scene's labels, directions as the array can tell them; its room in a bank is the domain."""
    places = []
    for source in scene.sources:
        azimuth_deg, elevation_deg = array.resolved(np.array(source.azimuth_deg), np.array(source.elevation_deg))
        track = None
        if source.track:
            azimuths_deg = np.array([d.azimuth_deg for d in source.track])
            track = array.resolved(azimuths_deg, np.array([d.elevation_deg for d in source.track]))[0]
        places.append(TalkerPosition(float(azimuth_deg), float(elevation_deg), source.distance_m, track))
    domain = -1 if scene.rir_room is None else scene.rir_room
    return make_example(mixture, references, places, slots, scene.sample_rate, scene.t60_s, domain, item)


class LabelAvailability(NamedTuple):
    """Whether an example has references, and whether it is known where its talkers are."""

    referenced: bool
    located: bool


FULLY = LabelAvailability(True, True)
# references and directions, references alone, directions alone, neither
KINDS = (FULLY, *(LabelAvailability(*kind) for kind in ((True, False), (False, True), (False, False))))


class LabeledData(Protocol):
    """Examples of which it is known before they are read or mixed which labels they have."""

    @property
    def population(self) -> int | None:
        """Number of examples; None where there is no end of them."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Example `index`."""
        ...

    def labeling(self, index: int) -> LabelAvailability:
        """Which labels example `index` has."""
        ...
