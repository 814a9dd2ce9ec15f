"""Mixing on the training device: workers read and draw, the device convolves, sets levels and adds noise.

A big GPU learns from more mixtures a second than the cores beside it can convolve. The scenes are those that
`msdet.scenes.rendering.render` makes one at a time, equal but for rounding (1e-5 of full scale), for talkers who
stand.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import default_collate

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.data.example import Example, example_of
from msdet.errors import MsdetError
from msdet.scenes.noise import MAX_EQUALIZATION_DB, diffuse_mixing
from msdet.scenes.rendering import MIN_RMS, MIXTURE_RMS, PEAK, DryScene
from msdet.scenes.scene import Scene


def dry_example(scene: Scene, dry: DryScene, slots: int, item: int, array: MicrophoneArray) -> Example:
    """An example whose mixture is still to be made: labels as those of `example_of`, and ``dry`` with the parts.

    These are ``speech (slot, time)``, ``responses (slot, mic + 1, tap)`` of which the last channel is the reference's,
    ``talks (slot,)``, the samples that each talks for, ``level_db (slot,)``, ``reference (1,)``, a tensor or two for
    each noise, by kind, ``snr_db (noise,)``, and ``gain (mic,)`` and ``phase_rad (mic,)`` where microphones differ.
    """
    example = example_of(scene, np.zeros((0, scene.samples), np.float32), None, slots, item, array)
    example["references"], example["referenced"] = torch.zeros(slots, 0), torch.tensor(True)
    talkers, samples = len(scene.sources), scene.samples
    targets = dry.response.target(scene.target, array.reference, scene.sample_rate)
    if any(len(path) > 1 for path, _ in dry.paths):
        raise MsdetError(f"scene {scene.id}: a talker moves, and mixing on the device takes talkers who stand")
    positions = [int(path[0]) for path, _ in dry.paths]
    taps = max(dry.response.rirs.shape[-1], targets.shape[-1])
    speech, responses = (
        np.zeros((slots, samples), np.float32),
        np.zeros((slots, array.microphones + 1, taps), np.float32),
    )
    speech[:talkers] = dry.speech
    responses[:talkers, :-1, : dry.response.rirs.shape[-1]] = dry.response.rirs[positions]
    responses[:talkers, -1, : targets.shape[-1]] = targets[positions]
    talks, levels = np.ones(slots), np.zeros(slots)
    talks[:talkers] = [source.duration_s * scene.sample_rate for source in scene.sources]
    levels[:talkers] = [source.level_db for source in scene.sources]
    parts: dict[str, Any] = {"speech": speech, "responses": responses, "talks": talks, "level_db": levels}
    for number, noise in enumerate(dry.noises):
        parts[f"{noise.noise.kind}_{number}"] = noise.signals
        if noise.response is not None:
            parts[f"response_{number}"] = noise.response
        elif noise.noise.kind != "sensor":
            where = (scene.microphones_m(array.positions).tobytes(), scene.sample_rate, noise.noise.kind)
            parts[f"field_{number}"] = _field(*where, scene.speed_of_sound)
    parts["snr_db"] = np.array([noise.snr_db for noise in scene.noises])
    parts["reference"] = np.array([array.reference])
    if scene.mismatch:
        parts["gain"] = 10 ** (np.array(scene.mismatch.gain_db) / 20)
        parts["phase_rad"] = np.deg2rad(scene.mismatch.phase_deg)
    example["dry"] = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items()}
    return example


@functools.lru_cache(maxsize=64)
def _field(microphones_m: bytes, sample_rate: int, kind: Any, speed_of_sound: float) -> Array:
    """`diffuse_mixing` ``(freq, mic, mic)`` float32, once for each array."""
    mixing = diffuse_mixing(np.frombuffer(microphones_m).reshape(-1, 3), sample_rate, kind, speed_of_sound)
    return mixing.astype(np.float32)


def collate_dry(examples: Sequence[Example]) -> Example:
    """A batch of examples to be mixed, responses padded to the longest."""
    parts = [example["dry"] for example in examples]
    for name in parts[0]:
        if name.startswith("response"):
            taps = max(part[name].shape[-1] for part in parts)
            for part in parts:
                part[name] = pad(part[name], (0, taps - part[name].shape[-1]))
    return cast(Example, default_collate(list(examples)))


def mix_batch(batch: Example) -> Example:
    """Mix a batch of `collate_dry`, on the device that its parts are on; another batch is given back as it is."""
    if "dry" not in batch:
        return batch
    with torch.no_grad(), torch.autocast(batch["dry"]["speech"].device.type, enabled=False):
        return _mixed(batch)


def _mixed(batch: Example) -> Example:
    mixed = Example(**batch)
    parts = mixed.pop("dry")
    at_reference = parts["reference"][..., None]
    images = convolve(parts["speech"][:, :, None], parts["responses"])
    images, references = images[:, :, :-1], images[:, :, -1:]
    if "gain" in parts:
        images = _gain_phase(images, parts["gain"][:, None], parts["phase_rad"][:, None])
        own = [parts[name].gather(1, parts["reference"])[:, None] for name in ("gain", "phase_rad")]
        references = _gain_phase(references, *own)
    references = references[:, :, 0]
    reverberant = _channel(images, at_reference[:, None])[:, :, 0]
    rms = (reverberant.square().sum(-1, dtype=torch.float64) / parts["talks"]).sqrt()
    gains = torch.where(rms > MIN_RMS, 10 ** (parts["level_db"] / 20) / rms, torch.nan)  # silent: the step is skipped
    gains = torch.where(mixed["active"], gains, 0.0).float()
    images, references = images * gains[..., None, None], references * gains[..., None]
    clean = images.sum(1)
    clean_rms = _rms(_channel(clean, at_reference))
    noise = torch.zeros_like(clean)
    for number, signal in enumerate(_noises(parts)):
        ratio = 10 ** (-parts["snr_db"][:, number, None, None] / 20)
        noise = noise + signal * (clean_rms * ratio / _rms(_channel(signal, at_reference))).float()
    mixture = clean + noise
    peak = torch.maximum(mixture.abs().amax((1, 2)), references.abs().amax((1, 2)))
    scale = torch.minimum(MIXTURE_RMS / clean_rms[:, 0, 0], PEAK / peak).float()[:, None, None]
    mixed["mixture"] = mixture * scale
    mixed["references"] = torch.where(mixed["referenced"][:, None, None], references * scale, 0.0)
    return mixed


def convolve(signals: Tensor, responses: Tensor) -> Tensor:
    """Signals ``(..., time)`` through responses ``(..., tap)``, cut to the signals' length."""
    samples = signals.shape[-1]  # torchaudio's `fftconvolve` takes lengths as they are, also prime
    size = next_fast_len(samples + responses.shape[-1] - 1, real=True)
    spectrum = torch.fft.rfft(signals, size) * torch.fft.rfft(responses, size)
    convolved: Tensor = torch.fft.irfft(spectrum, size)[..., :samples]
    return convolved


def _noises(parts: dict[str, Tensor]) -> list[Tensor]:
    """Noises ``(batch, mic, time)`` as the array receives them, at any scale, in their order."""
    found = []
    for number in range(parts["snr_db"].shape[1]):
        name = next(
            name for name in parts if name.endswith(f"_{number}") and not name.startswith(("response", "field"))
        )
        signal = parts[name]
        if name.startswith("point"):
            signal = convolve(signal, parts[f"response_{number}"])
        elif not name.startswith("sensor"):
            signal = _diffuse(signal, parts[f"field_{number}"])
        if "gain" in parts and not name.startswith("sensor"):
            signal = _gain_phase(signal, parts["gain"], parts["phase_rad"])
        found.append(signal)
    return found


def _diffuse(signals: Tensor, mixing: Tensor) -> Tensor:
    """`msdet.scenes.noise.diffuse` of a batch ``(batch, signal, time)``, by ``mixing (batch, freq, mic, signal)``."""
    power = signals.square().sum(-1, dtype=torch.float64)
    scaled = signals * (power.mean(-1, keepdim=True) / power).sqrt().float()[..., None]
    taps = 2 * (mixing.shape[1] - 1)
    responses = mixing * _equalizing_gains(scaled, taps).transpose(1, 2)[:, :, None]
    filters = torch.fft.fftshift(torch.fft.irfft(responses, dim=1), dim=1)
    block, step, samples = 4 * taps, 3 * taps, signals.shape[-1]
    blocks = -(-samples // step)
    mirrored = torch.cat([scaled[..., : taps // 2 - 1].flip(-1), scaled, scaled[..., -(taps // 2) :].flip(-1)], dim=-1)
    mirrored = pad(mirrored, (0, (blocks - 1) * step + block - mirrored.shape[-1]))
    spectra = torch.fft.rfft(mirrored.unfold(-1, block, step))
    spectra = torch.einsum("bfms,bsnf->bmnf", torch.fft.rfft(filters, block, dim=1), spectra)
    pieces: Tensor = torch.fft.irfft(spectra, block)[..., taps - 1 : taps - 1 + step]
    return pieces.flatten(-2)[..., :samples]


def _equalizing_gains(signals: Tensor, taps: int) -> Tensor:
    """Gains ``(batch, signal, freq)`` that bring long-term spectra to their mean, by Welch's method."""
    segment = max(min(taps, signals.shape[-1] // 8), 1)
    window = torch.hann_window(segment, device=signals.device)
    pieces = signals.unfold(-1, segment, segment - segment // 2) * window
    power = torch.fft.rfft(pieces, taps).abs().square().mean(-2)
    mean = power.mean(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    gains: Tensor = (mean / torch.maximum(power, mean * 10 ** (-MAX_EQUALIZATION_DB / 10))).sqrt()
    return gains


def _gain_phase(signals: Tensor, gain: Tensor, phase_rad: Tensor) -> Tensor:
    """`msdet.scenes.mismatch.apply_gain_phase` of a batch: signals ``(..., mic, time)``, errors ``(..., mic)``."""
    samples = signals.shape[-1]
    padded = next_fast_len(2 * samples)
    spectrum = torch.fft.rfft(signals, padded)
    spectrum[..., 0] = 0.0
    if padded % 2 == 0:
        spectrum[..., -1] = 0.0
    hilbert = torch.fft.irfft(-1j * spectrum, padded)[..., :samples]
    in_phase, quadrature = gain * phase_rad.cos(), gain * phase_rad.sin()
    changed: Tensor = signals * in_phase.float()[..., None] - hilbert * quadrature.float()[..., None]
    return changed


def _channel(signals: Tensor, number: Tensor) -> Tensor:
    """One channel of signals ``(..., mic, time)``: ``(..., 1, time)``; numbers ``(batch, ..., 1, 1)``."""
    return signals.gather(-2, number.expand(*signals.shape[:-2], 1, signals.shape[-1]))


def _rms(signal: Tensor) -> Tensor:
    """Of signals ``(..., 1, time)``, ``(..., 1, 1)``, in double precision."""
    rms: Tensor = signal.square().mean(-1, keepdim=True, dtype=torch.float64).sqrt()
    return rms
