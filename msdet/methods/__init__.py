"""Baselines by name, one file each; none needs training, and most need nothing at all.

A module defines ``separator(array, sample_rate, talkers, **options)``, which returns a `Separator`, or an
`Oracle` where it has to be told the truth, and, unless that finds voices and nothing else, ``FINDS``. On the
command line options follow the name, ``lcmv,doa=oracle`` or ``auxiva,iterations=100``; their types and
defaults are those of the function's signature.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from msdet.arrays import MicrophoneArray
from msdet.components import build
from msdet.errors import MsdetError, did_you_mean
from msdet.methods.base import METHODS, ORACLE, VOICES, Oracle, Separation, Separator

_DERIVED = ("array", "sample_rate", "talkers")

_SIMPLE = (bool, int, float, str, NoneType)


def build_method(method: str, array: MicrophoneArray, sample_rate: int, talkers: int) -> Separator | Oracle:
    """A baseline by name or import path ``module:function``, with options as in ``name,option=value``.

    Raises:
        UnknownNameError: no such baseline; the nearest name is offered.
        MsdetError: an unknown, missing or misfitting option, or what the baseline refuses: a number of
            talkers or an array.
    """
    name, *assignments = re.split(r",(?=\w+=)", method)  # commas inside a list are no such
    if "," in name:
        raise MsdetError(f"method '{method}': expected NAME,OPTION=VALUE,OPTION=VALUE")
    factory = METHODS.find(name)
    parameters = _parameters(factory)
    given = dict(assignment.split("=", 1) for assignment in assignments)
    for option in _required(factory):
        if option not in given:
            raise MsdetError(f"method '{name}' needs the option {option}: {name},{option}=...")
    options = {
        option: _value(f"method '{name}', {option}", text, parameters[option].annotation)
        if option in parameters
        else text
        for option, text in given.items()
    }
    sizes = {"array": array, "sample_rate": sample_rate, "talkers": talkers}
    separator: Separator | Oracle = build(factory, options, f"method '{name}'", **sizes)
    return _guarded(name, separator) if ":" in name else separator


def _guarded(name: str, separator: Separator | Oracle) -> Separator | Oracle:
    """A user's own separator, whose every failure is an error of ours that names it."""
    inner: Callable[..., Any] = separator.separate if isinstance(separator, Oracle) else separator

    def separate(*arguments: Any) -> Separation:
        try:
            result = inner(*arguments)
        except MsdetError:
            raise
        except Exception as error:
            raise MsdetError(f"method '{name}' failed ({type(error).__name__}: {error})") from error
        if not isinstance(result, Separation):
            raise MsdetError(f"method '{name}' gives {type(result).__name__}, expected Separation")
        return result

    return Oracle(separate) if isinstance(separator, Oracle) else separate


def method_names() -> list[str]:
    """Names of the baselines."""
    return METHODS.names()


def methods_without_options() -> list[str]:
    """Names of the baselines that need no option, such as a checkpoint."""
    factories = {name: METHODS.find(name) for name in method_names()}
    return [name for name, factory in factories.items() if not _required(factory)]


def initial_method(
    option: str,
    name: str,
    needed: str,
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    also: Iterable[str] = (),
) -> Separator:
    """A baseline that another one starts from, by name or import path.

    Args:
        option: of the other one, in errors.
        name: the option's value.
        needed: what the other one needs to be found, `VOICES` or `AZIMUTHS`.
        array: geometry of the microphones.
        sample_rate: hertz.
        talkers: number of talkers.
        also: other values that the option may have, in errors.

    Raises:
        MsdetError: no baseline that finds this without options and truth; offers the nearest, or all.
    """
    choices = [ORACLE, *(n for n in methods_without_options() if needed in _finds(n)), *also]
    if ":" not in name and name not in choices:
        what = f"{option} '{name}' finds no {needed} by itself" if name in method_names() else ""
        raise MsdetError((what or f"unknown {option} '{name}'") + did_you_mean(name, choices))
    separator = build_method(name, array, sample_rate, talkers)
    return require_blind(separator, f"{option} '{name}'")


def _finds(name: str) -> tuple[str, ...]:
    found: tuple[str, ...] = METHODS.fact(name, "finds", (VOICES,))
    return found


def require_blind(separator: Separator | Oracle, needed_by: str) -> Separator:
    """The separator, unless it is an oracle.

    Raises:
        MsdetError: it is one; `needed_by` begins the message.
    """
    if isinstance(separator, Oracle):
        raise MsdetError(f"{needed_by} is an oracle: it needs the references or azimuths of a simulated set")
    return separator


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """A factory's options, with their annotations as types where these can be had."""
    try:
        signature = inspect.signature(factory, eval_str=True)
    except NameError:  # a type that is imported for type checkers only
        signature = inspect.signature(factory)
    return {name: p for name, p in signature.parameters.items() if name not in _DERIVED}


def _required(factory: Callable[..., Any]) -> list[str]:
    """Options without a default."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = _parameters(factory).items()
    return [name for name, p in parameters if p.default is p.empty and p.kind not in variable]


def _value(origin: str, text: str, annotation: Any) -> Any:
    """An option's value: JSON of the annotated type, or the text itself where that is allowed.

    >>> _value("x", "30", str | list[float]), _value("x", "30", float), _value("x", "[30]", str | list[float])
    ('30', 30.0, [30])
    """
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for kind in kinds:
        if _fits(value, kind):
            return float(value) if kind is float else value
    if str in kinds:
        return text
    if not all(get_origin(kind) is list or kind in _SIMPLE for kind in kinds):
        return value  # the factory's own business
    expected = " or ".join(str(kind) if get_args(kind) else kind.__name__ for kind in kinds)
    raise MsdetError(f"{origin} is '{text}', expected {expected}")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(v, get_args(kind)[0]) for v in value)
    if isinstance(value, bool):
        return kind is bool
    return kind in _SIMPLE and isinstance(value, (int, float) if kind is float else kind)
