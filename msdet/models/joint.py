"""The joint model: transform, encode, localize, separate."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.dsp.stft import SeparationPasses, Signals, Stft, window_samples
from msdet.errors import MsdetError
from msdet.models.config import ModelConfig
from msdet.models.encoders import build_encoder
from msdet.models.frontends import ArrayGeometry, FrontEndOutput, FrontEndSizes, build_front_end, final_frame_logits
from msdet.models.heads import HeadSizes, build_head, build_task_head, slot_occupancy
from msdet.models.sharing import SHARING_SCHEMES, SharingSizes

LIMITS = {"doa_classes": (8, 720), "talkers": (1, 16)}
"""Least and most of settings that sizes multiply by."""


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
    """

    waveforms: Tensor
    spectra: tuple[Tensor, ...]
    doa_logits: Tensor
    occupancy: Tensor
    level: Tensor
    features: Tensor
    predictions: dict[str, Any]


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
        geometry = ArrayGeometry(array, self.stft.freqs, sample_rate, config.doa_classes)
        sizes_front = FrontEndSizes(geometry, config.talkers)
        front_end: Any = build_front_end(config.front_end, config.front_end_options, sizes_front)
        self.front_end: nn.Module = front_end
        features_in, freqs = front_end.features_out, self.stft.freqs
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

    def forward(self, mixture: Tensor) -> JointOutput:
        """Separate and localize waveforms ``(batch, mic, time)``."""
        if mixture.shape[1] != self.array.microphones:
            expected = f"the model's array '{self.array.name}' has {self.array.microphones}"
            raise MsdetError(f"the mixture has {mixture.shape[1]} channels, {expected}")
        reference = mixture[:, self.array.reference, None]
        level = reference.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        front_end: FrontEndOutput = self.front_end(self.stft(mixture / level))
        shared = self.sharing(front_end.features, lambda features: self.doa_head(features, front_end))
        logits = final_frame_logits(shared.logits)
        doa_logits = logits[..., : self.config.doa_classes]
        spectra = self.separation_head(shared.separation, front_end, shared.logits[..., : self.config.doa_classes])
        resynthesize = partial(self.stft.inverse, samples=mixture.shape[-1])
        passes = tuple(Signals(spectrum, resynthesize) for spectrum in spectra)
        occupancy = slot_occupancy(logits, self.config.doa_classes)
        predictions: dict[str, Any] = {"separation": SeparationPasses(passes), "doa": logits}
        predictions |= {name: self.task_head(name)(shared.doa, front_end) for name in self.config.tasks}
        waveforms = passes[-1].waveform * level
        return JointOutput(waveforms, spectra, doa_logits, occupancy, level, shared.doa, predictions)

    def task_head(self, name: str) -> nn.Module:
        """The head of an auxiliary task."""
        return self.task_heads[_key(name)]


def _key(name: str) -> str:
    """A task's name as a module's, which has no dots."""
    return name.replace(".", "_").replace(":", "__")
