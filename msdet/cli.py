"""``msdet <command>``: each command is one typed function in `msdet.commands`.

Options follow from the function's signature (`msdet.commands._options`). Modules are imported only when their command
runs, and signatures name only modules that import neither torch nor SciPy's signal processing: help does not wait.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from msdet import __version__
from msdet.components import allowing
from msdet.errors import MsdetError, did_you_mean, printable


class Command(NamedTuple):
    """What the command line knows of a command before its module is imported."""

    topic: str
    summary: str
    module: str = ""
    """Where its function is, in `msdet`; in `msdet.commands`, by its own first word, if not given."""


DATA, TRAINING, SCORING = "data", "training", "scoring"
RECORDINGS, ARRAYS, MODELS = "your recordings", "arrays", "models and this program"

COMMANDS = {
    "separate": Command(RECORDINGS, "separate recordings into talkers and their directions"),
    "localize": Command(RECORDINGS, "find where the talkers of recordings are, and who speaks when"),
    "live": Command(RECORDINGS, "separate and localize what a microphone array hears, as it hears it"),
    "array show": Command(ARRAYS, "draw a microphone array, or list those that are shipped"),
    "array check": Command(ARRAYS, "find swapped, dead, inverted or delayed channels from a recording"),
    "simulate": Command(DATA, "make a data set of multichannel mixtures from a speech corpus"),
    "bank": Command(DATA, "make a bank of room impulse responses for mixing on the fly", "commands.simulate"),
    "import-set": Command(DATA, "make a data set from an sms_wsj.json or a Kaldi directory", "commands.export"),
    "export": Command(DATA, "write a data set's tables for Kaldi, SMS-WSJ or lhotse"),
    "validate": Command(DATA, "find what is wrong with data sets, and what they share"),
    "describe": Command(DATA, "count and draw what a data set or an RIR bank holds"),
    "show-scene": Command(DATA, "draw a scene: its room, responses and spectrogram"),
    "train": Command(TRAINING, "train a joint model; run again to go on after a kill"),
    "tune": Command(TRAINING, "search the options of training for the best; run again to go on"),
    "affinity": Command(TRAINING, "measure how much tasks help each other, and which to train together"),
    "average": Command(TRAINING, "average the weights of checkpoints", "commands.train"),
    "evaluate": Command(SCORING, "run a model or a baseline over a data set and score it"),
    "score": Command(SCORING, "score a folder of anyone's estimates"),
    "compare": Command(SCORING, "compare two scored systems, overall and by bin"),
    "report": Command(SCORING, "draw an evaluation as one page: scores, figures, scenes to hear"),
    "wer-lists": Command(
        SCORING, "write what a speech recognizer needs to score estimates by word errors", "commands.wer"
    ),
    "score-meeting": Command(SCORING, "score who speaks when, and what was said: DER, cpWER and tcpWER"),
    "wer": Command(SCORING, "count the word errors of a recognizer's hypotheses"),
    "info": Command(MODELS, "describe a model, a data set or an array"),
    "package": Command(MODELS, "put a model, its scores and its card into one file"),
    "export-model": Command(MODELS, "write a model as a file that other programs run: ONNX or a PyTorch program"),
    "completion": Command(MODELS, "print a script that completes options in bash or zsh", "cli"),
}
"""Names of one word, or of two, such as ``array show``."""

EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.EBADF)
_NO_FILE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return _guarded(lambda: _dispatch(list(sys.argv[1:] if argv is None else argv)))


def run_command(function: Callable[..., int | None], argv: Sequence[str] | None, program: str) -> int:
    """Parse options for a typed function and call it; bad input is one line and exit code 2."""
    return _guarded(lambda: _run(function, list(sys.argv[1:] if argv is None else argv), program))


def load_command(name: str) -> Callable[..., int | None]:
    """The function of a command."""
    module = COMMANDS[name].module or f"commands.{name.split()[0].replace('-', '_')}"
    command = getattr(importlib.import_module(f"msdet.{module}"), re.sub("[- ]", "_", name))
    return cast(Callable[..., int | None], command)


def parse_options(function: Callable[..., Any], argv: Sequence[str], program: str) -> dict[str, Any]:
    """As `msdet.commands._options.parse_options`, whose imports take a while."""
    from msdet.commands import _options

    return _options.parse_options(function, argv, program)


def completion(shell: Literal["bash", "zsh"]) -> None:
    """Print a script that completes commands and options in a shell.

    For bash: msdet completion bash > ~/.local/share/bash-completion/completions/msdet. For zsh: msdet
    completion zsh > _msdet in a folder of $fpath.

    Args:
        shell: bash or zsh; may come unnamed.
    """
    import argparse

    import shtab

    from msdet.commands._options import plain_parser

    root = argparse.ArgumentParser("msdet", add_help=False)
    words = root.add_subparsers()
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for name, command in COMMANDS.items():
        first, _, second = name.partition(" ")
        if second and first not in groups:
            groups[first] = words.add_parser(first, help=command.topic, add_help=False).add_subparsers()
        parents = [plain_parser(load_command(name), f"msdet {name}")]
        group = groups[first] if second else words
        group.add_parser(second or first, help=command.summary, parents=parents, add_help=False)
    print(shtab.complete(root, shell))


def _dispatch(arguments: list[str]) -> int:
    """Find the command that arguments begin with, and run it with the rest."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    if arguments[0] == "--version":
        print(f"msdet {__version__}")
        return EXIT_OK
    words = 2 if any(name.startswith(f"{arguments[0]} ") for name in COMMANDS) else 1
    name = " ".join(arguments[:words])
    if words == 2 and arguments[1:2] in ([], ["-h"], ["--help"]):
        print(_overview(arguments[0]))
        return EXIT_OK if arguments[1:] else EXIT_BAD_INPUT
    if name not in COMMANDS:
        raise MsdetError(f"unknown command '{name}'{did_you_mean(name, COMMANDS)}")
    return _run(load_command(name), arguments[words:], f"msdet {name}")


def _run(function: Callable[..., int | None], argv: list[str], program: str) -> int:
    from msdet.commands._options import help_text, help_topic

    if (topic := help_topic(argv)) is not None:
        print(help_text(function, program, topic))
        return EXIT_OK
    options = parse_options(function, argv, program)
    with allowing(options.pop("allow_code", ())):
        return function(**options) or EXIT_OK


def _guarded(work: Callable[[], int]) -> int:
    """Do work; what goes wrong outside of this program, standard output included, is one line and an exit code."""
    if sys.stdout is None:  # closed; the next file to be opened would take its place
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (for as long as the process lives)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a pipe that was written to already
                stream.reconfigure(errors="backslashreplace")
    try:
        code = work()
        sys.stdout.flush()
    except MsdetError as error:
        return _failed(f"error: {error}")
    except KeyboardInterrupt:
        return _failed("interrupted; run the same command again to go on", EXIT_INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        if (size := _not_allocated(error)) is None:
            raise
        return _failed(f"error: not enough memory{size}; smaller batches or shorter recordings take less")
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        _discard_output()
        return EXIT_OK
    except OSError as error:
        if error.errno in _NO_FILE:
            return _failed(f"error: {printable(str(error.filename))}: cannot be opened ({error.strerror})")
        if error.errno not in _CANNOT_WRITE:
            raise
        _discard_output()
        return _failed(f"error: {error.filename or 'standard output'}: cannot be written ({error.strerror})")
    return code


def _not_allocated(error: MemoryError | RuntimeError) -> str | None:
    """What Python, NumPy or PyTorch (of a CPU or a GPU) could not allocate, if that is what an error says.

    >>> _not_allocated(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 97 bytes."))
    ' for 97 bytes'
    >>> _not_allocated(MemoryError())
    ''
    """
    text = str(error)
    if isinstance(error, RuntimeError) and "allocate memory" not in text and "out of memory" not in text:
        return None
    size = re.search(r"[Aa]llocate (\d[\d.]* \w+)", text)
    return f" for {size[1]}" if size else ""


def _failed(line: str, code: int = EXIT_BAD_INPUT) -> int:
    """Print a line on standard error; returns the exit code."""
    with suppress(OSError):
        print(line, file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    return code


def _discard_output() -> None:
    """Lead standard output to nowhere: Python writes what is left in its buffer as it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview(first_word: str = "") -> str:
    """All commands by topic, or those that begin with a word."""
    shown = {n: c for n, c in COMMANDS.items() if n.startswith(f"{first_word} ") or not first_word}
    width = max(map(len, shown))
    lines = ["msdet: joint multichannel speech separation and direction-of-arrival estimation", ""]
    lines += ["usage: msdet <command> [options]     msdet <command> --help"]
    topic = ""
    for name, command in shown.items():
        lines += ["", f"{command.topic}:"] if command.topic != topic else []
        lines.append(f"  {name:<{width}}  {command.summary}")
        topic = command.topic
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
