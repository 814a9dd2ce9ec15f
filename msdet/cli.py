"""``msdet <command>``: each command is one typed function in `msdet.commands`.

Options follow from the function's signature, its dataclasses and their docstrings (jsonargparse); any of them
can also stand in a YAML file given by ``--config``. Modules are imported only when their command runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from msdet import __version__
from msdet.components import allowing
from msdet.errors import MsdetError, UnknownNameError, did_you_mean, printable
from msdet.renamed import renaming

COMMANDS = {
    "simulate": "make a data set of multichannel mixtures from a speech corpus",
    "bank": "make a bank of room impulse responses for mixing on the fly",
    "train": "train a joint model; run again to go on after a kill",
    "tune": "search the options of training for the best; run again to go on",
    "affinity": "measure how much tasks help each other, and which to train together",
    "average": "average the weights of checkpoints",
    "evaluate": "run a model or a baseline over a data set and score it",
    "score": "score a folder of anyone's estimates",
    "compare": "compare two scored systems, overall and by bin",
    "wer-lists": "write what a speech recognizer needs to score estimates by word errors",
    "wer": "count the word errors of a recognizer's hypotheses",
    "separate": "separate recordings into talkers and their directions",
    "localize": "find where the talkers of recordings are, and who speaks when",
    "live": "separate and localize what a microphone array hears, as it hears it",
    "report": "draw an evaluation as one page: scores, figures, scenes to hear",
    "export": "write a data set's tables for Kaldi, SMS-WSJ or lhotse",
    "export-model": "write a model as a file that other programs run: ONNX or a PyTorch program",
    "import-set": "make a data set from an sms_wsj.json or a Kaldi directory",
    "info": "describe a model, a data set or an array",
    "array show": "draw a microphone array, or list those that are shipped",
    "array check": "find swapped, dead, inverted or delayed channels from a recording",
    "package": "put a model, its scores and its card into one file",
    "describe": "count and draw what a data set or an RIR bank holds",
    "show-scene": "draw a scene: its room, responses and spectrogram",
    "validate": "find what is wrong with data sets, and what they share",
}
"""Names of one word, or of two, such as ``array show``."""

PACKAGED = {
    "--config": ("configuration", ""),
    "--scenes": ("scene distribution", "scenes"),
    "--data.scenes": ("scene distribution", "scenes"),
}
"""Options that take a file or the name of a shipped one: what it is, and the folder in ``msdet/configs``."""

LOAD_MODELS = ("separate", "localize", "evaluate", "live", "info", "export_model", "package", "average")
"""Functions of the commands that load models, and so take ``--allow-code``."""

EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
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
        print(f"error: unknown command '{printable(name)}'{did_you_mean(name, COMMANDS)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return run_command(load_command(name), arguments[words:], f"msdet {name}")


def load_command(name: str) -> Callable[..., int | None]:
    """The function of a command: of the same name, in the module of its first word, in `msdet.commands`."""
    function = name.replace("-", "_").replace(" ", "_")
    module = name.split()[0].replace("-", "_")
    command: Callable[..., int | None] = getattr(
        importlib.import_module(f"msdet.commands.{module}"), function
    )
    return command


def run_command(function: Callable[..., int | None], argv: Sequence[str] | None, program: str) -> int:
    """Parse options for a typed function and call it; bad input is one line and exit code 2."""
    try:
        options = parse_options(function, sys.argv[1:] if argv is None else argv, program)
        with allowing(options.pop("allow_code", ())):
            return function(**options) or EXIT_OK
    except MsdetError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def parse_options(function: Callable[..., Any], argv: Sequence[str], program: str) -> dict[str, Any]:
    """Values of a function's parameters, and ``allow_code``, from the command line and ``--config``.

    Raises:
        MsdetError: an option that does not exist (with the nearest that does) or has a wrong value.
    """
    from jsonargparse import ArgumentParser

    summary = inspect.getdoc(function) or ""
    parser = ArgumentParser(
        prog=program, description=summary.split("\n")[0], exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of these options, or a shipped one's name",
    )
    parser.add_function_arguments(function, as_group=False)
    hints = get_type_hints(function)
    taken = list(inspect.signature(function).parameters)
    if function.__name__ in LOAD_MODELS:
        parser.add_argument(
            "--allow-code",
            type=list[str],
            default=[],
            help="modules, or packages of them, that models may take parts from which are not msdet's",
        )
        hints["allow-code"] = list[str]
        taken.append("allow_code")
    packaged = [
        option
        for option in PACKAGED
        if not isinstance(hints.get(option.removeprefix("--")), type)
        or dataclasses.is_dataclass(hints[option.removeprefix("--")])
    ]
    arguments = _spelled_out(_with_packaged_configs(argv, packaged), hints)
    known = [option.removeprefix("--") for option in _options(parser)]
    try:
        parsed = parser.parse_args(arguments)
        values = dict(parser.instantiate(parsed))
    except argparse.ArgumentError as error:
        files = " or ".join(a for before, a in itertools.pairwise(arguments) if before == "--config")
        raise MsdetError(_one_line(str(error), known).replace('"<unicode string>"', files)) from error
    values.pop("config", None)
    return {name: value for name, value in values.items() if name in taken}


def _with_packaged_configs(argv: Sequence[str], packaged: Sequence[str]) -> list[str]:
    """Arguments in which ``--config NAME`` or ``--scenes NAME`` of a shipped file is the file's path.

    Args:
        argv: the arguments.
        packaged: those of `PACKAGED` that the function has no other use for.

    Raises:
        UnknownNameError: neither a file nor a shipped configuration.
    """
    arguments = []
    for argument in argv:
        option, equals, value = argument.partition("=")
        arguments += [option, value] if equals and option in packaged else [argument]
    for place, argument in enumerate(arguments[1:], start=1):
        if (option := arguments[place - 1]) not in packaged or Path(argument).is_file():
            continue
        kind, subfolder = PACKAGED[option]
        folder = resources.files("msdet") / "configs" / subfolder
        shipped = sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
        if argument not in shipped:
            raise UnknownNameError(kind, argument, shipped)
        arguments[place] = str(folder / f"{argument}.yaml")
    return arguments


def _spelled_out(argv: Sequence[str], hints: dict[str, Any]) -> list[str]:
    """Arguments as jsonargparse takes them: the first parameter named, a list as JSON, a switch as true.

    >>> _spelled_out(["a", "b", "--quick"], {"sets": list[Path], "quick": bool})
    ['--sets=["a", "b"]', '--quick=true']
    >>> _spelled_out(["--out", "x", "a", "b"], {"sets": list[Path], "out": Path})
    ['--sets=["a", "b"]', '--out', 'x']
    """
    left = _unnamed_first(argv, hints)
    arguments = []
    while left:
        argument = left.pop(0)
        hint = hints.get(argument.removeprefix("--"))
        values = list(itertools.takewhile(_is_value, left))
        if get_origin(hint) is list and values and not values[0].startswith("["):
            argument = f"{argument}={json.dumps(values)}"
            del left[: len(values)]
        elif hint is bool and values[:1] not in (["true"], ["false"]):
            argument = f"{argument}=true"
        arguments.append(argument)
    return arguments


def _unnamed_first(argv: Sequence[str], hints: dict[str, Any]) -> list[str]:
    """Arguments in which the values that belong to no option come first, after the first parameter's name."""
    left, unnamed, named = list(argv), [], []
    while left:
        argument = left.pop(0)
        if _is_value(argument):
            unnamed.append(argument)
            continue
        named.append(argument)
        hint = hints.get(argument.removeprefix("--"))
        values = list(itertools.takewhile(_is_value, left))
        takes = len(values) if get_origin(hint) is list else min(len(values), 1)
        if "=" in argument or (hint is bool and values[:1] not in (["true"], ["false"])):
            takes = 0
        named += left[:takes]
        del left[:takes]
    first = next(iter(hints))
    if not unnamed or any(argument.partition("=")[0] == f"--{first}" for argument in named):
        return [*named, *unnamed]  # a parameter that is given twice is refused
    return [f"--{first}", *unnamed, *named]


def _is_value(argument: str) -> bool:
    """Whether an argument is no option: ``-`` and negative numbers are none.

    >>> [_is_value(a) for a in ("x", "-", "-1", "-.5", "--x")]
    [True, True, True, True, False]
    """
    return re.match(r"-(?![\d.]|$)", argument) is None


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))


def _one_line(message: str, known: list[str]) -> str:
    """Jsonargparse's message as one line; of an option that does not exist, its new or the nearest name."""
    text = " ".join(message.split())
    found = re.search(
        r"[Uu]nrecognized arguments: --?([\w.-]+)"
        r"|Group '(?P<group>[\w.]+)' does not accept option '(?P<field>[\w.-]+)'"
        r"|Option '(?P<option>[\w.-]+)' is not accepted",
        text,
    )
    if found:
        key = found.group(1) or found["option"] or f"{found['group']}.{found['field']}"
        return renaming(key) or f"unknown option '{key}'{did_you_mean(key, known)}"
    return text


def _overview(first_word: str = "") -> str:
    """All commands, or those that begin with a word."""
    shown = {n: text for n, text in COMMANDS.items() if n.startswith(f"{first_word} ") or not first_word}
    width = max(map(len, shown))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in shown.items())
    return (
        "msdet: joint multichannel speech separation and direction-of-arrival estimation\n\n"
        f"usage: msdet <command> [options]     msdet <command> --help\n\n{rows}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
