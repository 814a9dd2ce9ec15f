"""A recording of any length to voices and directions, in memory that does not grow with it.

A recording is scanned once, then separated block by block (`msdet.inference.blocks`), and the blocks are
joined (`msdet.inference.stitching`): `prepare`, then `OfflineSeparation.pieces` and `talkers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.arrays.recorded import choose
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.inference.blocks import Block, BlockOptions, Grid, cut
from msdet.inference.sources import RecordingSource, Scan, prepared, scan
from msdet.inference.stitching import Stitcher
from msdet.inference.talker_count import TalkerCount
from msdet.inference.tracking import FrameLog, talkers_by_azimuth
from msdet.inference.training_range import TrainingRange, at_temperature
from msdet.methods.base import Separation, Separator

_SILENCE = 1e-6  # level of the noise that digital silence is replaced by, 120 dB below full scale


@dataclass(frozen=True)
class RecordingSystem:
    """What separates the blocks of a recording, into at most so many slots; its name is for people.

    `training` is what a model learned from, None if not known. `counts` says that it finds the number of talkers.
    """

    separator: Separator
    array: MicrophoneArray
    sample_rate: int
    slots: int
    name: str
    training: TrainingRange | None = None
    counts: bool = True


@dataclass(frozen=True)
class SystemFactory:
    """A model or a method, for recordings of any rate and with any of its microphones dead.

    `make` gives the system for an array and a recording's sample rate; it raises `MsdetError` if it cannot serve them.
    `assumed` says that nobody named the array, which is the one that the model was trained on; `channels` of recordings
    are the array's (`msdet.arrays.recorded.choose`).
    """

    array: MicrophoneArray
    make: Callable[[MicrophoneArray, int], RecordingSystem]
    assumed: bool = False
    channels: Sequence[int] | None = None


def prepare(factory: SystemFactory, source: RecordingSource, options: BlockOptions) -> OfflineSeparation:
    """Scan a recording, and make the system for it; refuses one that is not of the array, or too short, or silent."""
    chosen = choose(source.name, source.channels, factory.array, factory.channels)
    if factory.assumed and chosen.array is not factory.array:
        size = f"{len(chosen.numbers)} channels are chosen, the array '{factory.array.name}' has"
        raise MsdetError(f"{source.name}: {size} {factory.array.microphones}; give the array of those channels")
    if chosen.words:
        source = source.taking(chosen.numbers)
    system = factory.make(chosen.array, source.sample_rate)
    scanned = scan(source, chosen.array, system.sample_rate)
    if scanned.left_out:
        system, scanned = _without(factory, system, scanned, source)
    warnings = []
    if system.training is not None and (far := system.training.compare(chosen.array, scanned.levels)[0]):
        warnings.append(f"far from what {system.name} learned from: {'; '.join(far)}; confidences are lowered")
    shorter = options.fitting(chosen.array.microphones * system.sample_rate)
    if shorter != options:
        size = f"{chosen.array.microphones} microphones at {system.sample_rate} Hz"
        warnings.append(f"blocks of {shorter.block_s:g} s instead of {options.block_s:g} s, for memory ({size})")
    told = tuple(f"{source.name}: {warning}" for warning in warnings)
    scanned = dataclasses.replace(scanned, warnings=(*scanned.warnings, *told))
    return OfflineSeparation(system, source, scanned, shorter, chosen.words)


class OfflineSeparation:
    """Goes through a recording once: `pieces` gives what is final, then `talkers` who was found."""

    def __init__(
        self, system: RecordingSystem, source: RecordingSource, scanned: Scan, options: BlockOptions, taken: str = ""
    ) -> None:
        self.system, self.source, self.scan, self.options = system, source, scanned, options
        self.taken = taken  # which channels of the recording, in words, if not all as they are
        self._grid = Grid.of(options, system.sample_rate)
        reference = system.array.reference
        self._stitcher = Stitcher(system.slots, options, system.sample_rate, scanned.levels, reference)
        self._frames = FrameLog(4, system.slots)
        checked = not system.counts and system.array.resolvable_domain.azimuth_span_deg == 360
        self._count = TalkerCount(system.array, scanned.left_out, system.sample_rate) if checked else None
        self._whole = self._directional = False

    def pieces(self) -> Iterator[Separation]:
        """What is final, from start to end: estimates, tracks and activity of each slot."""
        mixture = prepared(self.source, self.scan, self.system.sample_rate, self.options.highpass_hz)
        for block in cut(mixture, self._grid):
            separation = self.system.separator(self._audible(block))
            piece = self._stitcher.push(block, separation)
            self._whole = block.whole
            self._directional |= separation.azimuth_deg is not None
            if self._count is not None:
                self._count.add(block.mixture, separation.azimuth_deg)
            rows = (piece.track_deg, piece.track_confidence, piece.track_elevation_deg, piece.activity)
            self._frames.append(np.stack([row for row in rows if row is not None]))
            yield piece

    def talkers(self) -> tuple[Array, Separation]:
        """After the last piece: slots ``(talker,)`` ascending in azimuth, and the talkers in that order.

        Their estimates are those slots of the pieces.
        """
        frame_s = self._grid.frame / self.system.sample_rate
        stitched = self._stitcher
        slots, talkers = talkers_by_azimuth(
            stitched.overall, stitched.filled, self._frames, frame_s, self.scan.warnings
        )
        training = self.system.training
        temperature = 1.0 if training is None else training.compare(self.system.array, self.scan.levels)[1]
        return slots, at_temperature(self._with_doubts(talkers), temperature)

    def _with_doubts(self, talkers: Separation) -> Separation:
        """The same, with warnings of what speaks against them."""
        doubts = []
        if talkers.azimuth_deg is None and self._directional:
            talkers = dataclasses.replace(talkers, azimuth_deg=np.full(talkers.count, np.nan))
            doubts.append("nobody is found to speak")
        if self._count is not None and talkers.azimuth_deg is not None:
            doubts += filter(None, [self._count.contradiction(talkers.azimuth_deg, self._whole)])
        told = tuple(f"{self.source.name}: {doubt}" for doubt in doubts)
        return dataclasses.replace(talkers, warnings=(*talkers.warnings, *told))

    def _audible(self, block: Block) -> Array:
        """The mixture of a block; digital silence, to which some methods have no answer, as faint noise."""
        if block.mixture[self.system.array.reference].any():
            return block.mixture
        noise = np.random.default_rng(0).standard_normal(block.mixture.shape, dtype=np.float32)
        return np.asarray(block.mixture + np.float32(_SILENCE) * noise)


def _without(
    factory: SystemFactory, system: RecordingSystem, scanned: Scan, source: RecordingSource
) -> tuple[RecordingSystem, Scan]:
    """The system made for the microphones that are as they should be if it can be; otherwise a warning more.

    A silent channel spoils every beam, fewer microphones hardly do: on simulated conversations with one of six channels
    silent, left in, it cost both `srp_beam` and a trained model 6 to 11 dB of SI-SDR; left out, 0.4 dB.
    """
    array, name, numbers = system.array, source.name, source.numbers
    alive = [m for m in range(array.microphones) if m not in scanned.left_out]

    def warned(warning: str) -> Scan:
        return dataclasses.replace(scanned, warnings=(*scanned.warnings, f"{name}: {warning}"))

    try:
        smaller = dataclasses.replace(array.of(alive), reference=alive.index(scanned.reference))
        fewer = factory.make(smaller, scanned.sample_rate)
    except (MsdetError, ValueError) as error:
        if array.reference in scanned.dead:
            reference = f"the reference microphone (channel {numbers[array.reference]}) is dead"
            raise MsdetError(f"{name}: {reference}, and no other can stand in ({error})") from error
        which = "dead channels" if len(scanned.dead) == len(scanned.left_out) else "channels"
        return system, warned(f"the {which} are used all the same, expect much worse voices ({error})")

    def separate(mixture: Array) -> Separation:
        return fewer.separator(mixture[alive])

    if scanned.faults or scanned.reference != array.reference:
        kept = f"goes on with channels {', '.join(str(numbers[m]) for m in alive)} alone"
        kept += f", voices as at channel {numbers[scanned.reference]}"
        if smaller.resolvable_domain.words != array.resolvable_domain.words:
            kept += f", which tell apart {smaller.resolvable_domain.words}"
        scanned = warned(kept)
    there = dataclasses.replace(array, reference=scanned.reference)
    return dataclasses.replace(fewer, separator=separate, array=there), scanned
