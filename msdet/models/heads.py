"""Heads: from shared features to DoA logits, and to each talker's spectrum."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from msdet.models.encoders import build_encoder
from msdet.models.frontend import ArrayGeometry, Observation, beam_features
from msdet.spatial import (
    apply_beam,
    past_frames,
    phase_normalise,
    pooled_response,
    steered_beam_weights,
    weighted_covariance,
    wiener_filter,
)


class PooledDoa(nn.Module):
    """DoA classifier on features pooled over time and frequency, one distribution an output slot.

    Pooling weights are learned per slot (attention); a hidden layer follows.
    """

    def __init__(self, geometry: ArrayGeometry, features: int, talkers: int) -> None:
        super().__init__()
        self.talkers = talkers
        classes, freqs, _ = geometry.steering.shape
        self.attention = nn.Linear(features, talkers)
        self.embed = nn.Linear(features, features)
        self.frequency = nn.Parameter(torch.randn(freqs, features) * 0.1)
        self.classify = nn.Sequential(
            nn.Linear(2 * features, 4 * features), nn.ReLU(), nn.Linear(4 * features, classes)
        )

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Logits ``(batch, talker, class)``."""
        weights = self.attention(features).flatten(1, 2).softmax(1)
        embedded = torch.relu(self.embed(features))
        placed = embedded * self.frequency[None, :, None]  # phase differences mean a direction per frequency
        values = torch.cat([embedded, placed], dim=-1).flatten(1, 2)
        logits: Tensor = self.classify(weights.mT @ values)
        return logits


class SteeredDoa(nn.Module):
    """Mask-weighted SRP-PHAT, sharpened by circular convolutions, on top of the front end's seed.

    At the start the logits are the seed's: the model is the classical localiser, and learns from there.
    """

    def __init__(self, geometry: ArrayGeometry, features: int, talkers: int) -> None:
        super().__init__()
        self.geometry = geometry
        freqs = geometry.steering.shape[1]
        self.mask = nn.Linear(features, 2 * talkers)
        self.frequency = nn.Parameter(torch.zeros(freqs))
        self.trust = nn.Parameter(torch.ones(()))
        self.sharpness = nn.Parameter(torch.zeros(()))
        channels = 32
        self.sharpen = nn.Sequential(
            nn.Conv1d(2, channels, 9, padding=4, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 9, padding=4, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv1d(channels, 1, 9, padding=4, padding_mode="circular"),
        )
        nn.init.zeros_(self.sharpen[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.sharpen[-1].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, observation: Observation) -> Tensor:
        """Logits ``(batch, talker, class)``."""
        spectrum = observation.spectrum
        slots, reliable = self.mask(features).permute(0, 3, 1, 2).chunk(2, dim=1)
        level = torch.log1p(spectrum[:, self.geometry.reference].abs())[:, None]
        frequency = nn.functional.softplus(self.frequency)[:, None]
        weights = slots.softmax(1) * reliable.sigmoid() * level * frequency
        covariance = weighted_covariance(phase_normalise(spectrum), weights)
        z = pooled_response(covariance, self.geometry.steering)
        z = (z - z.mean(-1, keepdim=True)) / z.std(-1, keepdim=True).clamp_min(1e-6)
        seed = z.new_zeros(z.shape) if observation.seed_logits is None else observation.seed_logits
        both = torch.stack([z, seed.exp()], dim=2).flatten(0, 1)
        logits: Tensor = self.trust * seed + self.sharpness * z + self.sharpen(both).view_as(z)
        return logits


class ReferenceMask(nn.Module):
    """A complex ratio mask for each talker on the reference microphone."""

    def __init__(self, geometry: ArrayGeometry, features: int, talkers: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.mask = nn.Linear(features, 2 * talkers)

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)``."""
        reference = observation.spectrum[:, self.geometry.reference]
        mask = as_complex(self.mask(features))
        return (mask * reference[:, None],)


class SteeredBeam(nn.Module):
    """A beam steered by the DoA posterior, refined by complex masks on all beams and the reference.

    The masks start at zero, so the first estimate is the beam itself. With `filter_taps`, a second pass fits
    one linear filter of all microphones to each estimate (`wiener_filter`), encodes what that filter gives
    together with the shared features, and refines it in the same way.

    Args:
        geometry: of the array.
        features: of the encoder.
        talkers: number of output slots.
        frames: frames that the refining filters see, this one and the ones before; 1 makes them masks.
        filter_taps: frames that the second pass's filters span; 0 for one pass.
        refiner: encoder of the second pass, a file name in ``msdet/models/encoders`` or ``module:Class``.
        refiner_options: what that encoder's constructor takes besides ``features_in``.
    """

    def __init__(
        self,
        geometry: ArrayGeometry,
        features: int,
        talkers: int,
        frames: int = 1,
        filter_taps: int = 0,
        refiner: str = "ft_gru",
        refiner_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.filter_taps = filter_taps
        self.refine = _BeamMasks(features, talkers, talkers + 1, frames)
        if filter_taps:
            freqs = geometry.steering.shape[1]
            encoder = build_encoder(refiner, refiner_options or {}, features + 6 * talkers, freqs)
            self.refiner = cast(nn.Module, encoder)
            self.refine_again = _BeamMasks(encoder.features_out, talkers, 2 * talkers + 1, frames)

    def forward(self, features: Tensor, observation: Observation, doa_logits: Tensor) -> tuple[Tensor, ...]:
        """One estimate ``(batch, talker, freq, frame)`` a pass."""
        spectrum = observation.spectrum
        reference = spectrum[:, self.geometry.reference]
        weights = steered_beam_weights(
            doa_logits.float().softmax(-1), self.geometry.steering, self.geometry.coherence
        )
        beams = apply_beam(weights, spectrum)
        first = self.refine(features, beams, [beams, reference[:, None]])
        if not self.filter_taps:
            return (first,)
        with torch.no_grad():  # the filter follows the first estimate, which has a loss of its own
            filtered = wiener_filter(spectrum, first, self.filter_taps)
            seen = [*beam_features(filtered, reference), *beam_features(first, reference)]
        again = self.refiner(torch.cat([features, torch.cat(seen, 1).permute(0, 2, 3, 1)], dim=-1))
        basis = [filtered, first.detach(), reference[:, None]]
        return first, self.refine_again(again, filtered, basis)


class _BeamMasks(nn.Module):
    """Adds signals, filtered over a few frames, to each talker's beam; the filters start at zero.

    A filter over frames (deep filtering, Mack and Habets 2020) also removes reverberation, which a mask can
    only make quieter.
    """

    def __init__(self, features: int, talkers: int, signals: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.shape = (talkers, signals * frames)
        self.filter = nn.Linear(features, 2 * talkers * signals * frames)
        nn.init.zeros_(self.filter.weight)
        nn.init.zeros_(self.filter.bias)

    def forward(self, features: Tensor, beams: Tensor, signals: list[Tensor]) -> Tensor:
        """Refined beams ``(batch, talker, freq, frame)``."""
        filters = as_complex(self.filter(features)).unflatten(1, self.shape)
        past = past_frames(torch.cat(signals, dim=1), self.frames)
        refined: Tensor = beams + (filters * past[:, None]).sum(2)
        return refined


def as_complex(features: Tensor) -> Tensor:
    """``(batch, freq, frame, 2 n)`` to complex ``(batch, n, freq, frame)``; real parts come first."""
    real, imaginary = features.float().permute(0, 3, 1, 2).chunk(2, dim=1)
    return torch.complex(real.contiguous(), imaginary.contiguous())
