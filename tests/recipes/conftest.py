"""Running recipes, and small data laid out like the corpora that they are for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from msdet.arrays import load_array
from msdet.conventions import Array, rotation_matrix
from msdet.io.files import write_json
from msdet.scenes.rir.image_method import image_responses

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]
WriteText = Callable[..., str]

TINY = """\
model:
  encoder_options: {size: tiny}
optimizer: {batch: 2}
data: {workers: 0}
"""
SCENES = """\
duration_s: 0.8
room_x_m: [4.3, 4.5]
room_y_m: [3.8, 4.0]
room_z_m: [2.6, 2.8]
center_offset_m: [-0.1, 0.1]
t60_s: [0.2, 0.25]
distance_m: [0.8, 1.5]
"""


@pytest.fixture(scope="session")
def commands() -> Iterator[str]:
    """Starts a command as a queue does, but in a process that has imported what commands need."""
    with tempfile.TemporaryDirectory(prefix="msdet-") as folder:
        script, listening = Path(__file__).with_name("commands.py"), Path(folder, "socket")
        server = subprocess.Popen([sys.executable, str(script), "serve", str(listening)])
        start = Path(folder, "start")
        start.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{script}" run "{listening}" "$@"\n')
        start.chmod(0o755)
        try:
            while not listening.exists():
                assert server.poll() is None
                time.sleep(0.05)
            yield str(start)
        finally:
            server.terminate()
            server.wait()


def environment() -> dict[str, str]:
    """With this interpreter's commands first on the path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a recipe from a folder or the checkout; `fresh` starts each command as a process of its own."""

    def run_recipe(
        recipe: str, *options: str, cwd: Path = ROOT, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        start = "" if fresh else request.getfixturevalue("commands")
        return subprocess.run(
            ["bash", str(ROOT / "recipes" / recipe / "run.sh"), *options],
            capture_output=True,
            text=True,
            env=environment() | {"train_cmd": start, "cpu_cmd": start},
            cwd=cwd,
            check=False,
        )

    return run_recipe


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """Options of hardly any training."""
    return ["--steps", "2", "--nj", "1"]


@pytest.fixture(scope="session")
def sizes() -> list[str]:
    """Options of small sets."""
    return ["--rooms", "2", "--dev-scenes", "1", "--test-scenes", "2"]


@pytest.fixture
def run_twice(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Runs a recipe from its first stage to its table, and again, which must do nothing; the table."""

    def run_and_check(recipe: str, *options: str, stages: int) -> str:
        exp = tmp_path / "exp"
        done = run(recipe, "--exp", str(exp), *options)
        assert done.returncode == 0, done.stdout + done.stderr
        before = {p: p.stat().st_mtime_ns for p in exp.rglob("*") if p.is_file() and p.suffix != ".list"}
        again = run(recipe, "--exp", str(exp), *options)
        assert again.returncode == 0, again.stderr
        assert again.stdout.count("already done") == stages, again.stdout
        assert before == {p: p.stat().st_mtime_ns for p in before}
        assert (exp / "report.html").stat().st_size > 10_000
        return table_of(exp)

    return run_and_check


@pytest.fixture
def run_to_table(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Runs a recipe's stages but the report, whose figures take long; the table."""

    def run_and_check(recipe: str, *options: str) -> str:
        exp = tmp_path / "exp"
        for stages in (["--stop-stage", "3"], ["--stage", "5"]):
            done = run(recipe, "--exp", str(exp), *options, *stages)
            assert done.returncode == 0, done.stdout + done.stderr
        return table_of(exp)

    return run_and_check


def table_of(exp: Path) -> str:
    """RESULTS.md, with a row of the model and no path of this machine."""
    results = (exp / "RESULTS.md").read_text(encoding="utf-8")
    for system in ("unprocessed", "model"):
        assert f"| {system}" in results
    assert not re.search(r" /[a-z]", results)
    return results


@pytest.fixture
def tiny(tmp_path: Path) -> WriteText:
    """Writes a training configuration, a small model unless a text is given; its path."""

    def write_config(text: str = TINY) -> str:
        (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "tiny.yaml")

    return write_config


@pytest.fixture
def shipped(tiny: WriteText) -> WriteText:
    """Writes a recipe's configuration with a small encoder, and masks, which score when hardly trained."""

    def write_shipped(recipe: str, name: str) -> str:
        text = (ROOT / "recipes" / recipe / "conf" / f"{name}.yaml").read_text(encoding="utf-8")
        text = text.replace("separation_head: complex_mapping", "separation_head: reference_mask")
        return tiny(re.sub(r"encoder: dense_unet|encoder_options: .*", "encoder_options: {size: tiny}", text))

    return write_shipped


@pytest.fixture
def small_rooms(tmp_path: Path) -> WriteText:
    """Writes a distribution of short scenes in small rooms, with other settings besides; its path."""

    def write_scenes(**more: object) -> str:
        text = SCENES + "".join(f"{name}: {value}\n" for name, value in more.items())
        (tmp_path / "scenes.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "scenes.yaml")

    return write_scenes


@pytest.fixture(scope="session")
def talkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of speech, three talkers for each split."""
    root = tmp_path_factory.mktemp("talkers")
    rng = np.random.default_rng(0)
    lines = ["speaker\tsplit"]
    for number in range(9):
        write(root / f"s{number}" / "a.wav", speech_like(rng, 36000, 8000), 8000)
        lines.append(f"s{number}\t{('train', 'dev', 'test')[number // 3]}")
    (root / "speakers.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def speech_like(rng: np.random.Generator, samples: int, rate: int) -> Array:
    """Noise of some color in syllables ``(samples,)``, nowhere silent for long; peak 0.5."""
    seconds = np.arange(samples) / rate
    noise = np.convolve(rng.standard_normal(samples), rng.uniform(-1.0, 1.0, 6))[:samples]
    noise *= 0.05 + np.abs(np.sin(2 * np.pi * (3.0 * seconds + rng.uniform()))) ** 3
    return 0.5 * noise / np.abs(noise).max()


def write(path: Path, samples: Array, rate: int, **options: Any) -> str:
    """Write ``(time,)`` or ``(channel, time)``; the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, rate, **options)
    return str(path)


@pytest.fixture(scope="session")
def librispeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An excerpt of LibriSpeech: three subsets of two to three talkers."""
    home = tmp_path_factory.mktemp("libri") / "LibriSpeech"
    rng = np.random.default_rng(1)
    subsets = {"train-clean-100": ("19", "26", "27"), "dev-other": ("116", "700"), "test-clean": ("61", "121")}
    rows = [";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for subset, talkers in subsets.items():
        for talker, sex in zip(talkers, "FMF", strict=False):
            rows.append(f"{talker:<4} | {sex} | {subset:<16} | 25.19 | Somebody")
            for number in range(2):
                name = f"{talker}-198-{number:04d}.flac"
                write(home / subset / talker / "198" / name, speech_like(rng, 20000, 16000), 16000)
    (home / "SPEAKERS.TXT").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return home


WSJ0 = {"si_tr_s": ("01t", "02p", "011"), "si_dt_05": ("050", "22g", "22h"), "si_et_05": ("440", "441", "442")}


@pytest.fixture(scope="session")
def wsj0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WSJ0 as on its discs: NIST SPHERE, three talkers a set."""
    root = tmp_path_factory.mktemp("wsj") / "wsj0"
    rng = np.random.default_rng(2)
    for name, talkers in WSJ0.items():
        for talker in talkers:
            for number in range(2):
                path = root / name / talker / f"{talker}o03{number:02d}.wv1"
                samples = speech_like(rng, 14000 + 1000 * number, 16000)
                write(path, samples, 16000, format="NIST", subtype="PCM_16")
    return root


def mixing_lists(folder: Path, talkers: int) -> Path:
    """Lists of wsj0-mix; validation mixes the talkers of training, as there."""
    sets = {"tr": ("si_tr_s", 4), "cv": ("si_tr_s", 2), "tt": ("si_et_05", 2)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (source, count) in sets.items():
        lines = []
        for number in range(count):
            words = []
            for k in range(talkers):
                talker = WSJ0[source][(number + k) % 3]
                words += [f"wsj0/{source}/{talker}/{talker}o03{number % 2:02d}.wav", f"{0.7 - k:.4f}"]
            lines.append(" ".join(words))
        (folder / f"mix_{talkers}_spk_{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def spatialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of spatialized WSJ0-2mix: eight channels, mixtures of several lengths."""
    root = tmp_path_factory.mktemp("spatialized")
    rng = np.random.default_rng(3)
    for name, count in {"tr": 4, "cv": 2, "tt": 2}.items():
        for number in range(count):
            samples = 5000 + 800 * number
            dry = [speech_like(rng, samples, 8000) for _ in range(2)]
            images = [np.stack([np.roll(s, d) for d in rng.integers(0, 4, 8)]) * 0.5 for s in dry]
            for kind, tail in {"anechoic": 0.0, "reverb": 0.4}.items():
                home = root / f"2speakers_{kind}" / "wav8k" / "min" / name
                heard = [image + tail * np.roll(image, 200, axis=-1) for image in images]
                for folder, signal in {"mix": sum(heard), "s1": heard[0], "s2": heard[1]}.items():
                    write(home / folder / f"01to030{number}_1.2_02po0316_-1.2.wav", signal, 8000)
    return root


@pytest.fixture(scope="session")
def sms_wsj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SMS-WSJ with all signals written to files, named by the paths of another machine."""
    root = tmp_path_factory.mktemp("sms_wsj")
    rng = np.random.default_rng(4)
    datasets: dict[str, Any] = {}
    for name, count in {"train_si284": 4, "cv_dev93": 2, "test_eval92": 2}.items():
        datasets[name] = {}
        for number in range(count):
            scene_id = f"{number}_{name[:2]}{number}a_{name[:2]}{number}b"
            datasets[name][scene_id] = _sms_wsj_example(root, name, scene_id, rng)
    write_json(root / "sms_wsj.json", {"datasets": datasets})
    text = (root / "sms_wsj.json").read_text(encoding="utf-8").replace(str(root), "/net/db/sms_wsj")
    (root / "sms_wsj.json").write_text(text, encoding="utf-8")
    return root


def _sms_wsj_example(root: Path, name: str, scene_id: str, rng: np.random.Generator) -> dict[str, Any]:
    """One example with its signals: the image source method, early part and tail split after 50 ms."""
    rate, room = 8000, (8.0, 6.0, 3.0)
    lengths = [int(n) for n in rng.integers(5000, 8000, 2)]
    samples = max(lengths)
    center = np.array([4.0, 3.0, 1.5]) + rng.uniform(-0.2, 0.2, 3)
    mics = load_array("sms_wsj").positions @ rotation_matrix(rng.uniform(0, 360), 2.0, 1.0).T + center
    angles = rng.uniform(0, 2 * np.pi) + np.array([0.0, rng.uniform(0.7, 3.0)])
    sources = center + 1.5 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)
    responses = image_responses(room, 0.35, 25.0, mics, sources, rate)
    offsets = [int(rng.integers(0, samples - length + 1)) for length in lengths]
    paths: dict[str, Any] = {key: [] for key in ("original_source", "rir")}
    paths |= {f"speech_reverberation_{part}": [] for part in ("early", "tail")}
    clean = np.zeros((6, samples))
    for k, response in enumerate(responses):
        dry = speech_like(rng, lengths[k], rate)
        start = min(int(np.argmax(np.abs(row) > 0.1 * np.abs(row).max())) for row in response)
        early, tail = response.copy(), response.copy()
        early[:, start + 400 :], tail[:, : start + 400] = 0.0, 0.0
        file = f"{name}/{scene_id}_{k}.wav"
        paths["original_source"].append(write(root / "wsj_8k_zeromean" / file, dry, rate, subtype="FLOAT"))
        rir = root / "rirs" / name / scene_id / f"h_{k}.wav"
        paths["rir"].append(write(rir, response, rate, subtype="FLOAT"))
        for part, piece in {"early": early, "tail": tail}.items():
            heard = np.pad(fftconvolve(dry[None], piece, axes=-1), ((0, 0), (offsets[k], samples)))
            signal = heard[:, start : start + samples]
            clean += signal
            written = write(root / part / file, signal, rate, subtype="FLOAT")
            paths[f"speech_reverberation_{part}"].append(written)
    noise = rng.standard_normal(clean.shape) * clean.std() * 10 ** (-25.0 / 20)
    paths["observation"] = write(root / "observation" / name / f"{scene_id}.wav", clean + noise, rate, subtype="FLOAT")
    return {
        "room_dimensions": [[length] for length in room],
        "sound_decay_time": 0.3,
        "source_position": sources.T.tolist(),
        "sensor_position": mics.T.tolist(),
        "example_id": scene_id,
        "num_speakers": 2,
        "speaker_id": scene_id.split("_")[1:],
        "gender": ["female", "male"],
        "log_weights": [0.0, 0.0],
        "num_samples": {"original_source": lengths, "observation": samples},
        "offset": offsets,
        "snr": 25.0,
        "audio_path": paths,
    }


@pytest.fixture
def lists(tmp_path: Path) -> Callable[[int], Path]:
    """Writes the mixing lists of so many talkers; their folder."""
    return lambda talkers: mixing_lists(tmp_path / "lists", talkers)
