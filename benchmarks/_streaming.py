"""Streaming, measured: how long a second of sound takes on one core, and whether hours of it leak."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdet.arrays import load_array
from msdet.cli import parse_options
from msdet.commands.train import train
from msdet.conventions import Array
from msdet.inference.live import Session
from msdet.inference.results import scratch
from msdet.inference.streaming import Streamer
from msdet.models.checkpoint import load_model
from msdet.models.joint import JointModel

TIMED_S = 20.0
"""Sound that is pushed hop by hop for the real-time factor, after a second that does not count."""

_CHUNK_S = 1.0
_PAGES_A_MEGABYTE = 2**20 / resource.getpagesize()


def streaming_figures(
    mixture: Array, array: str, sample_rate: int, model: Path | None, minutes: float
) -> dict[str, Any]:
    """Real-time factor and algorithmic latency of a causal model, and the growth of memory over hours.

    The caller has set torch to one thread. The seconds of a core that a second takes do not depend on what
    else the machine does.

    Args:
        mixture: ``(mic, time)``, pushed over and over.
        array: name of its array.
        sample_rate: hertz.
        model: checkpoint directory; the configuration ``streaming``, untrained, if not given.
        minutes: of sound in the long stream.
    """
    if model is None:
        options = parse_options(train, ["--config", "streaming", "--out", "-", "--data.dev", "-"], "train")
        torch.manual_seed(0)
        joint = JointModel(options["model"], load_array(array), sample_rate)
    else:
        joint = load_model(model, load_array(array))
    streamer = Streamer(joint)
    took_s, cpu_s = hop_by_hop(streamer, mixture)
    growth = growth_mb_per_hour(streamer, mixture, minutes)
    return {
        "streaming_rtf_one_core": took_s,
        "streaming_cpu_seconds_a_second": cpu_s,
        "streaming_latency_ms": 1e3 * streamer.latency_s,
        "streaming_growth_mb_per_hour": growth,
        "streaming_minutes": minutes,
    }


def hop_by_hop(streamer: Streamer, mixture: Array) -> tuple[float, float]:
    """Seconds, by the clock and of a core, that a second of sound takes as a microphone would give it."""
    model = streamer.model
    streamer.push(mixture[:, : model.sample_rate])
    hops = round(TIMED_S * model.sample_rate / model.stft.hop)
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    for n in range(hops):
        start = n * model.stft.hop % (mixture.shape[1] - model.stft.hop)
        streamer.push(mixture[:, start : start + model.stft.hop])
    seconds = hops * model.stft.hop / model.sample_rate
    took_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    return took_s / seconds, cpu_s / seconds


def growth_mb_per_hour(streamer: Streamer, mixture: Array, minutes: float) -> float:
    """Resident memory that an hour of sound adds, from the second half of a stream against its middle.

    Of what `msdet live` runs: voices go to disk, directions over time are kept, 1 MB an hour of them.
    """
    rate = streamer.model.sample_rate
    chunk = round(_CHUNK_S * rate)
    used_mb = []
    with tempfile.TemporaryDirectory() as folder, scratch(Path(folder)) as kept:
        session = Session(streamer, rate, kept)
        for n in range(round(60 * minutes / _CHUNK_S)):
            start = n * chunk % (mixture.shape[1] - chunk)
            session.push(mixture[:, start : start + chunk])
            used_mb.append(resident_mb())
    middle, late = np.array_split(used_mb[len(used_mb) // 3 :], 2)
    hours = minutes / 60 / 3  # between the centers of both
    return float(np.median(late) - np.median(middle)) / hours


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) / _PAGES_A_MEGABYTE
