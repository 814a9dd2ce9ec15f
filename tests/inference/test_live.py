"""Chunks as programs give them, streams that follow one another, and what is kept of a long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from msdet.arrays import load_array
from msdet.errors import MsdetError
from msdet.inference.live import Session
from msdet.inference.results import scratch
from msdet.inference.streaming import Streamer
from msdet.inference.tracking import FrameLog
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

RATE = 8000
CAUSAL = {"causal": True, "time_constant_s": 5.0}
Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def model() -> JointModel:
    """A small causal model that forgets."""
    torch.manual_seed(0)
    config = ModelConfig(
        window_s=0.032,
        front_end="real_imaginary",
        front_end_options=CAUSAL,
        encoder_options={"hidden": 8, "group": 16, "causal": True},
        doa_head="pooled",
        doa_options=CAUSAL,
        separation_head="reference_mask",
        doa_classes=36,
    )
    return JointModel(config, load_array("circular4_5cm"), RATE)


def noise(seconds: float, seed: int = 0) -> Array:
    return 0.05 * np.random.default_rng(seed).standard_normal((4, round(seconds * RATE)), dtype=np.float32)


def voices_of(streamer: Streamer, chunks: list[Any]) -> Array:
    return np.concatenate([*(streamer.push(chunk).estimates for chunk in chunks), streamer.finish().estimates], 1)


def from_socket(samples: Array) -> Array:
    """Read-only, and time before channel, as bytes come from another program."""
    content = np.ascontiguousarray(samples.T).tobytes()
    return np.frombuffer(content, dtype=np.float32).reshape(-1, len(samples)).T


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(from_socket, id="read-only"),
        pytest.param(lambda samples: samples[::-1].copy()[::-1], id="channels turned round"),
        pytest.param(lambda samples: samples.astype(">f4"), id="other byte order"),
        pytest.param(lambda samples: samples.astype(np.float64), id="double"),
        pytest.param(lambda samples: samples.tolist(), id="lists"),
        pytest.param(lambda samples: torch.tensor(samples, requires_grad=True), id="tensor that learns"),
    ],
)
def test_chunks_of_any_kind_are_the_same_samples(model: JointModel, given: Any) -> None:
    samples = noise(0.2)
    expected = voices_of(Streamer(model), [samples])
    found = voices_of(Streamer(model), [given(samples[:, :700]), given(samples[:, 700:])])
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_a_buffer_may_be_used_again(model: JointModel) -> None:
    samples, buffer, streamer = noise(0.2), np.empty((4, 400), dtype=np.float32), Streamer(model)
    found = []
    for start in range(0, samples.shape[1], 400):
        buffer[:] = samples[:, start : start + 400]
        found.append(streamer.push(buffer).estimates)
        buffer[:] = 1.0
    joined = np.concatenate([*found, streamer.finish().estimates], axis=1)
    np.testing.assert_allclose(joined, voices_of(Streamer(model), [samples]), atol=1e-6)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.full((4, 10), 1e300), "chunk holds NaN or infinite samples"),
        (np.full((4, 10), 1e24, dtype=np.float32), "chunk holds samples up to 1e+24, expected full scale 1"),
    ],
)
def test_samples_that_no_spectrum_holds_are_refused(model: JointModel, chunk: Array, message: str) -> None:
    streamer = Streamer(model)
    with pytest.raises(MsdetError) as caught:
        streamer.push(chunk)
    assert str(caught.value) == message
    assert streamer.state.samples == 0
    assert np.isfinite(voices_of(streamer, [1e10 * noise(0.1)])).all()  # the largest that is taken


def test_two_streams_of_one_model_do_not_meet(model: JointModel) -> None:
    signals = [noise(0.3, seed) for seed in range(2)]
    expected = [voices_of(Streamer(model), [signal]) for signal in signals]
    streamers = [Streamer(model) for _ in signals]
    found: list[list[Array]] = [[], []]
    for start in range(0, signals[0].shape[1], 300):
        for given, streamer, signal in zip(found, streamers, signals, strict=True):
            given.append(streamer.push(signal[:, start : start + 300]).estimates)
    for given, streamer, wanted in zip(found, streamers, expected, strict=True):
        joined = np.concatenate([*given, streamer.finish().estimates], axis=1)
        np.testing.assert_allclose(joined, wanted, atol=1e-6 * np.abs(wanted).max())


def test_after_the_end_another_recording_begins(model: JointModel) -> None:
    streamer, samples = Streamer(model), noise(0.3)
    first = voices_of(streamer, [samples])
    assert streamer.finish().estimates.shape == (2, 0)
    np.testing.assert_array_equal(voices_of(streamer, [samples]), first)


def test_a_session_knows_nothing_of_a_stream_before(model: JointModel, tmp_path: Path) -> None:
    streamer, kept = Streamer(model), []
    for leftover in (None, noise(0.5, seed=5)):
        if leftover is not None:
            streamer.push(leftover)
        with scratch(tmp_path) as file:
            session = Session(streamer, RATE, file)
            session.push(noise(0.7))
            session.finish()
            kept.append(np.concatenate([piece.copy() for piece in file.pieces()], axis=1))
    np.testing.assert_array_equal(kept[0], kept[1])


@pytest.mark.parametrize("samples", [1, 2, 127, 16_001])
def test_a_session_of_any_length_has_an_end(model: JointModel, samples: int, tmp_path: Path) -> None:
    with scratch(tmp_path) as kept:
        session = Session(Streamer(model), RATE, kept)
        session.push(noise(2.1)[:, :samples])
        session.finish()
        assert kept.samples == samples
        assert session.talkers()[1].activity.shape[1] == -(-samples // 800)


def held_bytes(thing: object) -> int:
    """Of all arrays that something holds, each with what it is a view of."""
    if isinstance(thing, np.ndarray):
        return int((thing if thing.base is None else thing.base).nbytes)
    inside = thing if isinstance(thing, list) else getattr(thing, "__dict__", {}).values()
    return sum(map(held_bytes, inside))


def test_a_long_session_keeps_no_more_than_directions_over_time(model: JointModel, tmp_path: Path) -> None:
    """Directions are in one block of ten minutes; a second of voices alone would be 64 kB."""
    with scratch(tmp_path) as kept:
        session = Session(Streamer(model), 2 * RATE, kept)
        chunk = np.repeat(noise(1.0), 2, axis=1)
        sizes = []
        for _ in range(12):
            session.push(chunk)
            sizes.append(held_bytes([value for value in vars(session).values() if value is not model]))
    assert max(sizes[6:]) <= max(sizes[:6])


def test_frames_over_time_are_kept_in_one_array() -> None:
    """An array a second would hold the memory of all that comes and goes around it."""
    log, given, rng = FrameLog(3, 2), [], np.random.default_rng(0)
    for _ in range(2000):
        given.append(rng.standard_normal((3, 2, 10), dtype=np.float32))
        log.append(given[-1])
    log.append(given[0][..., :0])
    np.testing.assert_array_equal(log.joined(), np.concatenate(given, axis=-1))
    assert held_bytes(log) < 2 * log.joined().nbytes
