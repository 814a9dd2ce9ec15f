"""Commands that run well on small good material: what bad inputs start from."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
from _box import CPU_SECONDS
from _common import write_corpus

from msdet.arrays import load_array
from msdet.cli import main
from msdet.io import audio
from msdet.models.checkpoint import save_model
from msdet.models.config import ModelConfig
from msdet.models.joint import JointModel

RATE = 8000

SCENES = """\
sample_rate: 8000
duration_s: 0.8
array: circular4_5cm
room_x_m: [4.3, 4.5]
room_y_m: [3.8, 4.0]
room_z_m: [2.6, 2.8]
center_offset_m: [-0.1, 0.1]
t60_s: [0.2, 0.25]
distance_m: [0.8, 1.5]
minimum_gap_deg: 20.0
"""

TRAIN = """\
data:
  dev: dev
  bank: bank
  speech: speech
  workers: 0
  scenes: {duration_s: 0.8, array: circular4_5cm}
model:
  encoder_options: {hidden: 8, group: 8}
optimizer:
  steps: 2
  batch: 2
trainer:
  validate_every: 1
  accelerator: cpu
  threads: 1
"""


DRAWING_SECONDS = 120  # 300,000 scenes are drawn before the first is rendered
SIMULATE = "simulate --out out --speech speech --split dev --count 1 --jobs 1 --scenes scenes.yaml"
SCORED = "--data dev --estimates estimates --scores scored/model"
PACKAGE = "package --model model --license CC0-1.0 --data_notes notes.md"


@dataclass(frozen=True)
class Attacked:
    """A command that runs well, and what of it can be made bad.

    Attributes:
        words: its arguments, paths relative to the case's folder; ``out`` is where it writes.
        needs: files and folders of the base that it is given.
        spoiled: those of them that are made bad; all if empty.
        cpu_seconds: of a core, that it may take.
    """

    words: str
    needs: Sequence[str]
    spoiled: Sequence[str] = field(default=())
    cpu_seconds: int = CPU_SECONDS

    @property
    def command(self) -> str:
        """Its name: two words for ``array``."""
        first, second = self.words.split()[:2]
        return f"{first} {second}" if first == "array" else first


ATTACKED = [
    Attacked(SIMULATE, ["speech", "scenes.yaml"], cpu_seconds=DRAWING_SECONDS),
    Attacked(
        f"{SIMULATE} --bank bank --noise noise --scenes.diffuse spherical",
        ["speech", "scenes.yaml", "bank", "noise"],
        ["bank", "noise", "speech/speakers.tsv"],
        cpu_seconds=DRAWING_SECONDS,
    ),
    Attacked("bank --out out --rooms 1 --positions 2 --jobs 1 --scenes scenes.yaml", ["scenes.yaml"]),
    Attacked("bank --out out --jobs 1 --measured measured --array circular4_5cm", ["measured"]),
    Attacked(
        "train --config train.yaml --out out", ["train.yaml", "dev", "bank", "speech"], ["train.yaml", "bank", "dev"]
    ),
    Attacked("train --config train.yaml --out run", ["train.yaml", "dev", "bank", "speech", "run"], ["run"]),
    Attacked(
        "train --config train.yaml --out out --init model", ["train.yaml", "dev", "bank", "speech", "model"], ["model"]
    ),
    Attacked(
        "tune --config tune.yaml --out out --trials 1 --optimizer.steps 2",
        ["tune.yaml", "dev", "bank", "speech"],
        ["tune.yaml"],
    ),
    Attacked(
        "affinity --config train.yaml --out out --every 1 --tasks [separation,doa] --optimizer.steps 2",
        ["train.yaml", "dev", "bank", "speech"],
        ["train.yaml"],
    ),
    Attacked("average model other --out out", ["model", "other"]),
    Attacked(
        "evaluate --data dev --out out --model model --methods srp_beam --metrics si_sdr --jobs 1", ["dev", "model"]
    ),
    Attacked("score --data dev --estimates estimates --out out --jobs 1 --metrics si_sdr", ["dev", "estimates"]),
    Attacked("compare scored/model scored/srp_beam --out out.json", ["scored"]),
    Attacked(
        f"wer-lists {SCORED} --text text --speech speech --out out",
        ["dev", "estimates", "scored", "text", "speech"],
        ["text", "estimates", "scored/model", "dev/scenes.jsonl"],
    ),
    Attacked("wer --lists lists --hypotheses hypotheses --out out.json", ["lists", "hypotheses"]),
    Attacked("separate take.wav --out out --model model", ["take.wav", "model"]),
    Attacked(
        "separate list.scp --out out --method srp_beam --array array.toml", ["list.scp", "take.wav", "array.toml"]
    ),
    Attacked("separate take.wav --out out --model package.tar", ["take.wav", "package.tar"], ["package.tar"]),
    Attacked("localize take.wav --out out --method music --array array.toml", ["take.wav", "array.toml"]),
    Attacked("live --file take.wav --fast --model causal --out out", ["take.wav", "causal"]),
    Attacked(
        "report --evaluation scored --data dev --out out.html --estimates model=estimates",
        ["scored", "dev", "estimates"],
    ),
    Attacked("export --data dev --format kaldi", ["dev"]),
    Attacked("export --data dev --format lhotse", ["dev"]),
    Attacked("export --data dev --format sms_wsj", ["dev"]),
    Attacked("export-model --model causal --out out.onnx", ["causal"], cpu_seconds=120),
    Attacked(
        "import-set --source dev/sms_wsj.json --out out --target direct --array circular4_5cm --jobs 1",
        ["dev"],
        ["dev/sms_wsj.json"],
    ),
    Attacked("import-set --source dev --out out --target direct --array circular4_5cm --jobs 1", ["dev"]),
    Attacked("info model", ["model"]),
    Attacked("info dev", ["dev"]),
    Attacked("info package.tar", ["package.tar"]),
    Attacked("info bank", ["bank"]),
    Attacked("array show array.toml --out out.png", ["array.toml"]),
    Attacked("array check take.wav --array array.toml --json out.json", ["take.wav", "array.toml"]),
    Attacked(
        f"{PACKAGE} --out out.tar --evaluation test=scored",
        ["model", "notes.md", "scored", "dev"],
        ["model", "notes.md", "scored"],
    ),
    Attacked(
        "package --model run --license CC0-1.0 --data_notes notes.md --out out.tar",
        ["run", "notes.md"],
        ["run/training.json", "run/model.json"],
    ),
    Attacked("describe --data dev --out out.html", ["dev"]),
    Attacked("describe --data bank", ["bank"]),
    Attacked("show-scene --data dev --out out.png", ["dev"]),
    Attacked("validate dev --jobs 1 --bank bank", ["dev", "bank"]),
    Attacked("score-meeting --reference said.stm --hypothesis heard.stm --out out.json", ["said.stm", "heard.stm"]),
    Attacked(
        "score --data dev --estimates estimates --out out --jobs 1 --metrics si_sdr --align --resample",
        ["dev", "estimates"],
        ["estimates"],
    ),
    Attacked("export --data dev --format sms_wsj --speech speech --out out", ["dev", "speech"]),
    Attacked("export --data dev --format kaldi --out out", ["dev"]),
    Attacked(
        "import-set --source kaldi --out out --target direct --array circular4_5cm --jobs 1",
        ["dev", "kaldi"],
        ["kaldi"],
    ),
    Attacked(
        "separate take.wav --out out --method srp_beam --array array.toml --channels 0-3 --highpass_hz 60 --page",
        ["take.wav", "array.toml"],
    ),
    Attacked("bank --out out --jobs 1 --measured measured --array circular4_5cm --channels 0-3", ["measured"]),
]


def make_base(root: Path) -> None:
    """Write the good material: corpus, set, bank, models, run, estimates, scores, recordings, tables."""
    write_corpus(root / "speech", 6, 2, 0.7, RATE)
    rows = [
        "speaker\tsplit",
        *(f"s{n:03d}\t{split}" for n, split in enumerate(["train"] * 2 + ["dev"] * 2 + ["test"] * 2)),
    ]
    (root / "speech" / "speakers.tsv").write_text("\n".join(rows) + "\n")
    (root / "scenes.yaml").write_text(SCENES)
    (root / "train.yaml").write_text(TRAIN)
    (root / "tune.yaml").write_text(TRAIN + "search:\n  optimizer.learning_rate: [0.001, 0.002]\n")
    rng = np.random.default_rng(0)
    for number in range(3):
        _write(root / "noise" / f"{number}.wav", 0.1 * rng.standard_normal(60 * RATE))
    common = "--speech speech --scenes scenes.yaml --jobs 1 --split dev"
    _run(root, f"simulate --out dev --count 2 {common}")
    _run(root, "bank --out bank --rooms 2 --positions 3 --jobs 1 --scenes scenes.yaml")
    for name, options in {"model": {}, "other": {}, "causal": _CAUSAL}.items():
        torch.manual_seed(0)
        small = {"encoder_options": {"hidden": 8, "group": 8}}
        save_model(root / name, JointModel(ModelConfig(**{**small, **options}), load_array("circular4_5cm"), RATE), {})
    _run(root, "train --config train.yaml --out run")
    _run(root, "evaluate --data dev --out scored --model model --methods srp_beam --metrics si_sdr --jobs 1")
    shutil.copytree(root / "scored" / "model" / "estimates", root / "estimates")
    _run(root, "export --data dev --format sms_wsj")
    (root / "notes.md").write_text("Made-up talkers.\n")
    _run(root, f"{PACKAGE} --out package.tar")
    scene = json.loads((root / "dev" / "scenes.jsonl").read_text().splitlines()[0])["id"]
    take = audio.read(root / "dev" / "audio" / scene / "mixture.wav")[0]
    audio.write(root / "take.wav", np.tile(take, (1, -(-4 * RATE // take.shape[1]))), RATE)  # enough for array check
    (root / "list.scp").write_text("one take.wav\ntwo take.wav\n")
    positions = load_array("circular4_5cm").positions_m
    (root / "array.toml").write_text(
        'name = "own"\npositions_m = [\n'
        + "".join(f"  [{x}, {y}, {z}],\n" for x, y, z in positions)
        + ']\nreference = 0\nsource = "own"\n'
    )
    (root / "said.stm").write_text("take 1 a 0.0 2.0 one two three\ntake 1 b 1.0 3.0 four five\n")
    (root / "heard.stm").write_text("take 1 x 0.0 2.0 one too three\ntake 1 y 1.0 3.0 four\n")
    shutil.copytree(root / "dev", root / "kaldi", ignore=lambda folder, names: [n for n in names if n == "audio"])
    for table in ("wav.scp", "spk1.scp", "spk2.scp"):
        if (root / "kaldi" / table).is_file():
            text = (root / "kaldi" / table).read_text().replace(" audio/", " ../dev/audio/")
            (root / "kaldi" / table).write_text(text)
    _words(root)
    _measured(root)


def _words(root: Path) -> None:
    utterances = [f"s{n:03d}/{u}" for n in range(6) for u in range(2)]
    (root / "text").write_text("".join(f"{name} one two three\n" for name in utterances))
    _run(root, f"wer-lists {SCORED} --text text --speech speech --out lists")
    keys = [line.split()[0] for line in (root / "lists" / "wav.scp").read_text().splitlines()]
    (root / "hypotheses").write_text("".join(f"{key} one two\n" for key in keys))


def _measured(root: Path) -> None:
    """Four responses of a room that has none: a pulse and a faint tail, and the table of their places."""
    rng = np.random.default_rng(1)
    rows = ["file\troom\tazimuth_deg\tdistance_m"]
    for number in range(4):
        response = 0.01 * rng.standard_normal((2000, 4)) * np.exp(-np.arange(2000) / 300)[:, None]
        response[20] = 1.0
        _write(root / "measured" / f"{number}.wav", response)
        rows.append(f"{number}.wav\troom\t{90 * number}\t1.0")
    (root / "measured" / "positions.tsv").write_text("\n".join(rows) + "\n")


def _write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples, RATE, "FLOAT")


def _run(root: Path, words: str) -> None:
    with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()):
        if main(words.split()):
            raise SystemExit(f"the good material cannot be made: msdet {words}")


_CAUSAL = {
    "window_s": 0.032,
    "front_end": "real_imaginary",
    "front_end_options": {"causal": True},
    "encoder_options": {"hidden": 8, "group": 16, "causal": True},
    "doa_head": "pooled",
    "doa_options": {"causal": True},
    "separation_head": "reference_mask",
}
