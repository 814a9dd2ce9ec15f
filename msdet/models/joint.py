"""The joint model: transform, encode, localise, separate."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from msdet.arrays import MicrophoneArray
from msdet.components import build
from msdet.errors import MsdetError, UnknownNameError
from msdet.models.config import ModelConfig
from msdet.models.encoders import build_encoder
from msdet.models.frontend import FRONT_ENDS, ArrayGeometry, Observation, Stft, window_samples
from msdet.models.heads import PooledDoa, ReferenceMask, SteeredBeam, SteeredDoa

DOA_HEADS = {"pooled": PooledDoa, "steered": SteeredDoa}
SEPARATION_HEADS = {"reference_mask": ReferenceMask, "steered_beam": SteeredBeam}


class JointOutput(NamedTuple):
    """What a joint model gives.

    Attributes:
        waveforms: each talker at the reference microphone, ``(batch, talker, time)``.
        spectra: estimates at unit mixture level, each complex ``(batch, talker, freq, frame)``, the last one
            final.
        doa_logits: ``(batch, talker, class)``.
        level: RMS ``(batch, 1, 1)`` of the mixture at the reference microphone.
        features: the encoder's, ``(batch, freq, frame, feature)``.
    """

    waveforms: Tensor
    spectra: tuple[Tensor, ...]
    doa_logits: Tensor
    level: Tensor
    features: Tensor


class JointModel(nn.Module):
    """One encoder, two heads: who is where, and what each says.

    Args:
        config: names and options of the parts.
        array: geometry of the microphones.
        sample_rate: hertz.

    Raises:
        MsdetError: an unknown part or option; the nearest name is offered.
    """

    def __init__(self, config: ModelConfig, array: MicrophoneArray, sample_rate: int) -> None:
        super().__init__()
        if config.doa_classes < 8 or config.talkers < 1:
            raise MsdetError(
                f"doa_classes is {config.doa_classes} and talkers {config.talkers}, expected at least 8 and 1"
            )
        self.config = config
        self.array = array
        self.sample_rate = sample_rate
        self.stft = Stft(window_samples(config.window_s, sample_rate))
        geometry = ArrayGeometry(array, self.stft.freqs, sample_rate, config.doa_classes)
        self.front_end: nn.Module = _part(
            FRONT_ENDS,
            config.front_end,
            "front end",
            {},
            geometry=geometry,
            microphones=array.microphones,
            talkers=config.talkers,
        )
        width = self.front_end.features_out
        assert isinstance(width, int)
        encoder = build_encoder(config.encoder, config.encoder_options, width, self.stft.freqs)
        if not isinstance(encoder, nn.Module):
            raise MsdetError(f"encoder '{config.encoder}' is not a torch.nn.Module")
        self.encoder: nn.Module = encoder
        sizes = {"geometry": geometry, "features": encoder.features_out, "talkers": config.talkers}
        self.doa_head: nn.Module = _part(DOA_HEADS, config.doa_head, "DoA head", {}, **sizes)
        self.separation_head: nn.Module = _part(
            SEPARATION_HEADS, config.separation_head, "separation head", config.separation_options, **sizes
        )

    def forward(self, mixture: Tensor) -> JointOutput:
        """Separate and localise.

        Args:
            mixture: waveforms ``(batch, mic, time)``.
        """
        reference = mixture[:, self.array.reference, None]
        level = reference.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        observation: Observation = self.front_end(self.stft(mixture / level))
        features = self.encoder(observation.features)
        doa_logits = self.doa_head(features, observation)
        spectra = self.separation_head(features, observation, doa_logits)
        waveforms = self.stft.inverse(spectra[-1], mixture.shape[-1]) * level
        return JointOutput(waveforms, spectra, doa_logits, level, features)


def _part(table: dict[str, Any], name: str, kind: str, options: dict[str, Any], **sizes: Any) -> nn.Module:
    if name not in table:
        raise UnknownNameError(kind, name, table)
    module: nn.Module = build(table[name], options, f"{kind} '{name}'", **sizes)
    return module
