"""Measured rooms: a collection of room impulse responses becomes an RIR bank.

A collection is a folder with ``positions.tsv`` and audio files (`msdet.scenes.rir.collection`), a SOFA
file, or a folder of SOFA files (`msdet.scenes.rir.sofa`). Measured responses have a delay of the equipment,
the same at all microphones, and no separate direct path. So all microphones of a position are moved
together, by whole samples, to the mean arrival that the noted distance gives; the direct path, from which
references are made, is the response in a window around the arrival. A high-pass is in the responses already.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray, load_array
from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import settings_hash
from msdet.io.jobs import ALL, Job, Progress, Shard, Workers, begin_run_dir, run_jobs
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.agreement import disagreements, expected_arrivals_s
from msdet.scenes.rir.bank import HEADER, BankRoom, RirBank, finish_bank, room_path, write_room
from msdet.scenes.rir.collection import TABLE, Measurement, read_table
from msdet.scenes.rir.reverberation import INAUDIBLE_DB, measured_t60_s
from msdet.scenes.rir.room_response import RoomResponse, stack_padded
from msdet.scenes.rir.sofa import read_responses, read_sofa_files
from msdet.scenes.scene import scene_seed

LEAD_S = 0.02  # silence before a response: it may start at once, and resampling needs some time before
MIN_RESPONSE_S = 0.02  # the direct sound alone takes some milliseconds
TAIL_BLOCK_S = 0.01
NOISE_SHARE = 0.1  # the last part of a response that tells how strong its noise is, if it lasts until then

log = logging.getLogger(__name__)


def make_measured_bank(
    out: str | Path,
    source: str | Path,
    array: str | None,
    sample_rate: int,
    positions: int,
    jobs: Workers,
    progress: Progress | None = None,
    share: Shard = ALL,
    channels: Sequence[int] | None = None,
) -> RirBank | None:
    """Make a bank of measured rooms, or finish one that a killed run left; None after a part of it.

    The source is a folder with ``positions.tsv`` or SOFA files, or a SOFA file, from which the array is taken if None
    is given. A `sample_rate` of 0 is the lowest of the responses. A room of the bank has so many `positions`; 0 is for
    as many as the smallest measured room has, but two if others have. Larger rooms become several rooms of the bank,
    what is left over is left out. `share` is the part of the rooms to make; a run for all of them finishes the bank. A
    warning is logged of positions left out, and of those that disagree with the sound (`label_problems`).
    """
    out, source = Path(out), Path(source)
    if sample_rate:
        SceneDistribution(sample_rate=sample_rate).check()
    microphones, measurements = read_collection(source, array, sample_rate, channels)
    sample_rate = sample_rate or int(min(measurement.sample_rate for measurement in measurements))
    SceneDistribution(sample_rate=sample_rate).check()
    rooms = divide_rooms(measurements, positions, source)
    settings: dict[str, Any] = {
        "array": microphones.to_dict(),
        "sample_rate": sample_rate,
        "rooms": len(rooms),
        "positions": len(rooms[0]),
        "measured": settings_hash([_identity(m) for m in measurements]),
    }
    unfinished = begin_run_dir(out, settings, HEADER, share)
    todo = [index for index in share.of(range(len(rooms))) if not room_path(out, index).exists()]
    work = [Job(_write_room, (room_path(out, index), rooms[index], microphones, sample_rate)) for index in todo]
    run_jobs(work, jobs, progress, done=len(share.of(range(len(rooms)))) - len(todo))
    if share != ALL:
        return None
    bank = finish_bank(out, settings) if unfinished else RirBank.open(out)
    for problem in label_problems(bank, [[m.name for m in room] for room in rooms]):
        log.warning("%s: %s", source, problem)
    return bank


def read_collection(
    source: Path, array: str | None, sample_rate: int, channels: Sequence[int] | None = None
) -> tuple[MicrophoneArray, list[Measurement]]:
    """The array and all measurements of a collection, without their responses; of files, `channels` may be chosen."""
    microphones = load_array(array) if array else None
    if (source / TABLE).is_file():
        if microphones is None:
            raise MsdetError(f"{source / TABLE}: give the array of the recordings by --array")
        return read_table(source, microphones, sample_rate, channels)
    if channels is not None:
        raise MsdetError(f"{source}: --channels is for a folder with {TABLE}; SOFA files know their microphones")
    paths = [source] if source.is_file() else source.rglob("*")
    files = sorted(path for path in paths if path.suffix.lower() == ".sofa")
    if not files:
        problem = "no such file or folder" if not source.exists() else "holds no measured responses"
        raise MsdetError(f"{source}: {problem}, expected a folder with {TABLE} or with .sofa files, or a .sofa file")
    root = source.parent if source.is_file() else source
    return read_sofa_files(files, root, microphones, sample_rate)


def divide_rooms(measurements: Sequence[Measurement], positions: int, source: Path) -> list[tuple[Measurement, ...]]:
    """Measurements by room of the bank, `positions` in each (0: see `make_measured_bank`).

    Positions of a room that becomes several are dealt at random, always the same: a table's order often goes around the
    array, and neighbors would leave no gap between talkers. A larger number than any room has is refused.
    """
    by_room: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        by_room.setdefault(measurement.room, []).append(measurement)
    counts = [len(room) for room in by_room.values()]
    size = positions or max(min(counts), min(2, max(counts)))
    if not 0 < size <= max(counts):
        raise MsdetError(f"{source}: {positions} positions a room are asked for, the largest room has {max(counts)}")
    divided: list[tuple[Measurement, ...]] = []
    for name, room in by_room.items():
        order = np.arange(len(room))
        if len(room) > size:
            order = np.random.default_rng(scene_seed(0, name)).permutation(order)
        for start in range(0, len(room) - size + 1, size):
            divided.append(tuple(room[n] for n in order[start : start + size]))
    if left_out := len(measurements) - size * len(divided):
        sizes = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])
        rest = f"{left_out} of {len(measurements)} positions are left out"
        log.warning("%s: %s: rooms of the bank have %d each, measured ones %s", source, rest, size, sizes)
    return divided


def label_problems(bank: RirBank, names: Sequence[Sequence[str]]) -> list[str]:
    """Where positions of a bank and the sound from there disagree, a sentence each; `names` of them are for people."""
    arrivals = [
        [direct_arrivals(h, bank.sample_rate) for h in bank.room(room, range(bank.positions)).direct]
        for room in range(bank.rooms)
    ]
    azimuths, elevations, distances = (
        np.concatenate([getattr(room, column) for room in bank.table])
        for column in ("azimuths_deg", "elevations_deg", "distances_m")
    )
    arrivals_s = np.concatenate(arrivals) / bank.sample_rate
    flat = [name for room in names for name in room]
    return disagreements(flat, (azimuths, elevations, distances), arrivals_s, bank.array)


def _identity(measurement: Measurement) -> list[Any]:
    """What makes a bank of it another one; rounded, for what other machines compute a bit differently."""
    labels = (measurement.azimuth_deg, measurement.elevation_deg, measurement.distance_m)
    size = measurement.path.stat().st_size
    taken = [] if measurement.channels is None else [list(measurement.channels)]
    return [measurement.name, measurement.room, *(round(value, 6) for value in labels), size, *taken]


def _write_room(path: Path, measurements: Sequence[Measurement], array: MicrophoneArray, sample_rate: int) -> None:
    pairs = [_aligned(measurement, array, sample_rate) for measurement in measurements]
    distances_m = np.array([m.distance_m for m in measurements])
    peaks = np.array([np.abs(direct).max() for _, direct in pairs])
    scale = 1.0 / np.median(peaks * distances_m)  # of a simulated source, whose sound falls as 1 / distance
    rirs = scale * stack_padded(
        [_without_tail(responses, sample_rate, m) for m, (responses, _) in zip(measurements, pairs, strict=True)]
    )
    direct = (scale * stack_padded([direct for _, direct in pairs])).astype(np.float32)
    for position, channel in np.argwhere(~direct.any(axis=-1)):
        measurement = measurements[position]
        problem = f"channel {channel} has no direct sound beside the others' in {measurement.name}"
        raise MsdetError(f"{measurement.path}: {problem}")
    t60_s = measured_t60_s(rirs[:, 0], sample_rate)
    labels = ((m.azimuth_deg, m.elevation_deg, m.distance_m) for m in measurements)
    azimuths, elevations, distances = zip(*labels, strict=True)
    room = BankRoom(azimuths, elevations, distances, t60_s)
    write_room(path, RoomResponse(rirs.astype(np.float32), direct, t60_s), room)


def _aligned(measurement: Measurement, array: MicrophoneArray, sample_rate: int) -> tuple[Array, Array]:
    """Responses ``(mic, tap)`` whose time 0 is emission, and their direct sound, with fewer taps."""
    samples, rate = audio.read(measurement.path) if measurement.place is None else read_responses(measurement)
    samples = samples if measurement.channels is None else samples[list(measurement.channels)]
    if samples.shape[-1] < MIN_RESPONSE_S * rate:
        place = f"{measurement.path}: {measurement.name}"
        expected = f"expected a response of {1000 * MIN_RESPONSE_S:.0f} ms or more"
        raise MsdetError(f"{place} is {1000 * samples.shape[-1] / rate:.0f} ms long, {expected}")
    silent = np.flatnonzero(~samples.any(axis=-1))
    if len(silent):
        raise MsdetError(f"{measurement.path}: channel {silent[0]} is silent in {measurement.name}")
    lead = np.pad(samples, ((0, 0), (round(LEAD_S * rate), 0)))
    responses = audio.resample(lead, rate, sample_rate)
    labels = (np.array([measurement.azimuth_deg]), np.array([measurement.elevation_deg]))
    expected_s = expected_arrivals_s(*labels, np.array([measurement.distance_m]), array.positions)
    arrivals = direct_arrivals(responses, sample_rate)
    later = round(float(expected_s.mean() * sample_rate - arrivals.mean()))
    moved = np.pad(responses, ((0, 0), (max(later, 0), 0)))[:, max(-later, 0) :]
    arrivals += later
    taps = math.ceil(arrivals.max() + AFTER_S * sample_rate) + 1
    direct = moved[:, :taps] * direct_window((np.arange(moved.shape[-1])[:taps] - arrivals[:, None]) / sample_rate)
    return moved, direct


def _without_tail(responses: Array, sample_rate: int, measurement: Measurement) -> Array:
    """Responses ``(mic, tap)`` until they sink into noise, or what follows is inaudible (ISO 3382-1).

    A noise floor would ring on after every sound, and pass for reverberation. The T60 of what is left is
    right within 5 % where noise is 60 dB below the peak, a fifth too short where it is 50 dB below.
    """
    block = round(TAIL_BLOCK_S * sample_rate)
    blocks = responses.shape[-1] // block
    power = (responses[:, : blocks * block].reshape(len(responses), blocks, block) ** 2).mean(axis=(0, 2))
    noise = power[-math.ceil(NOISE_SHARE * blocks) :].mean()
    loud = np.flatnonzero(power > 2 * noise)
    if not len(loud):
        place = f"{measurement.path}: {measurement.name}"
        raise MsdetError(f"{place} never rises above its noise, expected the response of a room")
    responses = responses[:, : block * (1 + int(loud[-1]))]
    energy = np.cumsum(responses[:, ::-1].astype(np.float64) ** 2, axis=-1)[:, ::-1]
    audible = energy > 10 ** (INAUDIBLE_DB / 10) * energy[:, :1]
    return responses[:, : 1 + int(np.flatnonzero(audible.any(axis=0))[-1])]


ONSET_DB = -20.0
"""A response starts where it first comes this near to its maximum and is well above its noise (ISO 3382-1).

Its maximum itself may be a reflection, up to 50 ms late (Defrance, Daudet and Polack, JASA 2008).
"""

ABOVE_NOISE = 5.0  # well above: times the standard deviation of noise that has the response's lower quartile
MIN_SURE_DB = -6.0  # a response that never is well above its noise starts where it comes so near to its maximum
_GAUSSIAN_QUARTILE = 0.3186  # lower quartile of the magnitude of Gaussian noise, in standard deviations
PEAK_SEARCH_S = 1e-3  # the main peak of the direct sound follows its onset within this time

BEFORE_S, AFTER_S = 1e-3, 2.5e-3
"""The direct sound from before to after its arrival: long enough for what a loudspeaker adds, short enough
to end before the floor's reflection. Below some 300 Hz, so short a window is blurred."""

FADE_S = 0.5e-3  # of the window, at both of its ends and within it
MAX_LAG_S = 0.5e-3  # correlation moves the peaks of two microphones against each other by no more than this
_LAG_RATE = 128_000  # correlations are interpolated to about this rate, and by a parabola beyond


def direct_arrivals(responses: Array, sample_rate: int) -> Array:
    """When the direct sound arrives at each microphone, ``(mic,)`` in samples and fractions of them.

    The main peak after a response's onset gives the time common to all microphones; the differences between
    them are those at which their direct sounds correlate best, with either sign, by least squares over pairs.
    Responses ``(mic, tap)`` are from one position, none silent.
    """
    peaks = _main_peaks(responses, sample_rate)
    reach = round(AFTER_S * sample_rate)
    padded = np.pad(responses, ((0, 0), (reach, reach)))
    around = np.arange(-reach, reach + 1)
    pieces = np.take_along_axis(padded, peaks[:, None] + reach + around, axis=1)
    pieces = pieces * direct_window(around / sample_rate)
    beside = np.abs(pieces[:, reach - 1 : reach + 2])
    exact_peaks = peaks + _vertex(beside[:, 0], beside[:, 1], beside[:, 2])
    relative = (peaks[:, None] - peaks + _lags(pieces, sample_rate)).mean(axis=1)
    return np.asarray(relative + np.median(exact_peaks - relative))


def direct_window(time_s: Array) -> Array:
    """Weight in [0, 1] of the direct sound at times relative to its arrival, any shape.

    >>> direct_window(np.array([-0.001, -0.0005, 0.0, 0.002, 0.00225, 0.0025])).round(3).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    inside = np.minimum(time_s + BEFORE_S, AFTER_S - time_s) / FADE_S
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(inside, 0.0, 1.0)))


def _main_peaks(responses: Array, sample_rate: int) -> Array:
    magnitude = np.abs(responses)
    noise = np.nanquantile(np.where(magnitude > 0, magnitude, np.nan), 0.25, axis=-1) / _GAUSSIAN_QUARTILE
    low, high = (10 ** (level_db / 20) * magnitude.max(axis=-1) for level_db in (ONSET_DB, MIN_SURE_DB))
    onsets = (magnitude >= np.clip(ABOVE_NOISE * noise, low, high)[:, None]).argmax(axis=-1)
    tap = np.arange(magnitude.shape[-1])
    searched = (tap >= onsets[:, None]) & (tap <= onsets[:, None] + round(PEAK_SEARCH_S * sample_rate))
    return np.asarray(np.where(searched, magnitude, -1.0).argmax(axis=-1))


def _lags(pieces: Array, sample_rate: int) -> Array:
    """How many samples later each piece ``(mic, tap)`` correlates with each other one, ``(mic, mic)``."""
    length = 2 ** int(np.ceil(np.log2(2 * pieces.shape[-1])))
    finer = max(1, round(_LAG_RATE / sample_rate))
    spectra = np.fft.rfft(pieces, length)
    first, second = np.triu_indices(len(pieces), 1)
    correlation = np.abs(np.fft.irfft(spectra[first] * spectra[second].conj(), length * finer))
    most = round(MAX_LAG_S * sample_rate * finer)
    near = np.take(correlation, np.arange(-most - 1, most + 2), axis=1, mode="wrap")
    best = 1 + near[:, 1:-1].argmax(axis=1)
    row = np.arange(len(near))
    lag = best - most - 1 + _vertex(near[row, best - 1], near[row, best], near[row, best + 1])
    lags = np.zeros((len(pieces), len(pieces)))
    lags[first, second] = lag / finer
    return lags - lags.T


def _vertex(left: Array, top: Array, right: Array) -> Array:
    """Where the parabola through three equally spaced values has its top, in [-0.5, 0.5] from the middle."""
    curvature = left - 2 * top + right
    bent = curvature < 0
    shift = np.where(bent, 0.5 * (left - right) / np.where(bent, curvature, 1.0), 0.0)
    return np.clip(shift, -0.5, 0.5)
