"""Noise: diffuse fields of the right spatial coherence, excerpts of recordings, babble of other talkers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import scipy

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.corpora import SPLITS
from msdet.corpora.reading import is_audio, mono_header, split_by_name
from msdet.errors import MsdetError, check_known
from msdet.io import audio
from msdet.io.files import relative_path

Field = Literal["spherical", "cylindrical"]
"""Plane waves from all directions, or from all horizontal ones."""

MIN_FILTER_S = 0.032  # of the filters that mix a diffuse field, which are longer for arrays wider than a meter
MAX_EQUALIZATION_DB = 30.0  # most gain of a signal at frequencies where it has less power than the others
MIN_FILES = 30  # with fewer, noise files are cut in time to make splits
SHARES = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0)}  # of each file, where files are cut
MIN_RECORDING_S = 0.5
MIN_SHIFT_S = 0.25  # excerpts of one recording start at least this far apart
MIN_SHIFT = 2000  # the same for utterances in babble, in samples
LOOP_FADE = 512  # samples over which the end of a loop turns into its start, with equal power
_KIND = "noise recording"  # what to call a file in errors


@dataclass(frozen=True)
class NoiseRecording:
    """A noise file, path relative to the noise folder, or the part of one that a split may use."""

    path: str
    start_s: float
    seconds: float
    split: str


@dataclass(frozen=True)
class NoiseExcerpt:
    """An excerpt from `offset_s` on of the part of a noise file from `start_s` to `end_s`, which loops."""

    path: str
    offset_s: float
    start_s: float
    end_s: float


def theoretical_coherence(
    microphones_m: Array, frequencies_hz: Array, field: Field, speed_of_sound: float = SPEED_OF_SOUND
) -> Array:
    """Spatial coherence ``(freq, mic, mic)`` of a diffuse field, which is real, at microphones ``(mic, 3)``, z upwards.

    Spherically isotropic: sin(x) / x with x = 2 π f d / c; cylindrically isotropic: J₀(x) (Cook et al.,
    JASA 1955), where d is the distance in the xy-plane, as the waves travel horizontally.
    """
    check_known("noise field", get_args(Field), field)
    p = np.asarray(microphones_m, dtype=np.float64)[:, : 3 if field == "spherical" else 2]
    distance_m = np.linalg.norm(p[:, None] - p[None], axis=-1)
    x = 2.0 * np.asarray(frequencies_hz, dtype=np.float64)[:, None, None] * distance_m / speed_of_sound
    return np.asarray(np.sinc(x) if field == "spherical" else scipy.special.j0(np.pi * x))


def diffuse(
    signals: Array, microphones_m: Array, sample_rate: int, field: Field, speed_of_sound: float = SPEED_OF_SOUND
) -> Array:
    """Mix independent signals into a diffuse field ``(mic, time)`` float32.

    At each frequency a matrix C with C Cᵀ = Γ mixes the signals, Γ being `theoretical_coherence` (Habets,
    Cohen and Gannot, JASA 2008). C is the symmetric root of Γ times one reflection that lets every signal
    reach every microphone (smooth and balanced mixing: Mirabilii, Schlecht and Habets, JASA 2021), applied as
    short zero-phase filters. Coherence is right only for signals of equal power at every frequency, so each
    is first equalized to the mean of their long-term spectra, by at most `MAX_EQUALIZATION_DB`. There is one for
    each microphone ``(mic, 3)``, z upwards, and none is silent.
    """
    microphones_m = np.asarray(microphones_m, dtype=np.float64)
    if signals.ndim != 2 or len(signals) != len(microphones_m):
        expected = f"({len(microphones_m)}, time), one for each microphone"
        raise MsdetError(f"diffuse noise: signals have shape {signals.shape}, expected {expected}")
    power = np.array([np.square(row, dtype=np.float64).sum() for row in signals])
    if not (power > 0.0).all():
        raise MsdetError(f"diffuse noise: signal {int(np.argmin(power)) + 1} is silent")
    scaled = (signals * np.sqrt(power.mean() / power)[:, None]).astype(np.float32)
    mixing = diffuse_mixing(microphones_m, sample_rate, field, speed_of_sound)
    taps = 2 * (len(mixing) - 1)
    responses = mixing * _equalizing_gains(scaled, taps).T[:, None]
    filters = np.fft.fftshift(scipy.fft.irfft(responses, axis=0), axes=0).astype(np.float32)
    return _mix(scaled, filters)


def diffuse_mixing(microphones_m: Array, sample_rate: int, field: Field, speed_of_sound: float) -> Array:
    """The matrices ``(freq, mic, mic)`` by which `diffuse` mixes, at the frequencies of its filters."""
    taps = _filter_taps(microphones_m, sample_rate, speed_of_sound)
    frequencies_hz = np.fft.rfftfreq(taps, 1 / sample_rate)
    return _balanced_root(theoretical_coherence(microphones_m, frequencies_hz, field, speed_of_sound))


def _filter_taps(microphones_m: Array, sample_rate: int, speed_of_sound: float) -> int:
    """A power of two, eight times as long as sound takes across the array: coherent between bins too."""
    aperture_m = np.linalg.norm(microphones_m[:, None] - microphones_m[None], axis=-1).max()
    seconds = max(MIN_FILTER_S, 8 * aperture_m / speed_of_sound)
    return int(2 ** math.ceil(math.log2(seconds * sample_rate)))


def _balanced_root(coherence: Array) -> Array:
    """``C (freq, mic, mic)`` with C Cᵀ the coherence: its symmetric root times 2/M · 11ᵀ - 1."""
    values, vectors = np.linalg.eigh(coherence)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None]) @ vectors.transpose(0, 2, 1)
    microphones = coherence.shape[-1]
    return np.asarray(root @ (np.full((microphones, microphones), 2 / microphones) - np.eye(microphones)))


def _mix(signals: Array, filters: Array) -> Array:
    """Filter signals ``(signal, time)`` by ``(tap, mic, signal)``, the middle tap time 0: ``(mic, time)``.

    Overlap-save; the signals are mirrored at their ends, so nothing fades there.
    """
    taps, samples = len(filters), signals.shape[-1]
    mirrored = np.pad(signals, ((0, 0), (taps // 2 - 1, taps // 2)), mode="symmetric")
    block, step = 4 * taps, 3 * taps
    responses = scipy.fft.rfft(filters, block, axis=0)
    mixture = np.empty((filters.shape[1], samples), dtype=np.float32)
    for start in range(0, samples, step):
        spectra = scipy.fft.rfft(mirrored[:, start : start + block], block).T[..., None]
        mixed = scipy.fft.irfft((responses @ spectra)[..., 0].T, block)
        mixture[:, start : start + step] = mixed[:, taps - 1 : taps - 1 + min(step, samples - start)]
    return mixture


def _equalizing_gains(signals: Array, taps: int) -> Array:
    """Gains ``(mic, freq)`` that bring each signal's long-term spectrum to the mean of all."""
    segment = max(min(taps, signals.shape[-1] // 8), 1)  # averages enough of them, in short signals too
    power = np.stack([scipy.signal.welch(row, nperseg=segment, nfft=taps, detrend=False)[1] for row in signals])
    mean = np.maximum(power.mean(axis=0), np.finfo(np.float32).tiny)
    return np.asarray(np.sqrt(mean / np.maximum(power, mean * 10 ** (-MAX_EQUALIZATION_DB / 10))))


def read_noise_folder(root: str | Path) -> tuple[NoiseRecording, ...]:
    """The noise recordings in any tree of single-channel wav and flac files, each in a split; reads headers.

    Of at least `MIN_FILES` files each belongs to one split, by the hash of its path, about 80/10/10; fewer
    are cut in time into `SHARES`. Parts shorter than `MIN_RECORDING_S` are left out.
    """
    root = Path(root)
    if not root.is_dir():
        raise MsdetError(f"{root}: noise folder does not exist")
    files = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if is_audio(path) and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not files:
        raise MsdetError(f"{root}: no audio found, expected noise recordings in .wav or .flac")
    for name in files:
        relative_path(name, "path of a recording", root)
    recordings = tuple(r for r in _split(root, files) if r.seconds >= MIN_RECORDING_S)
    for split in SPLITS:
        if not any(r.split == split for r in recordings):
            shortest_s = MIN_RECORDING_S * (10 if len(files) < MIN_FILES else 1)
            expected = f"expected {shortest_s:g} s or more"
            cut = f"({len(files)} file(s); fewer than {MIN_FILES} are cut 80/10/10 in time)"
            raise MsdetError(f"{root}: no recording is long enough for split '{split}', {expected} {cut}")
    return recordings


def _split(root: Path, files: list[str]) -> Iterator[NoiseRecording]:
    seconds = {name: mono_header(root / name, _KIND).seconds for name in files}
    if len(files) >= MIN_FILES:
        split_of = split_by_name(root, files)
        yield from (NoiseRecording(name, 0.0, seconds[name], split_of[name]) for name in files)
        return
    for name in files:
        for split, (start, end) in SHARES.items():
            yield NoiseRecording(name, start * seconds[name], (end - start) * seconds[name], split)


def draw_excerpts(
    recordings: Sequence[NoiseRecording], count: int, seconds: float, rng: np.random.Generator
) -> list[NoiseExcerpt]:
    """Draw `count` excerpts, in random order, that are mutually incoherent: one a microphone, for instance.

    They come from as few recordings as hold them, drawn at random; a recording shorter than an excerpt is
    drawn less often and loops. No two overlap while there is enough material; after that, excerpts of one
    recording start as far apart as they can, but not within `MIN_SHIFT_S`.
    """
    if not recordings:
        raise MsdetError("no noise recordings to draw from")
    weights = np.array([min(r.seconds, seconds) for r in recordings])
    order = rng.choice(len(recordings), len(recordings), replace=False, p=weights / weights.sum())
    capacity = np.cumsum([max(1, int(recordings[i].seconds / seconds)) for i in order])
    chosen = [recordings[i] for i in order[: int(np.searchsorted(capacity, count)) + 1]]
    excerpts = []
    for recording, share in zip(chosen, _shares(chosen, count, seconds), strict=True):
        start_s, end_s = recording.start_s, recording.start_s + recording.seconds
        for offset_s in _offsets_s(recording, share, seconds, rng) if share else ():
            excerpts.append(NoiseExcerpt(recording.path, start_s + offset_s, start_s, end_s))
    return [excerpts[i] for i in rng.permutation(len(excerpts))]


def _shares(recordings: Sequence[NoiseRecording], count: int, seconds: float) -> list[int]:
    """How many excerpts each recording gives: the next one always comes from where they are least dense."""
    shares = [0] * len(recordings)
    for _ in range(count):
        spacing = [
            r.seconds / (share + 1) if share else max(r.seconds, seconds)
            for r, share in zip(recordings, shares, strict=True)
        ]
        shares[int(np.argmax(spacing))] += 1
    return shares


def _offsets_s(r: NoiseRecording, count: int, seconds: float, rng: np.random.Generator) -> list[float]:
    """Where in a recording excerpts start: anywhere without overlap, or else evenly around the loop."""
    spare_s = r.seconds - count * seconds
    if spare_s >= 0:
        gaps = np.sort(rng.uniform(0.0, spare_s, count))
        return [float(gap + n * seconds) for n, gap in enumerate(gaps)]
    spacing_s = r.seconds / count
    if spacing_s < MIN_SHIFT_S:
        few = f"{r.seconds:.2f} s of noise are too little for {count} different excerpts"
        raise MsdetError(f"{r.path}: {few}, expected at least {count * MIN_SHIFT_S:.2f} s")
    return [float(spacing_s * n) for n in np.arange(count) + rng.random()]


def load_excerpt(root: Path, excerpt: NoiseExcerpt, seconds: float, sample_rate: int) -> Array:
    """The samples ``(time,)`` float32 of an excerpt; past the end of its part of the file, the part loops."""
    path = root / excerpt.path
    header = mono_header(path, _KIND)
    rate = header.sample_rate
    start, end = math.ceil(excerpt.start_s * rate - 1e-3), math.floor(excerpt.end_s * rate + 1e-3)
    offset = max(round(excerpt.offset_s * rate), start)
    if end > header.frames:
        raise MsdetError(f"{path}: has {header.seconds:.2f} s, expected at least {excerpt.end_s:.2f} s")
    needed = math.ceil(seconds * rate - 1e-6)
    if offset + needed - end in (1, 2) and end - start >= needed:
        offset = end - needed  # rounding alone took it past the end
    if offset + needed <= end:
        samples = audio.read(path, offset, needed)[0][0]
    else:
        samples = _loop(audio.read(path, start, end - start)[0][0], offset - start, needed)
    if not samples.any():
        raise MsdetError(f"{path}: is silent for {seconds:.2f} s from {excerpt.offset_s:.2f} s on")
    return audio.resample(samples, rate, sample_rate)[: round(seconds * sample_rate)]


def _loop(samples: Array, offset: int, count: int) -> Array:
    """``(count,)`` samples from `offset` on of ``(time,)`` samples that loop with an equal-power fade."""
    fade = min(LOOP_FADE, len(samples) // 2)
    rise = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1)).astype(samples.dtype)
    period = len(samples) - fade
    loop = samples[:period].copy()
    loop[:fade] = loop[:fade] * rise + samples[period:] * rise[::-1]
    return loop.take(np.arange(offset, offset + count), mode="wrap")


def babble(speech: Sequence[Array], streams: int, samples: int, rng: np.random.Generator, talkers: int = 4) -> Array:
    """Babble ``(streams, samples)`` float32, each stream a sum of `talkers` at equal level; RMS about 1.

    Dry utterances ``(time,)`` loop. Streams are independent: an utterance that is used several times starts
    at places spread evenly over it, at least `MIN_SHIFT` samples apart.
    """
    if not speech:
        raise MsdetError("babble: no speech to make it from")
    wanted = streams * talkers
    order = rng.permutation(len(speech))
    mixed = np.zeros((streams, samples), dtype=np.float32)
    for place, index in enumerate(order[:wanted]):
        utterance = np.asarray(speech[index], dtype=np.float32)
        uses = range(place, wanted, len(order))
        if len(utterance) < len(uses) * MIN_SHIFT:
            expected = f"expected at least {len(uses) * MIN_SHIFT} for {len(uses)} voices"
            raise MsdetError(f"babble: utterance {index + 1} has {len(utterance)} samples, {expected}")
        level = math.sqrt(talkers * np.mean(np.square(utterance, dtype=np.float64)))
        if not level:
            raise MsdetError(f"babble: utterance {index + 1} is silent")
        shifts = (np.arange(len(uses)) + rng.random()) * (len(utterance) / len(uses))
        for use, shift in zip(uses, shifts, strict=True):
            mixed[use // talkers] += _loop(utterance, int(shift), samples) / np.float32(level)
    return mixed
