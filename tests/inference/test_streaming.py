"""A stream in any pieces gives what the causal model gives of the whole; what cannot stream says why."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msdet.arrays import load_array
from msdet.cli import parse_options
from msdet.commands.train import train
from msdet.data.dataset import RenderedDataset
from msdet.data.example import Example
from msdet.data.scene_set import SceneSet
from msdet.dsp.spatial import decode_azimuth
from msdet.errors import MsdetError
from msdet.inference.streaming import Streamer, StreamResult, why_not
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS
from msdet.models.joint import JointModel
from msdet.tasks.labels import batch_labels
from msdet.training.config import ObjectiveConfig
from msdet.training.objective import Objective

RATE = 8000
CAUSAL = {"causal": True}
ENCODER = {"hidden": 8, "group": 8, "causal": True}
SEPARATION: dict[str, dict[str, Any]] = {
    "reference_mask": {},
    "complex_mapping": {},
    "multi_frame_filter": {},
    "masked_mvdr": {"causal": True, "frames": 2},
    "steered_beam": {"causal": True, "frames": 3, "update_interval": 3},
}
FRONT_END_OPTIONS: dict[str, dict[str, Any]] = {
    "real_imaginary": CAUSAL,
    "tac": {"causal": True, "hidden": 8, "blocks": 1, "directions": 4, "features": 8},
    "steered": {"causal": True, "peaks": 1, "update_interval": 4},
}


def built(config: ModelConfig, rate: int = RATE) -> JointModel:
    """A model that has left its starting point."""
    torch.manual_seed(0)
    model = JointModel(config, load_array("circular4_5cm"), rate).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def configured(**changes: Any) -> ModelConfig:
    """A small causal model."""
    settings: dict[str, Any] = {
        "window_s": 0.016,
        "front_end": "real_imaginary",
        "front_end_options": CAUSAL,
        "encoder_options": ENCODER,
        "doa_head": "pooled",
        "doa_options": CAUSAL,
        "separation_head": "reference_mask",
        "doa_classes": 36,
    }
    return ModelConfig(**{**settings, **changes})


def noise(samples: int, mics: int = 4) -> Tensor:
    """Quiet noise, so that the level matters, with a silent start."""
    made = 0.03 * torch.randn(mics, samples, generator=torch.Generator().manual_seed(1))
    made[:, :100] = 0.0
    return made


def cuts(samples: int, seed: int) -> list[int]:
    """Random lengths of chunks."""
    rng = np.random.default_rng(seed)
    lengths: list[int] = []
    while sum(lengths) < samples:
        lengths.append(int(rng.choice([1, 3, 63, 64, 65, 190, 777])))
    return [*lengths[:-1], samples - sum(lengths[:-1])]


def streamed(streamer: Streamer, mixture: Tensor, lengths: list[int]) -> tuple[npt.NDArray[Any], StreamResult]:
    """Joined voices, and the last result."""
    results = [streamer.push(chunk) for chunk in mixture.split(lengths, dim=1)]
    results.append(streamer.finish())
    times = np.concatenate([r.time_s for r in results])
    hop_s = streamer.model.stft.hop / streamer.model.sample_rate
    np.testing.assert_allclose(times, hop_s * np.arange(len(times)), atol=1e-9)
    assert all(r.azimuth_deg.shape == (streamer.model.config.talkers, len(r.time_s)) for r in results)
    return np.concatenate([r.estimates for r in results], axis=1), results[-1]


def same_as_offline(config: ModelConfig, samples: int = 1200, chunkings: int = 1) -> None:
    model, mixture = built(config), noise(samples)
    with torch.no_grad():
        whole = model(mixture[None])
    expected = whole.waveforms[0].numpy()
    assert np.abs(expected).max() > 1e-4
    streamer = Streamer(model)
    for lengths in [[samples], *(cuts(samples, seed) for seed in range(chunkings))]:
        voices, last = streamed(streamer, mixture, lengths)
        assert voices.shape == expected.shape
        assert np.abs(voices - expected).max() <= 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(last.doa_logits[:, -1], whole.doa_logits[0], atol=1e-3)
        np.testing.assert_allclose(last.occupancy[:, -1], whole.occupancy[0], atol=1e-3)


@pytest.mark.parametrize(
    ("front_end", "doa_head", "separation_head"),
    list(itertools.product(FRONT_END_OPTIONS, ("pooled", "steered"), SEPARATION)),
)
def test_any_chunking_gives_what_the_model_gives_of_the_whole(
    front_end: str, doa_head: str, separation_head: str
) -> None:
    variable_num_speakers = doa_head == "steered"
    same_as_offline(
        configured(
            front_end=front_end,
            front_end_options=FRONT_END_OPTIONS[front_end],
            doa_head=doa_head,
            variable_num_speakers=variable_num_speakers,
            separation_head=separation_head,
            separation_options=SEPARATION[separation_head],
        )
    )


@pytest.mark.parametrize("front_end", FRONT_END_OPTIONS)
@pytest.mark.parametrize("doa_head", ["pooled", "steered"])
def test_any_chunking_of_a_model_that_forgets(front_end: str, doa_head: str) -> None:
    config = configured(
        front_end=front_end,
        front_end_options={**FRONT_END_OPTIONS[front_end], "time_constant_s": 0.1},
        doa_head=doa_head,
        doa_options={**CAUSAL, "time_constant_s": 0.05, **({"update_interval": 5} if doa_head == "steered" else {})},
        variable_num_speakers=True,
        separation_head="masked_mvdr",
        separation_options={**CAUSAL, "time_constant_s": 0.2},
    )
    same_as_offline(config, samples=6000)  # more frames than are worked on at once, or forgotten together


def shipped() -> ModelConfig:
    """The shipped configuration."""
    arguments = ["--config", "streaming", "--out", "x", "--data.dev", "y"]
    config: ModelConfig = parse_options(train, arguments, "train")["model"]
    return config


def streaming_encoders() -> list[str]:
    return [name for name in ENCODERS.names() if hasattr(ENCODERS.find(name), "stream")]


@pytest.mark.parametrize("sharing", ["hard", "none", "soft", "cross_stitch"])
@pytest.mark.parametrize("encoder", streaming_encoders())
def test_any_chunking_for_every_encoder_and_sharing_scheme(encoder: str, sharing: str) -> None:
    if sharing == "cross_stitch" and encoder in ("conv_tasnet", "dense_unet"):
        return  # they show no blocks
    tiny = ENCODERS.fact(encoder, "tiny", {})
    options: dict[str, Any] = {**tiny, **CAUSAL}
    if encoder == "dense_unet":
        options["channels"] = 12  # norms over a few channels magnify rounding errors
    same_as_offline(configured(encoder=encoder, encoder_options=options, sharing=sharing))


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("dense_unet", {"channels": 12, "layers": 3, "middle": "tcn", "middle_width": 8, "middle_layers": 1}),
        ("tfgridnet", {"blocks": 2, "width": 8, "hidden": 6, "heads": 2, "window": 4, "stride": 3}),
        ("conv_tasnet", {"bottleneck": 6, "hidden": 8, "skip": 0, "blocks": 2, "repeats": 2, "per_bin": 2}),
        ("spatialnet", {"blocks": 1, "hidden": 16, "ffn": 16, "squeeze": 2, "context": 1}),
    ],
)
def test_any_chunking_of_encoders_with_other_options(encoder: str, options: dict[str, Any]) -> None:
    same_as_offline(configured(encoder=encoder, encoder_options={**options, **CAUSAL}), samples=2500)


def test_tracks_and_activity_of_any_chunking() -> None:
    model = built(configured(tasks={"activity": {}, "tracking": CAUSAL, "count": {}}))
    mixture = noise(4000)
    with torch.no_grad():
        whole = model(mixture[None]).predictions
    streamer = Streamer(model)
    results = [streamer.push(chunk) for chunk in mixture.split(cuts(4000, 0), dim=1)]
    results.append(streamer.finish())
    activity = np.concatenate([r.activity for r in results if r.activity is not None], axis=1)
    np.testing.assert_allclose(activity, whole["activity"][0].sigmoid(), atol=1e-4)
    confidence = np.concatenate([r.confidence for r in results], axis=1)
    np.testing.assert_allclose(confidence, decode_azimuth(whole["tracking"])[1][0], atol=1e-3)


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 128])
def test_recordings_of_a_few_samples(samples: int) -> None:
    model = built(configured())
    mixture = torch.randn(4, samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(mixture[None]).waveforms[0].numpy()
    voices, _ = streamed(Streamer(model), mixture, [samples])
    np.testing.assert_allclose(voices, expected, atol=1e-4 * np.abs(expected).max())


def test_nothing_is_nothing() -> None:
    streamer = Streamer(built(configured(tasks={"activity": {}})))
    for result in (streamer.push(np.zeros((4, 0), dtype=np.float32)), streamer.finish()):
        assert result.estimates.shape == (2, 0)
        assert result.azimuth_deg.shape == (2, 0)
        assert result.activity is not None and result.activity.shape == (2, 0)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_no_sample_depends_on_input_after_its_latency(rate: int) -> None:
    """The shipped configuration: what is changed later than a sample's latency changes nothing of it."""
    model = built(shipped(), rate)
    streamer = Streamer(model)
    assert streamer.latency_s <= 0.040
    latency = round(streamer.latency_s * rate)
    mixture, start = 0.1 * torch.randn(4, 9 * latency), 5 * latency + 17
    voices, _ = streamed(streamer, mixture, [mixture.shape[1]])
    for change in ("impulse", "rest"):
        changed = mixture.clone()
        changed[:, start : start + 1 if change == "impulse" else None] += 1.0
        found, _ = streamed(streamer, changed, cuts(changed.shape[1], 0))
        difference = np.abs(found - voices)
        assert difference[:, : start - latency + 1].max() <= 1e-5 * np.abs(voices).max()
        assert difference[:, start - latency + 1 :].max() > 1e-2 * np.abs(voices).max()
    with torch.no_grad():
        before, after = (model(x[None]).waveforms[0] for x in (mixture, changed))
    assert (before - after)[:, : start - latency + 1].abs().max() <= 1e-5 * before.abs().max()


def test_voices_are_given_as_soon_as_the_latency_allows() -> None:
    streamer = Streamer(built(configured()))
    latency = round(streamer.latency_s * RATE)
    given = 0
    for pushed in range(1, 5 * latency):
        given += streamer.push(noise(1)).estimates.shape[1]
        assert given == max(0, pushed // (latency // 2) - 1) * (latency // 2)


def test_a_kept_state_goes_on_from_there() -> None:
    streamer = Streamer(built(configured(separation_head="masked_mvdr", separation_options=CAUSAL)))
    mixture = noise(2000)
    streamer.push(mixture[:, :777])
    kept, deep = streamer.state, copy.deepcopy(streamer.state)
    first = [streamer.push(mixture[:, 777:]).estimates, streamer.finish().estimates]
    for state in (kept, deep):
        streamer.state = state
        again = [streamer.push(mixture[:, 777:]).estimates, streamer.finish().estimates]
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
    streamer.push(mixture)
    streamer.reset()
    voices, _ = streamed(streamer, mixture, [2000])
    fresh, _ = streamed(Streamer(streamer.model), mixture, [2000])
    np.testing.assert_array_equal(voices, fresh)


def tensors(memory: Any) -> int:
    """Bytes of all tensors of a memory."""
    if isinstance(memory, Tensor):
        return memory.untyped_storage().nbytes()
    if isinstance(memory, dict):
        memory = list(memory.values())
    return sum(map(tensors, memory)) if isinstance(memory, (list, tuple)) else 0


@pytest.mark.parametrize("encoder", streaming_encoders())
def test_the_memory_of_a_stream_does_not_grow(encoder: str) -> None:
    tiny = ENCODERS.fact(encoder, "tiny", {})
    config = configured(
        encoder=encoder,
        encoder_options={**tiny, **CAUSAL},
        separation_head="steered_beam",
        separation_options=SEPARATION["steered_beam"],
        tasks={"activity": {}, "tracking": CAUSAL},
    )
    streamer = Streamer(built(config))
    sizes = []
    for chunk in noise(2560).split(64, dim=1):
        streamer.push(chunk)
        sizes.append(tensors(vars(streamer.state)))
    assert len(set(sizes[20:])) == 1
    streamer.push(noise(5000))
    streamer.push(noise(64 - 5000 % 64))
    assert tensors(vars(streamer.state)) <= 1.01 * sizes[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"front_end_options": {}}, "front end 'real_imaginary' is not causal; train with .*front_end_opt"),
        ({"encoder_options": {}}, "encoder 'ft_mingru' is not causal; train with model.encoder_options.causal"),
        (
            {"encoder": "dprnn", "encoder_options": {}},
            "encoder 'dprnn' is not causal; causal encoders: band_gru, band_mingru, conv_tasnet, dense_unet, ft_gru",
        ),
        ({"doa_options": {}}, "DoA head 'pooled' is not causal; train with model.doa_options.causal true"),
        ({"separation_head": "masked_mvdr"}, "separation head 'masked_mvdr' is not causal; train with"),
        ({"separation_head": "steered_beam"}, "separation head 'steered_beam' is not causal; train with"),
        (
            {"encoder_options": {**ENCODER, "blocks": 2}, "sharing": "hierarchical"},
            "sharing scheme 'hierarchical' is not causal; .* that can stream: cross_stitch, hard, none, soft",
        ),
    ],
)
def test_a_part_that_cannot_stream_is_named_with_what_can(changes: dict[str, Any], message: str) -> None:
    model = built(configured(**changes))
    with pytest.raises(MsdetError, match=f"cannot stream: {message}") as error:
        Streamer(model)
    assert "\n" not in str(error.value)
    assert why_not(model) is not None


def test_a_causal_beam_needs_a_causal_doa_head() -> None:
    config = configured(doa_options={}, separation_head="steered_beam", separation_options=CAUSAL)
    with pytest.raises(MsdetError, match=r"needs a causal DoA head: set model\.doa_options\.causal"):
        built(config)


OWN = """
import torch


class Silent(torch.nn.Module):
    causal, features_out = True, 3

    def __init__(self, features_in):
        super().__init__()
        self.layer = torch.nn.Linear(features_in, 3)

    def forward(self, features):
        return self.layer(features)


class Streaming(Silent):
    def forward(self, features):
        return self.stream(features, None)[0]

    def stream(self, features, memory):
        encoded = self.layer(features)
        before = torch.zeros_like(encoded[:, :, :1]) if memory is None else memory
        joined = torch.cat([before, encoded], dim=2)
        return encoded + joined[:, :, :-1], encoded[:, :, -1:]
"""


def test_a_streaming_encoder_of_a_user_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_streams.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    same_as_offline(configured(encoder="own_streams:Streaming", encoder_options={}))
    with pytest.raises(MsdetError, match="'own_streams:Silent' is causal but has no method 'stream'"):
        Streamer(built(configured(encoder="own_streams:Silent", encoder_options={})))


def test_the_encoder_of_the_documentation_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "pages" / "streaming.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    text = next(block for block in blocks if "my_smoother.py" in block)
    (tmp_path / "my_smoother.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    same_as_offline(configured(encoder="my_smoother:Encoder", encoder_options={"width": 6}))


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros((3, 10)), r"chunk is \(3, 10\) of float64, expected floats \(mic, time\) of the 4"),
        (np.zeros(10), r"chunk is \(10,\)"),
        (np.zeros((4, 10), dtype=np.int16), "of int16"),
        (np.full((4, 10), np.nan), "chunk holds NaN"),
    ],
)
def test_a_bad_chunk_is_refused_and_changes_nothing(chunk: npt.NDArray[Any], message: str) -> None:
    streamer = Streamer(built(configured()))
    with pytest.raises(MsdetError, match=message):
        streamer.push(chunk)
    assert streamer.state.samples == 0


def test_causal_heads_end_with_what_they_say_of_the_whole_without() -> None:
    """The same weights, not causal: a causal pool has seen everything at the end."""
    causal = built(configured())
    whole = built(configured(doa_options={}))
    whole.load_state_dict(causal.state_dict())
    with torch.no_grad():
        a, b = (m(noise(2000)[None]).doa_logits for m in (causal, whole))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_shipped_configuration_learns_and_streams(dev_set: SceneSet) -> None:
    config = shipped()
    torch.manual_seed(0)
    model = JointModel(config, dev_set.array, dev_set.sample_rate)
    objective = Objective(ObjectiveConfig(), config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch: Example = next(iter(DataLoader(RenderedDataset(dev_set), batch_size=1)))
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        output = model(batch["mixture"])
        total = objective(output.predictions, batch_labels(batch, model.stft, 0, output.level)).total
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.95 * losses[0]
    with torch.no_grad():
        expected = model.eval()(batch["mixture"]).waveforms[0].numpy()
    mixture = batch["mixture"][0]
    voices, _ = streamed(Streamer(model), mixture, cuts(mixture.shape[1], 3))
    assert np.abs(voices - expected).max() <= 1e-4 * np.abs(expected).max()
