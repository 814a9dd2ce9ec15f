"""Finding a component by name: a module of a package, or a class by import path.

A new encoder (loss, corpus, baseline) is one new file in its package; nothing else lists it. A user's
own component lives anywhere Python can import, and is named ``their.module:ClassName``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from msdet.errors import MsdetError, UnknownNameError, did_you_mean


def component_names(package: str) -> list[str]:
    """Names of the modules in `package`, private ones left out."""
    module = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(module.__path__) if not m.name.startswith("_"))


def find_component(package: str, name: str, attribute: str, kind: str) -> Any:
    """The object `attribute` of module ``package.name``, or the object at ``module:Object``.

    Args:
        package: full name of the package, for example ``msdet.models.encoders``.
        name: the component's name, or an import path ``module:Object``.
        attribute: what each module of the package defines, for example ``Encoder``.
        kind: what to call it in errors.

    Raises:
        UnknownNameError: no such module; the nearest name is offered.
        MsdetError: the import path cannot be imported or has no such object.
    """
    if ":" in name:
        return _import_path(name, kind)
    names = component_names(package)
    if name not in names:
        raise UnknownNameError(kind, name, names)
    return getattr(importlib.import_module(f"{package}.{name}"), attribute)


def _import_path(path: str, kind: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise MsdetError(f"{kind} '{path}': expected module:Name")
    if str(Path.cwd()) not in sys.path:  # a console script, unlike `python -m`, leaves it out
        sys.path.append(str(Path.cwd()))
    try:
        module: ModuleType = importlib.import_module(module_name)
    except ImportError as error:
        raise MsdetError(f"{kind} '{path}': cannot import '{module_name}' ({error})") from error
    if not hasattr(module, attribute):
        raise MsdetError(f"{kind} '{path}': module '{module_name}' has no '{attribute}'")
    return getattr(module, attribute)


def build(factory: Any, options: dict[str, Any], kind: str, **derived: Any) -> Any:
    """Call `factory` with derived sizes and the user's options, naming an option that does not exist.

    Raises:
        MsdetError: an option that `factory` does not take or refuses, or that sets a derived size.
    """
    parameters = inspect.signature(factory).parameters
    allowed = [name for name in parameters if name not in derived]
    for option in options:
        if option not in allowed:
            raise MsdetError(f"{kind} has no option '{option}'{did_you_mean(option, allowed)}")
    try:
        return factory(**derived, **options)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        shown = ", ".join(f"{k}={v!r}" for k, v in options.items()) or "its defaults"
        raise MsdetError(f"{kind} cannot be built with {shown} ({error})") from error
