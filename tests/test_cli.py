"""The command line: quick to start, and bad input is one line, exit code 2, and nothing half-written."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from msdet import __version__, cli
from msdet.data.scene_set import SceneSet
from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.rir.bank import RirBank

Refused = Callable[..., str]

SMALL_ROOM = [
    "--scenes.duration_s=1.5", "--scenes.array=circular4_5cm", "--scenes.room_x_m=[4.3,4.5]",
    "--scenes.room_y_m=[3.8,4.0]", "--scenes.room_z_m=[2.6,2.8]", "--scenes.center_offset_m=[-0.1,0.1]",
    "--scenes.t60_s=[0.2,0.25]", "--scenes.distance_m=[0.8,1.5]", "--scenes.minimum_gap_deg=20",
]  # fmt: skip


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused; gives its one line on stderr."""

    def run(*arguments: object) -> str:
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert code == 2, captured
        assert [line for line in lines if line.startswith("error: ")] == lines, captured.err
        assert len(lines) == 1, captured.err
        assert "Traceback" not in captured.err + captured.out
        return lines[0]

    return run


def in_subprocess(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def test_help_lists_the_commands_without_importing_torch() -> None:
    program = "import sys; from msdet.cli import main; code = main(['--help']); print(*sys.modules); sys.exit(code)"
    done = in_subprocess("-c", program)
    assert done.returncode == 0
    assert done.stderr == ""
    text, modules = done.stdout.rsplit("\n", 2)[:2]
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    for heavy in ("torch", "numpy", "scipy", "pyroomacoustics", "jsonargparse", "pytorch_lightning"):
        assert heavy not in modules.split()


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_listed_exists_and_is_typed(name: str) -> None:
    command = cli.load_command(name)
    parameters = inspect.signature(command).parameters.values()
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)


def test_every_command_has_help_without_importing_torch() -> None:
    program = (
        "import sys; from msdet.cli import COMMANDS, main\n"
        "for name in COMMANDS: assert main([*name.split(), '--help']) == 0\n"
        "print(*[m for m in ('torch', 'scipy.signal', 'pytorch_lightning') if m in sys.modules])"
    )
    done = in_subprocess("-c", program)
    text, heavy = done.stdout[:-1].rsplit("\n", 1)
    assert (done.returncode, done.stderr, heavy) == (0, "", "")
    texts = dict(zip(cli.COMMANDS, text.split("usage: msdet ")[1:], strict=True))
    for name, shown in texts.items():
        assert shown.startswith(f"{name} ")
        for parameter in inspect.signature(cli.load_command(name)).parameters:
            assert f"--{parameter}" in shown


def test_help_shows_groups_by_name_and_in_full(capsys: pytest.CaptureFixture[str], refused: Refused) -> None:
    assert cli.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "\n--data.scenes.*  " in text and "--data.scenes.t60_s" not in text
    assert len(text.splitlines()) < 80
    assert cli.main(["train", "--help", "data.scenes"]) == 0
    text = capsys.readouterr().out
    assert "--data.scenes.t60_s LOW,HIGH" in text and "--data.dev" not in text and "--out" not in text
    assert cli.main(["train", "--help", "all"]) == 0
    text = capsys.readouterr().out
    assert "--data.scenes.t60_s" in text and "--data.dev" in text and "--out" in text
    assert "did you mean 'model'?" in refused("train", "--help", "modl")


def test_a_word_that_begins_commands_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["array", "--help"]) == 0
    text = capsys.readouterr().out
    assert "array show" in text and "array check" in text and "simulate" not in text
    assert cli.main(["array"]) == 2
    assert cli.main(["array", "chek"]) == 2
    assert "did you mean 'array check'?" in capsys.readouterr().err


def test_values_without_a_name_may_also_come_last() -> None:
    command = cli.load_command("separate")
    values = cli.parse_options(command, ["--out", "x", "--page", "a.wav", "b.wav"], "msdet separate")
    assert (values["recordings"], values["out"], values["page"]) == (["a.wav", "b.wav"], Path("x"), True)
    with pytest.raises(MsdetError, match=r"b\.wav"):
        cli.parse_options(cli.load_command("show-scene"), ["--out", "x.png", "--data", "a", "b.wav"], "p")


def test_pairs_and_lists_are_written_with_commas_and_spaces() -> None:
    arguments = ["x", "--data.dev", "d", "--data.scenes.room_x_m", "4,6", "--data.scenes.tilt_deg=-1,1"]
    values = cli.parse_options(cli.load_command("train"), [*arguments, "--freeze", "a.*", "b.*"], "p")
    scenes = values["data"].scenes
    assert (scenes.room_x_m, scenes.tilt_deg) == ((4.0, 6.0), (-1.0, 1.0))
    assert (values["out"], values["freeze"]) == (Path("x"), ["a.*", "b.*"])


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_names_all_commands(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("separate", "array", "check", "--data.scenes.t60_s", "--allow-code"):
        assert word in script
    if shell == "bash":
        (tmp_path / "msdet.bash").write_text(script)
        assert subprocess.run(["bash", "-n", tmp_path / "msdet.bash"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("shell", "error"),
    [
        ("msdet train --help | head -3", ""),
        ("msdet train --help >&-", ""),
        ("msdet train --help > /dev/full", "error: standard output: cannot be written (No space left on device)\n"),
        ("PYTHONIOENCODING=ascii msdet array show circular6_10cm", ""),
    ],
)
def test_output_that_ends_is_closed_or_full_gives_no_traceback(shell: str, error: str) -> None:
    shell = shell.replace("msdet", f"{sys.executable} -m msdet", 1)
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stderr == error
    assert done.returncode == (2 if error else 0)
    assert len(done.stdout.splitlines()) == 3 or "head" not in shell


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"msdet {__version__}\n"
    assert cli.main([]) == 2
    assert "usage: msdet <command>" in capsys.readouterr().out


def test_console_script_prints_one_line_and_exits_with_2(tmp_path: Path) -> None:
    done = in_subprocess("-m", "msdet", "simulat", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: unknown command 'simulat'; did you mean 'simulate'?\n"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--sed=1", "unknown option 'sed'; did you mean 'seed'?"),
        ("--scenes.t60=[0.2,0.3]", "unknown option 'scenes.t60'; did you mean 'scenes.t60_s'?"),
        ("--t60_s=1", "unknown option 't60_s'; did you mean 'scenes.t60_s'?"),
        ("--moveing=1", "unknown option 'moveing'; did you mean 'scenes.moving'?"),
        ("--count=many", "count"),
        ("--scenes.t60_s=0.3", "t60_s"),
        ("--scenes.talkers=[1]", "talkers"),
        ("--config=stered", "unknown configuration 'stered'; did you mean 'steered'?"),
    ],
)
def test_wrong_option_is_named(refused: Refused, speech: Path, tmp_path: Path, option: str, message: str) -> None:
    line = refused("simulate", f"--out={tmp_path / 'set'}", f"--speech={speech}", option)
    assert message in line
    assert not (tmp_path / "set").exists()


def test_missing_option_is_named(refused: Refused, tmp_path: Path) -> None:
    assert "speech" in refused("simulate", f"--out={tmp_path / 'set'}")


def simulate(out: Path, speech: Path, *more: str) -> list[str]:
    return [
        "simulate", f"--out={out}", f"--speech={speech}", "--split=dev", "--count=3", "--seed=5", "--jobs=1",
        *SMALL_ROOM, *more,
    ]  # fmt: skip


def test_simulate_makes_the_set_that_its_function_makes(
    dev_set: SceneSet,
    speech: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file_bytes: Callable[[Path], dict[str, bytes]],
) -> None:
    assert cli.main(simulate(tmp_path / "set", speech)) == 0
    assert file_bytes(tmp_path / "set") == file_bytes(dev_set.root)
    assert "3 scenes, 4 microphones at 8000 Hz" in capsys.readouterr().out


def test_bank_makes_the_bank_that_its_function_makes(
    bank: RirBank, tmp_path: Path, file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    arguments = ["bank", f"--out={tmp_path / 'bank'}", "--rooms=4", "--positions=3", "--seed=11", "--jobs=1"]
    assert cli.main([*arguments, *SMALL_ROOM]) == 0
    assert file_bytes(tmp_path / "bank") == file_bytes(bank.root)


def test_missing_corpus_is_refused(refused: Refused, tmp_path: Path) -> None:
    line = refused(*simulate(tmp_path / "set", tmp_path / "no speech"))
    assert "no speech: corpus folder does not exist" in line
    assert not (tmp_path / "set").exists()


def test_empty_corpus_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    assert "no audio found" in refused(*simulate(tmp_path / "set", tmp_path / "speech"))
    assert not (tmp_path / "set").exists()


def damaged(speech: Path, tmp_path: Path) -> Path:
    """A copy of the corpus in which every dev utterance holds NaN."""
    copy = Path(shutil.copytree(speech, tmp_path / "speech"))
    for path in copy.glob("talker[45]/*.wav"):
        samples, rate = soundfile.read(path)
        samples[5000:] = np.nan
        soundfile.write(path, samples, rate, subtype="FLOAT")
    return copy


@pytest.mark.parametrize("jobs", [1, 2])
def test_speech_with_nan_is_refused_by_file(refused: Refused, speech: Path, tmp_path: Path, jobs: int) -> None:
    line = refused(*simulate(tmp_path / "set", damaged(speech, tmp_path), f"--jobs={jobs}"))
    assert "holds NaN or infinite samples" in line
    assert f"{tmp_path}/speech/talker" in line
    assert not (tmp_path / "set" / "dataset.json").exists()
    assert not list((tmp_path / "set").rglob("*.wav"))
    assert not list((tmp_path / "set").rglob(".part-*"))


def test_unknown_array_offers_the_nearest(refused: Refused, speech: Path, tmp_path: Path) -> None:
    line = refused(*simulate(tmp_path / "set", speech, "--scenes.array=circular4_5"))
    assert "unknown array 'circular4_5'; did you mean 'circular4_5cm'?" in line
    assert not (tmp_path / "set").exists()


def test_unknown_corpus_kind_offers_the_nearest(refused: Refused, speech: Path, tmp_path: Path) -> None:
    line = refused(*simulate(tmp_path / "set", speech, "--corpus=foldr"))
    assert "unknown corpus kind 'foldr'; did you mean 'folder'?" in line
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("t60_s=[0.005,0.01]", "t60_s is [0.005, 0.01]: in a room of (4.3, 3.8, 2.6) m it is at least"),
        ("t60_s=[0.3,0.2]", "expected [low, high] with low <= high"),
        ("talkers=0", "talkers is 0, expected 1 to 8"),
        ("distance_m=[9,10]", "no room for 2 talkers at distance_m [9.0, 10.0]"),
        ("talkers=3", "has 2 speakers, expected at least 3"),
    ],
)
def test_impossible_setting_is_refused_by_name(
    refused: Refused, speech: Path, tmp_path: Path, setting: str, message: str
) -> None:
    assert message in refused(*simulate(tmp_path / "set", speech, f"--scenes.{setting}"))
    assert not list(tmp_path.rglob("*.wav"))
    assert not (tmp_path / "set" / "dataset.json").exists()


def test_settings_corrected_after_a_refusal_work_in_the_same_folder(
    refused: Refused, speech: Path, tmp_path: Path
) -> None:
    refused(*simulate(tmp_path / "set", speech, "--scenes.distance_m=[9,10]"))
    assert cli.main(simulate(tmp_path / "set", speech)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cout: 3\n", "unknown option 'cout'; did you mean 'count'?"),
        ("scenes:\n  t60: [0.2, 0.3]\n", "unknown option 'scenes.t60'; did you mean 'scenes.t60_s'?"),
        ("scenes: [\n", "c.yaml"),
        ("scenes: " + "[" * 100_000, "c.yaml: line 1: nested too deep"),
        ("scenes: '" + "{a: " * 100_000 + "'", "c.yaml: line 1: nested too deep"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\n", "c.yaml: line 2: an alias inside of what an anchor names"),
        (f"count: {'9' * 5000}", "c.yaml: line 1: an integer of 5000 digits"),
        ("count: \udcff", "c.yaml: cannot be read (is not UTF-8 text)"),
    ],
)
def test_wrong_key_of_a_configuration_is_named(
    refused: Refused, speech: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "c.yaml").write_text(text, errors="surrogateescape")
    line = refused("simulate", f"--config={tmp_path / 'c.yaml'}", f"--out={tmp_path / 'set'}", f"--speech={speech}")
    assert message in line
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("model: {doa_head: null}", "model.doa_head is null, expected text"),
        ("objective: {task_weights: null}", "objective.task_weights is null, expected a value"),
        ("optimizer: {steps: null}", "optimizer.steps is null, expected a whole number"),
        ("trainer: {deterministic: null}", "trainer.deterministic is null, expected true or false"),
        ("data: {scenes: {duration_s: null}}", "data.scenes.duration_s is null, expected a number"),
        ("data: {scenes: {room_x_m: null}}", "data.scenes.room_x_m is null, expected a value"),
        ("model: null", "model is null, expected a value"),
        ("model: 3.5", "model is 3.5, expected its settings by name"),
        ("data: {scenes: [1]}", "data.scenes is [1], expected its settings by name"),
        ("stages: [{name: a, optimizer: {name: null}}]", "optimizer: name is null, expected text"),
    ],
)
def test_null_or_a_value_where_settings_are_needed_is_refused_by_name(
    refused: Refused, tmp_path: Path, settings: str, message: str
) -> None:
    file = tmp_path / "null.yaml"
    file.write_text(settings)
    line = refused("train", tmp_path / "run", "--config", file, "--data.train", "set", "--data.dev", "set")
    assert line.endswith(message)
    assert not (tmp_path / "run").exists()


def test_null_is_a_value_where_one_may_be_left_out(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "null.yaml").write_text("{optimizer: {weight_decay: null}, init: null}")
    line = refused("train", tmp_path / "run", "--config", tmp_path / "null.yaml", "--data.dev", tmp_path / "none")
    assert "give either train" in line


def test_configuration_gives_options_and_the_command_line_has_the_last_word(
    dev_set: SceneSet, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("count: 7\nseed: 5\n")
    arguments = simulate(tmp_path / "set", speech)
    arguments.remove("--seed=5")
    assert cli.main([arguments[0], f"--config={tmp_path / 'c.yaml'}", *arguments[1:]]) == 0
    assert SceneSet.open(tmp_path / "set").scenes == dev_set.scenes


def test_folder_with_other_settings_is_refused_and_kept(
    refused: Refused, dev_set: SceneSet, speech: Path, file_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    before = file_bytes(dev_set.root)
    assert "exists with other settings: seed is 5, asked for 6" in refused(*simulate(dev_set.root, speech, "--seed=6"))
    assert file_bytes(dev_set.root) == before


def test_folder_that_cannot_be_written_is_refused(refused: Refused, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(*simulate(tmp_path / "file" / "set", speech))


@pytest.mark.parametrize("workers", [0, 1])
def test_training_on_unreadable_speech_is_refused_in_one_line(
    refused: Refused, bank: RirBank, dev_set: SceneSet, speech: Path, tmp_path: Path, workers: int
) -> None:
    broken = Path(shutil.copytree(speech, tmp_path / "speech"))
    for path in broken.glob("talker[0-3]/*.wav"):
        samples, rate = soundfile.read(path)
        samples[:] = np.nan
        soundfile.write(path, samples, rate, subtype="FLOAT")
    line = refused(
        "train", f"--out={tmp_path / 'run'}", f"--data.dev={dev_set.root}", f"--data.bank={bank.root}",
        f"--data.speech={broken}", f"--data.workers={workers}", "--data.scenes.duration_s=1.5",
        "--model.encoder_options={hidden: 8, group: 8}", "--trainer.accelerator=cpu",
        "--optimizer.steps=2", "--optimizer.batch=1", "--trainer.validate_every=1", "--trainer.threads=1",
    )  # fmt: skip
    assert "holds NaN or infinite samples" in line
    assert not (tmp_path / "run" / "training.json").exists()


def test_command_imports_only_what_it_needs(tmp_path: Path) -> None:
    """A bad folder is told without loading the training stack."""
    program = (
        "import sys; from msdet.cli import main\n"
        "code = main(['simulate', '--out=x', '--speech=nowhere'])\n"
        "print(*[m for m in ('torch', 'pytorch_lightning') if m in sys.modules])\n"
        "sys.exit(code)\n"
    )
    done = in_subprocess("-c", program, cwd=tmp_path)
    assert done.returncode == 2
    assert "pytorch_lightning" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_own_encoder_in_the_working_directory_is_found_by_the_console_script(tmp_path: Path) -> None:
    (tmp_path / "mine_in_cwd.py").write_text("class Encoder:\n    pass\n")
    program = (
        "import sys; sys.path.remove('')\n"
        "from msdet.corpora import CORPORA\n"
        "found = CORPORA.find('mine_in_cwd:Encoder')\n"
        "print(found.__name__)\n"
    )
    done = in_subprocess("-c", program, cwd=tmp_path)
    assert done.stdout == "Encoder\n", done.stderr


def test_defaults_of_the_command_line_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from msdet.commands.simulate import simulate as command

    values = cli.parse_options(command, ["--out=a", "--speech=b"], "msdet simulate")
    assert values["scenes"] == SceneDistribution()
    assert values["out"] == Path("a")
    assert (values["count"], values["split"]) == (200, "test")


def test_names_that_no_file_has_are_refused(refused: Refused) -> None:
    assert refused("info", "é" * 200).endswith("é: cannot be opened (File name too long)")
    assert "nested too deep" in refused("train", "--out", "x", "--model.encoder_options", "[" * 100_000)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 1.29 GiB for an array"), "error: not enough memory for 1.29 GiB; "),
        (RuntimeError("can't allocate memory: you tried to allocate 97 bytes."), " for 97 bytes; "),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), " for 2.00 GiB; "),
    ],
)
def test_memory_that_is_not_there_is_said_in_one_line(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(cli, "load_command", lambda name: fail)
    assert message in refused("info", "x")


def test_file_that_a_configuration_names_is_checked_as_well(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 100_000)
    (tmp_path / "c.yaml").write_text("data: {scenes: deep.yaml}")
    assert refused("train", "--config", tmp_path / "c.yaml").endswith("deep.yaml: line 1: nested too deep")


def test_more_threads_than_any_machine_has_are_refused(refused: Refused, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((800, 6)), 8000)
    line = refused("separate", tmp_path / "x.wav", "--out", tmp_path / "out", "--threads", 300_000)
    assert line == "error: threads is 300000, expected 1 to 1024"
