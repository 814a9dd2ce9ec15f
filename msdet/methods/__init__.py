"""Methods by name: what separates or localizes, from a delay-and-sum beam to ensembles of trained models.

A method is a function ``(array, sample_rate, talkers, **options)`` that returns a `Separator`, or an `Oracle`
where it needs the truth. It registers itself: ``@METHODS.register("music", finds=(AZIMUTHS,))``, ``finds``
being what it estimates by itself, voices if not given. On the command line options follow the name,
``lcmv,doa=oracle`` or ``auxiva,iterations=100``; types and defaults are those of the function's signature.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin

from msdet.arrays import MicrophoneArray
from msdet.components import build
from msdet.errors import MsdetError, did_you_mean
from msdet.methods.base import METHODS, ORACLE, VOICES, Oracle, Separation, Separator

_DERIVED = ("array", "sample_rate", "talkers")


def build_method(method: str, array: MicrophoneArray, sample_rate: int, talkers: int) -> Separator | Oracle:
    """A method by name or import path ``module:function``, with options as in ``name,option=value``.

    Raises:
        UnknownNameError: no such method; the nearest name is offered.
        MsdetError: an unknown, missing or misfitting option, or what the method refuses: a number of
            talkers or an array.
    """
    name, *assignments = re.split(r",(?=\w+=)", method)  # commas inside a list separate nothing
    if "," in name:
        raise MsdetError(f"method '{method}': expected NAME,OPTION=VALUE,OPTION=VALUE")
    factory = METHODS.find(name)
    parameters = _parameters(factory)
    texts = dict(assignment.split("=", 1) for assignment in assignments)
    for option in _required(factory):
        if option not in texts:
            raise MsdetError(f"method '{name}' needs the option {option}: {name},{option}=...")
    options = {
        option: _value(text, parameters[option].annotation) if option in parameters else text
        for option, text in texts.items()
    }
    sizes = {"array": array, "sample_rate": sample_rate, "talkers": talkers}
    separator: Separator | Oracle = build(factory, options, f"method '{name}'", **sizes)
    return _guarded(name, separator) if ":" in name else separator


def method_names() -> list[str]:
    """Names of the methods."""
    return METHODS.names()


def methods_without_options() -> list[str]:
    """Names of the methods that need no option, such as a checkpoint."""
    return [name for name in method_names() if not _required(METHODS.find(name))]


def initial_method(
    option: str,
    name: str,
    needed: str,
    array: MicrophoneArray,
    sample_rate: int,
    talkers: int,
    other_values: Iterable[str] = (),
) -> Separator:
    """A method that another one starts from: the value `name`, or import path, of its option `option`.

    `needed` is what is to be found, `VOICES` or `AZIMUTHS`; `other_values` are what else the option may be, in errors.
    Of a method that does not find this without options and truth, the error offers the nearest, or all.
    """
    suitable = (n for n in methods_without_options() if needed in METHODS.fact(n, "finds", (VOICES,)))
    choices = [ORACLE, *suitable, *other_values]
    if ":" not in name and name not in choices:
        what = f"{option} '{name}' finds no {needed} by itself" if name in method_names() else ""
        raise MsdetError((what or f"unknown {option} '{name}'") + did_you_mean(name, choices))
    separator = build_method(name, array, sample_rate, talkers)
    return require_blind(separator, f"{option} '{name}'")


def require_blind(separator: Separator | Oracle, subject: str) -> Separator:
    """The separator; `MsdetError` if it is an oracle, in a message that `subject` begins."""
    if isinstance(separator, Oracle):
        raise MsdetError(f"{subject} is an oracle: it needs the references or azimuths of a simulated set")
    return separator


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


def _value(text: str, annotation: Any) -> Any:
    """An option's value, read as JSON unless the annotation asks for text; `build` checks its type.

    >>> _value("30", str | list[float]), _value("30", float), _value("[30]", str | list[float])
    ('30', 30.0, [30])
    """
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if type(value) is int and float in kinds and int not in kinds:
        return float(value)
    return text if str in kinds and type(value) not in {get_origin(kind) or kind for kind in kinds} else value
