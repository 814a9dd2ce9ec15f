"""How is a long recording separated: how fast, in how much memory, and do talkers keep their slots?

Speed and memory are those of `msdet separate` as a user runs it, in a process of its own, its start included;
it computes on one core. Slots are counted on simulated conversations of two who sit still at least 20 degrees
apart, pause and talk at once: of each second in which somebody speaks, whether that voice is in the slot that
is its talker's over the whole recording. All three ways to keep slots join the same separated blocks. Beside
it, streaming: a causal model given sound hop by hop, and the memory of a long stream; and the model as ONNX.
"""

from __future__ import annotations

import dataclasses
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import report, run
from _conversations import Conversation, conversation
from _export import export_figures
from _streaming import streaming_figures

from msdet.arrays import load_array
from msdet.commands._inference import computing, systems
from msdet.commands._progress import progress_bar
from msdet.conventions import Array, angular_distance_deg
from msdet.inference.blocks import BlockOptions, Match
from msdet.inference.offline import OfflineSeparation, RecordingSystem
from msdet.inference.sources import MemorySource, scan
from msdet.io import audio
from msdet.methods.base import Separation
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel
from msdet.scenes.distribution import SceneDistribution

GAP_DEG = 20.0
METHOD = "srp_beam"
MATCHES: tuple[Match, ...] = ("both", "overlap", "direction")
WINDOW_S = 1.0
SPEECH_DB = -25.0
"""A talker speaks in a window that is no further below the level of his loudest 5 %."""

_WATCH_S = 0.5
_MEGABYTE = 2**20


def inference(
    quick: bool = False,
    model: Path | None = None,
    method: str = METHOD,
    speech: Path | None = None,
    conversations: int = 8,
    seconds: float = 180.0,
    minutes: float = 30.0,
    stream_model: Path | None = None,
    stream_minutes: float = 30.0,
    onnx: bool = True,
) -> None:
    """Measure speed and memory on a long recording, and how often talkers are in the wrong slot.

    Args:
        quick: one conversation of a minute, and a recording of two minutes.
        model: checkpoint directory; without it, speed is that of the default model, untrained, and slots are
            those of `method`.
        method: a baseline that separates the conversations.
        speech: corpus of the kind folder, whose test split talks; made-up talkers if not given.
        conversations: how many.
        seconds: length of each.
        minutes: length of the recording for speed and memory.
        stream_model: checkpoint directory of a causal model; if not given, the configuration ``streaming``,
            untrained.
        stream_minutes: sound that is pushed through it to see whether memory grows; 600 are ten hours.
        onnx: export the model too, and compare (about a minute).
    """
    if quick:
        conversations, seconds, minutes, stream_minutes = 1, 60.0, 2.0, 2.0
    distribution = SceneDistribution(minimum_gap_deg=GAP_DEG)
    with tempfile.TemporaryDirectory() as folder, progress_bar("inference") as progress, computing(1):
        root = Path(folder)
        first = conversation(0, seconds, distribution, speech)
        figures = long_recording(root, first, distribution, model, minutes)
        rate = distribution.sample_rate
        figures |= streaming_figures(first.mixture, distribution.array, rate, stream_model, stream_minutes)
        if onnx:
            figures |= export_figures(model or root / "model")
        progress(1, 1 + conversations)
        found = systems(model, None if model else method, None if model else distribution.array, None)
        system = found.make(found.array, distribution.sample_rate)
        rows = []
        for number in range(conversations):
            made = first if number == 0 else conversation(number, seconds, distribution, speech)
            shares = {match: wrong_share(system, made, match) for match in MATCHES}
            gap_deg = float(angular_distance_deg(*made.azimuths_deg))
            rows.append({"conversation": number, "gap_deg": round(gap_deg, 1), **shares})
            progress(2 + number, 1 + conversations)
    mean = {match: float(np.mean([row[match] for row in rows])) for match in MATCHES}
    report(
        rows,
        **figures,
        wrong_slot_share=mean["both"],
        wrong_slot_share_overlap_only=mean["overlap"],
        wrong_slot_share_direction_only=mean["direction"],
        separated_by=system.name,
        conversations=conversations,
        minutes=minutes,
    )


def long_recording(
    root: Path, made: Conversation, distribution: SceneDistribution, model: Path | None, minutes: float
) -> dict[str, Any]:
    """Real-time factor, peak memory and its growth of separating a conversation over and over.

    The seconds of a core that a second takes do not depend on what else the machine does.
    """
    if model is None:
        model = root / "model"
        array = load_array(distribution.array)
        save_model(model, JointModel(ModelConfig(), array, distribution.sample_rate), {})
    samples = round(60 * minutes * distribution.sample_rate)
    times = -(-samples // made.mixture.shape[1])
    audio.write(root / "long.wav", np.tile(made.mixture, times)[:, :samples], distribution.sample_rate)
    command = [sys.executable, "-m", "msdet.cli", "separate", str(root / "long.wav"), "--model", str(model)]
    start_s = time.perf_counter()
    with subprocess.Popen([*command, "--out", str(root / "out")], stdout=subprocess.DEVNULL) as process:
        used_mb = watch(process)
    if process.returncode:
        raise SystemExit(process.returncode)
    took_s = time.perf_counter() - start_s
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    settled = used_mb[len(used_mb) // 3 :]
    early, late = np.array_split(settled, 2)
    return {
        "rtf_two_cores": took_s / (60 * minutes),
        "cpu_seconds_a_second": (spent.ru_utime + spent.ru_stime) / (60 * minutes),
        "peak_mb_30min": max(used_mb),
        "growth_mb": float(np.median(late) - np.median(early)),
    }


def watch(process: subprocess.Popen[bytes]) -> list[float]:
    """Resident memory of a process in MB, over and over until it ends; the last one is its peak."""
    used: list[float] = []
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmRSS" in fields:
            used.append(int(fields["VmRSS"].split()[0]) * 1024 / _MEGABYTE)
            peak = int(fields["VmHWM"].split()[0]) * 1024 / _MEGABYTE
        time.sleep(_WATCH_S)
    return [*used, peak]


def wrong_share(system: RecordingSystem, made: Conversation, match: Match) -> float:
    """Share of speech that is not in its talker's slot."""
    source = MemorySource(made.mixture, system.sample_rate)
    found = scan(source, system.array, system.sample_rate)
    again = dataclasses.replace(system, separator=remembered(system.separator, made))
    joining = OfflineSeparation(again, source, found, BlockOptions(match=match))
    voices = np.concatenate([p.estimates for p in joining.pieces() if p.estimates is not None], axis=-1)
    return wrong_windows(voices, made.references, round(WINDOW_S * system.sample_rate))


def remembered(separator: Callable[[Array], Separation], made: Conversation) -> Callable[[Array], Separation]:
    """A separator that separates no block of a conversation twice."""

    def separate(mixture: Array) -> Separation:
        key = hash(mixture.tobytes())
        if key not in made.separated:
            made.separated[key] = separator(mixture)
        return made.separated[key]

    return separate


def wrong_windows(voices: Array, references: Array, window: int) -> float:
    """Share of windows of speech in the wrong slot, slots named so that it is smallest.

    Where one talker speaks, the voice is in the slot that holds most of it; where several do, their slots are
    the permutation that correlates best.

    Args:
        voices: ``(slot, time)``.
        references: ``(talker, time)``, no more than slots.
        window: samples.
    """
    count = references.shape[1] // window
    r, v = (x[:, : count * window].reshape(len(x), count, window) for x in (references, voices))
    level_db = 10 * np.log10(np.square(r, dtype=np.float64).mean(axis=-1) + 1e-12)
    speaks = level_db > np.quantile(level_db, 0.95, axis=1, keepdims=True) + SPEECH_DB
    held = np.abs(np.einsum("rwt,swt->wrs", r, v)) / (np.linalg.norm(r, axis=-1).T[..., None] + 1e-9)
    alike = held / (np.linalg.norm(v, axis=-1).T[:, None] + 1e-9)
    orders = [list(order) for order in itertools.permutations(range(len(v)), len(r))]
    talkers = np.arange(len(r))
    slot = np.zeros(speaks.shape, dtype=np.int64)
    for w, there in enumerate(speaks.T):
        worth = held[w] if there.sum() == 1 else alike[w]
        slot[:, w] = max(orders, key=lambda order: worth[talkers, order][there].sum())
    wrong = [((slot != np.array(order)[:, None]) & speaks).sum() for order in orders]
    return float(min(wrong) / max(speaks.sum(), 1))


if __name__ == "__main__":
    sys.exit(run(inference))
