"""Parts by name: registries of msdet's own, import paths of the user's, and their options.

A new encoder (loss, corpus, method) registers itself in one new file of its package; nothing else lists it. A user's
own part lives anywhere Python can import, and is named ``their.module:ClassName``: freely in settings of the user's
own, in a file that describes a model only if its module is allowed (`allowing`, `described_by`).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from msdet.errors import CodeNotAllowedError, MsdetError, UnknownNameError, did_you_mean

P = TypeVar("P")

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
"""Types of options that are checked, as a message calls them."""

_REFUSALS = (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError)
"""What parts, and torch, raise at values that they cannot work with."""

_ALLOWED: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())

_DESCRIBED_BY: ContextVar[str | None] = ContextVar("described_by", default=None)


@contextmanager
def _setting(variable: ContextVar[P], value: P) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def allowing(modules: Iterable[str]) -> AbstractContextManager[None]:
    """Inside the block, files that describe models may name parts of these modules and of what is in them."""
    names = frozenset([modules] if isinstance(modules, str) else modules)
    for name in names:
        if not _is_module_name(name):
            raise MsdetError(f"allow_code has {name!r}, expected the name of a module, such as my_encoder")
    return _setting(_ALLOWED, names)


def described_by(file: str) -> AbstractContextManager[None]:
    """Inside the block, a file names components: import paths are refused unless `allowing` lists their module."""
    return _setting(_DESCRIBED_BY, file)


def import_paths(settings: Any) -> list[str]:
    """What looks like an import path ``module:Object`` anywhere in settings, sorted.

    >>> import_paths({"encoder": "mine.layers:Encoder", "tasks": {"my_task:Task": {}}, "sharing": "hard"})
    ['mine.layers:Encoder', 'my_task:Task']
    """
    paths, left = set(), [settings]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            left += value
        elif isinstance(value, str):
            module, colon, name = value.partition(":")
            paths |= {value} if colon and _is_module_name(module) and name.isidentifier() else set()
    return sorted(paths)


class Registry:
    """Parts of one kind by name, as a configuration or the command line names them; errors call a part `kind`.

    Modules of `package` register parts, and are imported when a name is looked up. With `network` a part must be a
    class of `torch.nn.Module`: a model's description may be anybody's, and nothing else that it names is called.
    """

    def __init__(self, kind: str, package: str, network: bool = False) -> None:
        self.kind = kind
        self._package = package
        self._network = network
        self._parts: dict[str, Any] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[P], P]:
        """Decorator that makes a class or function known by `name`; `facts` are what `fact` says of it."""

        def add(part: P) -> P:
            self._parts[name] = part
            self._facts[name] = facts
            return part

        return add

    def names(self) -> list[str]:
        """Names of the parts that msdet ships, in alphabetical order."""
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            importlib.import_module(f"{self._package}.{module.name}")
        return sorted(self._parts)

    def find(self, name: str) -> Any:
        """The part of a name, or the object at an import path ``module:Name``; an error if it is not such a part."""
        if ":" in name:
            part = _import_path(name, self.kind)
        else:
            if name not in self._parts and name not in (names := self.names()):
                raise UnknownNameError(self.kind, name, names)
            part = self._parts[name]
        if self._network:
            from torch import nn

            if not (inspect.isclass(part) and issubclass(part, nn.Module)):
                raise MsdetError(f"{self.kind} '{name}' is not a torch.nn.Module")
        return part

    def build(self, name: str, options: dict[str, Any], **derived: Any) -> Any:
        """Call the part of a name with derived sizes and the user's options (`find`, `build`)."""
        return build(self.find(name), options, f"{self.kind} '{name}'", **derived)

    def with_options(self, name: str, options: Mapping[str, Any], example: Sequence[Any]) -> Callable[..., Any]:
        """The function of a name with the user's options, tried once, so that none fails in the midst of work.

        It is called with `example`, one value for each argument that is no option, if there are options at all.
        """
        function, kind = self.find(name), f"{self.kind} '{name}'"
        check_options(function, options, kind, list(inspect.signature(function).parameters)[len(example) :])
        chosen = partial(function, **options)
        try:
            if options:
                chosen(*example)
        except MsdetError as error:
            raise MsdetError(f"{kind}: {error}") from error
        except _REFUSALS as error:
            raise MsdetError(f"{kind} fails with {shown(options)} ({_in_a_line(error)})") from error
        return chosen

    def fact(self, name: str, key: str, default: Any = None) -> Any:
        """What a registration says of a part under `key`; of a user's own part, its attribute."""
        part = self.find(name)
        return getattr(part, key, default) if ":" in name else self._facts[name].get(key, default)

    def name_of(self, part: Any) -> str:
        """What a part is called in settings: its name, or else its import path."""
        names = [name for name, registered in self._parts.items() if registered is part]
        return names[0] if names else f"{part.__module__}:{part.__qualname__}"

    def exported(self, name: str) -> Any:
        """A registered class by its own name, for ``__getattr__`` of the package that registers it."""
        if name[:1].isupper():  # not what the import system asks every module for
            self.names()
            for part in self._parts.values():
                if part.__name__ == name:
                    return part
        raise AttributeError(f"module '{self._package}' has no attribute '{name}'")


def _import_path(path: str, kind: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not _is_module_name(module_name) or not attribute.isidentifier():
        raise MsdetError(f"{kind} {path!r}: expected module:Name")
    file = _DESCRIBED_BY.get()
    if file is not None and not any(f"{module_name}.".startswith(f"{name}.") for name in _ALLOWED.get()):
        raise CodeNotAllowedError(
            f"{file}: {kind} '{path}' is code that is not msdet's, and was not imported; if you trust the module "
            f"'{module_name}', allow it: --allow-code {module_name} (in Python allow_code=['{module_name}'])"
        )
    if str(Path.cwd()) not in sys.path:  # a console script, unlike `python -m`, leaves it out
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module does wrong
        reason = _in_a_line(error)
        if not isinstance(error, ImportError | SyntaxError):  # whose messages say where
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason += f"; {place.filename}, line {place.lineno}"
        raise MsdetError(f"{kind} '{path}': cannot import '{module_name}' ({reason})") from error
    if not hasattr(module, attribute):
        raise MsdetError(f"{kind} '{path}': module '{module_name}' has no '{attribute}'")
    part = getattr(module, attribute)
    if not callable(part):
        raise MsdetError(f"{kind} '{path}': is a {type(part).__name__}, expected a class or a function")
    return part


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def build(factory: Any, options: dict[str, Any], kind: str, **derived: Any) -> Any:
    """Call `factory` with derived sizes and the user's options; an error for one that it does not take or refuses."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise MsdetError(f"{kind}: has no signature to check its options by ({error})") from error
    check_options(factory, options, kind, [name for name in parameters if name not in derived])
    try:
        return factory(**derived, **options)
    except _REFUSALS as error:
        raise MsdetError(f"{kind} cannot be built with {shown(options)} ({_in_a_line(error)})") from error


def check_options(factory: Any, options: Mapping[str, Any], kind: str, allowed: list[str]) -> None:
    """Refuse an option that a function does not take, or a number, text, boolean or null of another type than its."""
    for option in options:
        if option not in allowed:
            raise MsdetError(f"{kind} has no option '{option}'{did_you_mean(option, allowed)}")
    if not options:
        return
    typed = factory.func if isinstance(factory, partial) else factory
    try:
        hints = get_type_hints(typed.__init__ if inspect.isclass(typed) else typed)
    except (NameError, TypeError, AttributeError):
        return  # annotations that mean nothing at run time
    for option, value in options.items():
        if expected := _expected(hints.get(option, Any), value):
            raise MsdetError(f"{kind}: option '{option}' is {value!r}, expected {expected}")


def check_parsed(actions: Iterable[argparse.Action], values: Any) -> None:
    """Refuse what jsonargparse lets pass: null for an option whose default is not, and a value for a group of them."""
    for action in (action for action in actions if action.default is not None):
        value, is_group = values.get(action.dest, ...), not hasattr(action, "_typehint")
        if is_group and isinstance(value, str | int | float | list):
            raise MsdetError(f"{action.dest} is {value!r:.40}, expected its settings by name")
        if value is None:
            expected = _expected(getattr(action, "_typehint", Any), None) or "a value"
            raise MsdetError(f"{action.dest} is null, expected {expected}")


def _expected(hint: Any, value: Any) -> str | None:
    """What a type wants in words; None where a value is of it, or the type is not one that is checked.

    >>> _expected(int | None, 1.5), _expected(float, 1), _expected(bool, "no"), _expected(list[int], 3)
    ('a whole number or null', None, 'true or false', None)
    """
    words = []
    for kind in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if kind not in _WORDS:
            return None
        fits = isinstance(value, (int, float) if kind is float else kind)
        if fits and (kind is bool or not isinstance(value, bool)):
            return None
        words.append(_WORDS[kind])
    return " or ".join(words)


def shown(options: Mapping[str, Any]) -> str:
    """Options in a line, for a message."""
    return ", ".join(f"{k}={v!r}" for k, v in options.items()) or "its defaults"


def _in_a_line(error: Exception) -> str:
    """An exception's message, whose first words say what is wrong; its type where there is none."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 200 else f"{line[:200]} ..."
