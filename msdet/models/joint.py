"""The joint model: transform, encode, localize, separate."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.dsp.spatial import decode_azimuth
from msdet.dsp.stft import SeparationPasses, Signals, Stft, window_samples
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.encoders import build_encoder
from msdet.models.frontends import (
    FRONT_ENDS,
    ArrayGeometry,
    FrontEndOutput,
    FrontEndSizes,
    build_front_end,
    elevation_at,
    final_frame_logits,
)
from msdet.models.heads import DOA_HEADS, SEPARATION_HEADS, HeadSizes, build_head, build_task_head, slot_occupancy
from msdet.models.sharing import SHARING_SCHEMES, SharingSizes

LIMITS = {"doa_classes": (8, 720), "talkers": (1, 16)}
"""Least and most of settings that sizes multiply by."""

WINDOW_S = 2.0
"""In which the direction of a talker who moves is taken as fixed."""


class JointOutput(NamedTuple):
    """What a joint model gives.

    Attributes:
        waveforms: each talker at the reference microphone, ``(batch, talker, time)``.
        spectra: estimates at unit mixture level, each complex ``(batch, talker, freq, frame)``, the last one final.
        doa_logits: of azimuth classes, ``(batch, talker, class)``.
        occupancy: probability ``(batch, talker)`` that a slot has a talker; 1 without variable_num_speakers.
        level: RMS ``(batch, 1, 1)`` of the mixture at the reference microphone.
        features: that the DoA head saw, ``(batch, freq, frame, feature)``.
        predictions: of each task by name, as the task's loss takes it.
        elevation_deg: ``(batch, talker)``, of a front end that looks for it.
    """

    waveforms: Tensor
    spectra: tuple[Tensor, ...]
    doa_logits: Tensor
    occupancy: Tensor
    level: Tensor
    features: Tensor
    predictions: dict[str, Any]
    elevation_deg: Tensor | None = None


class JointModel(nn.Module):
    """One encoder, two heads: who is where, and what each says."""

    def __init__(self, config: ModelConfig, array: MicrophoneArray, sample_rate: int) -> None:
        super().__init__()
        for name, (least, most) in LIMITS.items():
            if not least <= (value := getattr(config, name)) <= most:
                raise MsdetError(f"model.{name} is {value}, expected {least} to {most}")
        self.config = config
        self.array = array
        self.sample_rate = sample_rate
        self.stft = Stft(window_samples(config.window_s, sample_rate))
        registries = {"front_end": FRONT_ENDS, "doa_head": DOA_HEADS, "separation_head": SEPARATION_HEADS}
        parts = [registry.find(getattr(config, part)) for part, registry in registries.items()]
        any_domain = all(getattr(part, "any_domain", False) for part in parts)
        self.geometry = geometry = ArrayGeometry(array, self.stft.freqs, sample_rate, config.doa_classes, any_domain)
        sizes_front = FrontEndSizes(geometry, config.talkers)
        front_end: Any = build_front_end(config.front_end, config.front_end_options, sizes_front)
        self.front_end: nn.Module = front_end
        features_in, freqs = front_end.features_out, getattr(front_end, "bins_out", self.stft.freqs)
        make_encoder = partial(build_encoder, config.encoder, config.encoder_options, features_in, freqs)
        sizes_sharing = SharingSizes(config.talkers, config.doa_classes + config.variable_num_speakers)
        sharing = SHARING_SCHEMES.build(
            config.sharing, config.sharing_options, make_encoder=make_encoder, sizes=sizes_sharing
        )
        self.sharing, self.penalty = sharing, sharing.penalty
        sizes = HeadSizes(geometry, sharing.features_doa, config.talkers, config.variable_num_speakers)
        self.doa_head = build_head("doa", config.doa_head, config.doa_options, sizes)
        of_slots = sizes._replace(features=sharing.features_separation, per_slot=sharing.per_slot)
        self.separation_head = build_head("separation", config.separation_head, config.separation_options, of_slots)
        needs = getattr(self.separation_head, "needs_causal_doa", False)
        if needs and not getattr(self.doa_head, "causal", False):
            missing = f"needs a causal DoA head: set model.doa_options.causal (DoA head '{config.doa_head}')"
            raise MsdetError(f"separation head '{config.separation_head}' is causal and {missing}")
        heads = {name: build_task_head(name, options, sizes) for name, options in config.tasks.items()}
        self.task_heads = nn.ModuleDict({_key(name): head for name, head in heads.items()})
        if hasattr(front_end, "bins_out"):
            self._check_takes_directions()

    def forward(self, mixture: Tensor, separate: bool = True) -> JointOutput:
        """Separate and localize waveforms ``(batch, mic, time)``; without `separate`, localize alone, which is quicker.

        Then the output has no spectra, no prediction of separation, and the waveforms are silence.
        """
        if mixture.shape[1] != self.array.microphones:
            expected = f"the model's array '{self.array.name}' has {self.array.microphones}"
            raise MsdetError(f"the mixture has {mixture.shape[1]} channels, {expected}")
        reference = mixture[:, self.array.reference, None]
        level = reference.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        front_end: FrontEndOutput = self.front_end(self.stft(mixture / level))
        shared = self.sharing(front_end.features, lambda features: self.doa_head(features, front_end))
        logits = final_frame_logits(shared.logits)
        doa_logits = logits[..., : self.config.doa_classes]
        seen = None if getattr(self.separation_head, "sees_occupancy", False) else self.config.doa_classes
        spectra: tuple[Tensor, ...] = ()
        if separate:
            spectra = self.separation_head(shared.separation, front_end, shared.logits[..., :seen])
        resynthesize = partial(self.stft.inverse, samples=mixture.shape[-1])
        passes = tuple(Signals(spectrum, resynthesize) for spectrum in spectra)
        occupancy = slot_occupancy(logits, self.config.doa_classes)
        predictions: dict[str, Any] = {"separation": SeparationPasses(passes)} if separate else {}
        predictions["doa"] = logits
        predictions |= {name: self.task_head(name)(shared.doa, front_end) for name in self.config.tasks}
        if passes:
            waveforms = passes[-1].waveform * level
        else:
            waveforms = mixture.new_zeros(len(mixture), self.config.talkers, mixture.shape[-1])
        elevation_deg = None
        if front_end.elevation_deg is not None:
            elevation_deg = elevation_at(front_end.elevation_deg, decode_azimuth(doa_logits)[0])
        return JointOutput(waveforms, spectra, doa_logits, occupancy, level, shared.doa, predictions, elevation_deg)

    def separate_along(self, mixture: Tensor, azimuth_deg: Tensor) -> tuple[Tensor, Tensor]:
        """Voices ``(talker, time)`` of talkers who move, and their elevations in degrees ``(talker, frame)``.

        The mixture is ``(1, mic, time)``, azimuths are ``(talker, any)`` in degrees, evenly over it. For separation
        heads that take directions (`directional_filter`).
        """
        level = mixture[:, self.array.reference, None].square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        front_end: FrontEndOutput = self.front_end(self.stft(mixture / level))
        frames = front_end.spectrum.shape[-1]
        place = torch.linspace(0, azimuth_deg.shape[-1] - 1, frames, device=mixture.device).round().long()
        azimuth_deg = azimuth_deg[:, place]
        elevation_deg = elevation_at(front_end.elevation_deg, azimuth_deg.flatten()[None]).view_as(azimuth_deg)
        head: Any = self.separation_head
        window = round(WINDOW_S * self.sample_rate / self.stft.hop)
        voices = head.along(front_end.spectrum, azimuth_deg, elevation_deg, window)
        return self.stft.inverse(voices[None], samples=mixture.shape[-1])[0] * level[0], elevation_deg

    def _check_takes_directions(self) -> None:
        """Refuse heads that know nothing of features of directions."""
        for name, head in self._heads().items():
            if not getattr(head, "of_directions", False):
                problem = f"gives features of directions, which {name} does not take"
                raise MsdetError(f"front end '{self.config.front_end}' {problem}")

    def _heads(self) -> dict[str, nn.Module]:
        """All heads, by what errors call them."""
        c = self.config
        return {
            f"DoA head '{c.doa_head}'": self.doa_head,
            f"separation head '{c.separation_head}'": self.separation_head,
            **{f"the head of task '{n}'": h for n, h in zip(c.tasks, self.task_heads.values(), strict=True)},
        }

    def may_be_told(self, talkers: int) -> bool:
        """Whether `tell` can be told of so many talkers."""
        return hasattr(self.doa_head, "told") and 1 <= talkers <= self.config.talkers

    def tell(self, talkers: int | None) -> None:
        """Find so many talkers in every recording; None: as many as there seem to be. For heads that can be told."""
        if talkers is not None and not self.may_be_told(talkers):
            raise MsdetError(f"talkers is {talkers}: the model finds {self.config.talkers} or cannot be told")
        head: Any = self.doa_head
        head.told = talkers

    @property
    def bound_parts(self) -> list[str]:
        """The parts whose weights belong to the array."""
        bound = [f"front end '{self.config.front_end}'"] if self.front_end.array_bound else []
        return bound + [name for name, head in self._heads().items() if getattr(head, "array_bound", False)]

    def check_array(self, array: MicrophoneArray) -> None:
        """Refuse another array, if a part is bound to the present one."""
        same = (array.positions_m, array.reference) == (self.array.positions_m, self.array.reference)
        if not same and (bound := self.bound_parts):
            reason = f"{' and '.join(bound)} cannot serve another"
            raise MsdetError(f"is for the array '{self.array.name}' alone, not for '{array.name}': {reason}")

    def place(self, array: MicrophoneArray) -> None:
        """Go on with another array and the same weights, if no part is bound to the present one."""
        if array == self.array:
            return
        self.check_array(array)
        self.geometry.place(array)
        self.array = array
        for module in self.modules():
            use: Any = getattr(module, "use_geometry", None)
            if use is not None:
                use()

    def task_head(self, name: str) -> nn.Module:
        """The head of an auxiliary task."""
        return self.task_heads[_key(name)]


def _key(name: str) -> str:
    """A task's name as a module's, which has no dots."""
    return name.replace(".", "_").replace(":", "__")
