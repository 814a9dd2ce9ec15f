"""Frozen dataclasses read back from JSON, every field checked against its type."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from msdet.errors import MsdetError, did_you_mean

T = TypeVar("T")


def read_record(record: type[T], row: Any, origin: str) -> T:
    """An object of a frozen dataclass from the JSON form of `dataclasses.asdict`.

    Fields may be numbers, strings, literals, tuples, optional values and other records. A class variable ``renamed``
    maps names that keys had in older files to those of today. A key that is missing, unknown or of the wrong type is
    refused; `origin` is file and line.
    """
    if not isinstance(row, dict):
        raise MsdetError(f"{origin}: expected an object, found {type(row).__name__}")
    fields = {f.name: f for f in dataclasses.fields(record)}  # type: ignore[arg-type]
    renamed: dict[str, str] = getattr(record, "renamed", {})
    row = {renamed.get(key, key): value for key, value in row.items()}
    for key in row:
        if key not in fields:
            raise MsdetError(f"{origin}: unknown key '{key}'{did_you_mean(key, fields)}")
    hints = get_type_hints(record)
    values = {}
    for name, field in fields.items():
        if name in row:
            values[name] = _value(hints[name], row[name], f"{origin}, {name}", f"{origin}: {name}")
        elif field.default is dataclasses.MISSING:
            raise MsdetError(f"{origin}: key '{name}' is missing")
    return record(**values)


def _value(expected: Any, value: Any, place: str, label: str) -> Any:
    """`value` as the type `expected`; `place` names it as a container, `label` as a leaf."""
    if dataclasses.is_dataclass(expected):
        return read_record(expected, value, place)  # type: ignore[arg-type]
    kind, arguments = get_origin(expected), get_args(expected)
    if kind in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (inner,) = (a for a in arguments if a is not NoneType)
        return _value(inner, value, place, label)
    if kind is tuple:
        return _tuple(arguments, value, place, label)
    if kind is Literal:
        if value not in arguments:
            nearest = did_you_mean(str(value), map(str, arguments))
            raise MsdetError(f"{label} is {value!r}, expected one of {arguments}{nearest}")
        return value
    allowed = (int, float) if expected is float else (expected,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and expected is not bool):
        raise MsdetError(f"{label} is {value!r}, expected {expected.__name__}")
    if expected is float:
        if not math.isfinite(value):
            raise MsdetError(f"{label} is {value}, expected a finite number")
        return float(value)
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, place: str, label: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise MsdetError(f"{label} is {value!r}, expected a list")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise MsdetError(f"{label} has {len(value)} values, expected {len(arguments)}")
    return tuple(
        _value(expected, item, f"{place} {number}", f"{label} {number}")
        for number, (expected, item) in enumerate(zip(arguments, value, strict=True))
    )
