"""A small model with every auxiliary task, a batch of two labeled scenes, and labels written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from msdet.arrays import MicrophoneArray
from msdet.data.example import Example, TalkerPosition, make_example
from msdet.dsp.stft import Signals
from msdet.models.config import ModelConfig
from msdet.models.frontends import ArrayGeometry
from msdet.models.heads import TASKS, HeadSizes
from msdet.tasks.labels import BatchLabels

RATE, SAMPLES, FREQS = 8000, 4000, 129


@pytest.fixture(scope="session")
def tetrahedron() -> MicrophoneArray:
    """Four microphones that span space, so that elevation can be told."""
    corners = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    return MicrophoneArray("tetrahedron", tuple((0.04 * x, 0.04 * y, 0.04 * z) for x, y, z in corners))


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ModelConfig]:
    """Settings of a small model with some tasks; all that msdet ships if none is named."""

    def make(*tasks: str, **changes: Any) -> ModelConfig:
        of_bins = [name for name in TASKS.names() if not getattr(TASKS.find(name).Head, "of_directions", False)]
        named: dict[str, Any] = {name: {} for name in tasks or of_bins}
        small: dict[str, Any] = {"encoder_options": {"hidden": 8, "group": 8}, "window_s": 0.032, "doa_classes": 24}
        return ModelConfig(**({"tasks": named} | small | changes))

    return make


@pytest.fixture(scope="session")
def sizes(tetrahedron: MicrophoneArray) -> HeadSizes:
    """Of heads for two talkers, 24 azimuth classes and 8 features a bin."""
    return HeadSizes(ArrayGeometry(tetrahedron, FREQS, RATE, 24), features=8, talkers=2)


@pytest.fixture
def batch() -> Example:
    """Half a second: a scene of two talkers, of whom one speaks in its first half, and a scene of one."""
    rng = np.random.default_rng(0)
    speech = rng.standard_normal((2, 2, SAMPLES)).astype(np.float32)
    speech[0, 1, SAMPLES // 2 :] = 0.0
    heard = rng.standard_normal((2, 4, 2)).astype(np.float32)  # gains are enough for shapes and gradients
    walk = np.array([340.0, 350.0, 0.0, 10.0, 20.0, 30.0])
    places = [
        [TalkerPosition(340.0, 20.0, 1.5, walk), TalkerPosition(100.0, -30.0, 2.5)],
        [TalkerPosition(200.0, 5.0, 0.8)],
    ]
    scenes = []
    for n, talkers in enumerate(places):
        references = speech[n, : len(talkers)]
        mixture = heard[n][:, : len(talkers)] @ references + 0.01 * rng.standard_normal((4, SAMPLES))
        scenes.append(make_example(mixture, references, talkers, 2, RATE, 0.3 + 0.2 * n, 3 + n, n))
    collated: Example = default_collate(scenes)
    return collated


@pytest.fixture(scope="session")
def truth_with() -> Callable[..., BatchLabels]:
    """Labels of one scene of two slots and ten frames; what is not given is not known."""

    def make(**labels: Any) -> BatchLabels:
        spectrum = torch.zeros(1, 2, 5, 10, dtype=torch.complex64)
        truth = BatchLabels(
            references=Signals(spectrum, torch.real),
            mixture=torch.zeros(1, 36),
            referenced=torch.tensor([False]),
            active=torch.tensor([[True, True]]),
            azimuth_deg=torch.full((1, 2), torch.nan),
            elevation_deg=torch.full((1, 2), torch.nan),
            distance_m=torch.full((1, 2), torch.nan),
            track_deg=torch.full((1, 2, 4), torch.nan),
            t60_s=torch.tensor([torch.nan]),
            domain=torch.tensor([-1]),
        )
        tensors: dict[str, Any] = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in labels.items()}
        return truth._replace(**tensors)

    return make


@pytest.fixture(scope="session")
def plane_wave(sizes: HeadSizes) -> Callable[[list[int]], Tensor]:
    """Makes the spectrum ``(1, mic, freq, frame)`` of noise that comes from a class in each frame."""

    def make(classes: list[int]) -> Tensor:
        noise = torch.randn(FREQS, len(classes), generator=torch.Generator().manual_seed(0))
        steering = sizes.geometry.steering[classes]  # (frame, freq, mic)
        return (steering.permute(2, 1, 0) * noise)[None]

    return make
