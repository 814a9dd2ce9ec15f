"""Options of a command from its function's signature: parsing, mistakes in one line, and help by topic.

Options follow from the parameters, their dataclasses and docstrings (jsonargparse); any of them can also
stand in a YAML file given by ``--config``.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from msdet.components import check_parsed
from msdet.errors import MsdetError, UnknownNameError, nearest_option
from msdet.io.reading import check_yaml, read_text
from msdet.renamed import renaming

PACKAGED = {
    "config": ("configuration", ""),
    "scenes": ("scene distribution", "scenes"),
    "data.scenes": ("scene distribution", "scenes"),
}
"""Options that take a file or the name of a shipped one: what it is, and the folder in ``msdet/configs``."""

LOAD_MODELS = ("separate", "localize", "evaluate", "live", "info", "export_model", "package", "average")
"""Functions of the commands that load models, and so take ``--allow-code``."""

CONFIG_HELP = "YAML file with any of these options, or a shipped one's name"
ALL = "all"


def parse_options(function: Callable[..., Any], argv: Sequence[str], program: str) -> dict[str, Any]:
    """Values of a function's parameters, and ``allow_code``, from the command line and ``--config``.

    An option that does not exist is refused with the nearest that does.
    """
    parser = _parser(function, program)
    hints = {a.dest: _hint(a) for a in parser._actions}
    known = [option.removeprefix("--") for a in parser._actions for option in a.option_strings]
    packaged = _takes_files(parser)
    arguments = spelled_out(_with_packaged_configs(argv, packaged), hints)
    _check_values(arguments, packaged)
    try:
        parsed = parser.parse_args(arguments)
        check_parsed(parser._actions, parsed)
        values = dict(parser.instantiate(parsed))
    except argparse.ArgumentError as error:
        files = " or ".join(a for before, a in itertools.pairwise(arguments) if before == "--config")
        message = _one_line(str(error), known, function.__name__)
        raise MsdetError(message.replace('"<unicode string>"', files)) from error
    names = (*inspect.signature(function).parameters, "allow_code")
    return {name: value for name, value in values.items() if name in names}


def _parser(function: Callable[..., Any], program: str) -> ArgumentParser:
    parser = ArgumentParser(prog=program, exit_on_error=False, allow_abbrev=False, add_help=False)
    parser.add_argument("--config", action="config", help=CONFIG_HELP)
    # of annotations that are text, jsonargparse runs the imports that are for type checkers alone
    function.__annotations__.update(get_type_hints(function))
    parser.add_function_arguments(function, as_group=False)
    if function.__name__ in LOAD_MODELS:
        parser.add_argument(
            "--allow-code",
            type=list[str],
            default=[],
            help="modules, or packages of them, that models may take parts from which are not msdet's",
        )
    return parser


def _hint(action: argparse.Action) -> Any:
    """The type of an option's value; that of ``X | None`` is X."""
    hint = getattr(action, "_typehint", None)
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if get_origin(hint) in (Union, UnionType) and len(kinds) == 1 else hint


def _takes_files(parser: ArgumentParser) -> list[str]:
    """Those of `PACKAGED` that are settings of a function, and not a parameter with another use."""
    return [a.dest for a in parser._actions if a.dest in PACKAGED and not hasattr(a, "_typehint")]


def _with_packaged_configs(argv: Sequence[str], packaged: Sequence[str]) -> list[str]:
    """Arguments in which the value of a `packaged` option, if it is the name of a shipped file, is the file's path."""
    arguments: list[str] = []
    for argument in argv:
        option, equals, value = argument.partition("=")
        split = equals and option.removeprefix("--") in packaged
        arguments += [option, value] if split else [argument]
    for place, argument in enumerate(arguments[1:], start=1):
        option = arguments[place - 1].removeprefix("--")
        if not arguments[place - 1].startswith("--") or option not in packaged or Path(argument).is_file():
            continue
        kind, subfolder = PACKAGED[option]
        folder = resources.files("msdet") / "configs" / subfolder
        shipped = sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
        if argument not in shipped:
            raise UnknownNameError(kind, argument, shipped)
        arguments[place] = str(folder / f"{argument}.yaml")
    return arguments


def _check_values(arguments: Sequence[str], packaged: Sequence[str]) -> None:
    """Refuse values, and files of options with the files that they name, that a YAML loader would not survive."""
    files = []
    for place, argument in enumerate(arguments):
        option, _, value = argument.removeprefix("--").partition("=")
        check_yaml(json.dumps(argument), f"--{option[:40]}")
        if option in packaged:
            files.append(Path(value or "".join(arguments[place + 1 : place + 2])))
    for number, path in enumerate(files):
        if path not in files[:number] and path.is_file():
            files += [path.parent / name for name in check_yaml(read_text(path), path)]


def spelled_out(argv: Sequence[str], hints: Mapping[str, Any]) -> list[str]:
    """Arguments for jsonargparse: the first parameter named, lists and pairs as JSON, switches as true.

    `hints` are types by the names of options, the function's first parameter first.

    >>> spelled_out(["a", "b", "--quick"], {"sets": list[Path], "quick": bool})
    ['--sets=["a", "b"]', '--quick=true']
    >>> spelled_out(["--room.x_m", "4,6", "a"], {"out": Path, "room.x_m": tuple[float, float]})
    ['--out', 'a', '--room.x_m=[4,6]']
    """
    left, unnamed, named = list(argv), [], []
    while left:
        argument = left.pop(0)
        if _is_value(argument):
            unnamed.append(argument)
        else:
            spelled, taken = _spelled(argument, list(itertools.takewhile(_is_value, left)), hints)
            named += spelled
            del left[:taken]
    first = next((name for name in hints if name not in ("config", "print_config")), "")
    if not unnamed or any(argument.partition("=")[0] == f"--{first}" for argument in named):
        return [*named, *unnamed]  # a parameter that is given twice is refused
    spelled, taken = _spelled(f"--{first}", unnamed, hints)
    return [*spelled, *unnamed[taken:], *named]


def _spelled(option: str, values: Sequence[str], hints: Mapping[str, Any]) -> tuple[list[str], int]:
    """An option for jsonargparse, and how many of the values after it are its own."""
    name, equals, given = option.partition("=")
    hint = hints.get(name.removeprefix("--").replace("allow-code", "allow_code"))
    kind = get_origin(hint) or hint
    if kind is bool and not equals and values[:1] not in (["true"], ["false"]):
        return [f"{option}=true"], 0
    if kind is list and not equals and values and not values[0].startswith("["):
        return [f"{option}={json.dumps(values)}"], len(values)
    own = [] if equals else list(values[:1])
    if kind is tuple and re.fullmatch(r"[^\[,]+(,[^\[,]+)+", pair := given or "".join(own)):
        return [f"{name}=[{pair}]"], len(own)
    return [option, *own], len(own)


def _is_value(argument: str) -> bool:
    """Whether an argument is no option: ``-`` and negative numbers are none.

    >>> [_is_value(a) for a in ("x", "-", "-1", "-.5", "--x")]
    [True, True, True, True, False]
    """
    return re.match(r"-(?![\d.]|$)", argument) is None


def _one_line(message: str, known: list[str], command: str) -> str:
    """Jsonargparse's message as one line; of an option that does not exist, its new or the nearest name."""
    text = " ".join(message.split())
    unknown = re.search(
        r"[Uu]nrecognized arguments: --?([\w.-]+)"
        r"|Group '(?P<group>[\w.]+)' does not accept option '(?P<field>[\w.-]+)'"
        r"|Option '(?P<option>[\w.-]+)' is not accepted",
        text,
    )
    if unknown:
        key = unknown.group(1) or unknown["option"] or f"{unknown['group']}.{unknown['field']}"
        return renaming(key, command) or f"unknown option '{key}'{nearest_option(key, known)}"
    return text


def help_topic(argv: Sequence[str]) -> str | None:
    """What help is asked for: a group of options, such as ``data.scenes``; "" for a command's, None for none.

    >>> help_topic(["--help", "model"]), help_topic(["x", "-h"]), help_topic(["x"])
    ('model', '', None)
    """
    for place, argument in enumerate(argv):
        if argument in ("-h", "--help"):
            return next((a for a in argv[place + 1 : place + 2] if _is_value(a)), "")
    return None


def help_text(function: Callable[..., Any], program: str, topic: str = "") -> str:
    """Help of a command: its own options, and the names of those in groups; or the options of a group, or of all."""
    groups = _groups(_parser(function, program))
    if topic not in (*groups, ALL):
        raise UnknownNameError("group of options", topic, [name for name in (*groups, ALL) if name])
    shown = {n: g for n, g in groups.items() if topic == ALL or n == topic or n.startswith(f"{topic}.") > 0}
    text = _plain(function, program, {n: g for n, g in shown.items() if topic or not n}).format_help()
    if topic:
        return text
    lines = []
    for name, (title, actions) in list(groups.items())[1:]:
        about = f"{title}  ({program} --help {name})"
        lines += ["", f"--{name}.*  {about}" if title else f"--{name}.*"]
        leaves = " ".join(a.dest.removeprefix(f"{name}.") + ("*" if a.required else "") for a in actions)
        lines.append(textwrap.fill(leaves, 100, initial_indent="  ", subsequent_indent="  "))
    if lines:
        lines += ["", f"* is required. All options: {program} --help {ALL}"]
    return text + "\n".join(lines)


def plain_parser(function: Callable[..., Any], program: str) -> argparse.ArgumentParser:
    """An ``argparse`` parser with the options of a command, for help and completion."""
    return _plain(function, program, _groups(_parser(function, program)))


def _groups(parser: ArgumentParser) -> dict[str, tuple[str, list[argparse.Action]]]:
    """Title and options by name of a group; the command's own options have the name ""."""
    groups: dict[str, tuple[str, list[argparse.Action]]] = {}
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.option_strings]
        files = [a.dest for a in actions if not hasattr(a, "_typehint") and "config" not in a.dest]
        name = files[0] if files else ""
        if actions:
            options = [a for a in actions if a.dest not in (name, "print_config")]
            groups[name] = ("options" if not name else group.title or "", options)
    return groups


def _plain(
    function: Callable[..., Any], program: str, groups: Mapping[str, tuple[str, list[argparse.Action]]]
) -> argparse.ArgumentParser:
    summary = (inspect.getdoc(function) or "").partition("\nArgs:")[0].strip()
    width = min(shutil.get_terminal_size().columns - 2, 100)
    parser = argparse.ArgumentParser(
        program,
        usage=f"{program} [options]",
        description=summary.replace("%", "%%"),
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=28, width=width),
        add_help=False,
    )
    for name, (title, actions) in groups.items():
        group = parser.add_argument_group(f"{name}, {title}" if name else title)
        if name:
            group.add_argument(f"--{name}", metavar="FILE", help="YAML file with these options")
        for action in actions:
            option, hint = action.option_strings[0], _hint(action)
            text = " ".join((action.help or "").replace("``", "").split()).replace("%", "%%")
            about = f"{text} {_default(action)}".strip()
            if hint is bool and not action.default:
                group.add_argument(option, action="store_true", help=about)
            else:
                group.add_argument(option, metavar=_metavar(hint), help=about)
    return parser


def _metavar(hint: Any) -> str:
    """What stands for an option's value.

    >>> [_metavar(hint) for hint in (Path, list[str], tuple[float, float], Literal["a", "b"], int, dict)]
    ['PATH', 'TEXT ...', 'LOW,HIGH', '{a,b}', 'N', 'JSON']
    """
    kind = get_origin(hint) or hint
    if kind is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if kind is list:
        return f"{_metavar(get_args(hint)[0])} ..."
    words = {Path: "PATH", bool: "{true,false}", int: "N", float: "X", str: "TEXT", tuple: "LOW,HIGH", None: "FILE"}
    return words.get(kind, "JSON")


def _default(action: argparse.Action) -> str:
    if action.required:
        return "(required)"
    value = action.default
    if value in (None, False, "", argparse.SUPPRESS) or value == [] or value == {}:
        return ""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return f"(default: {value})".replace("%", "%%")
