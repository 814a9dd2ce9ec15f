"""Errors that msdet raises on purpose: each is one line a user can act on.

The command line prints them without a traceback and exits with code 2. All derive from `MsdetError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MsdetError(Exception):
    """Bad input: says which file or field, what was found and what was expected, in one printable line."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class WriteError(MsdetError):
    """A file cannot be written: a full disk or missing rights, whatever the input is."""


class UndefinedMetricError(MsdetError):
    """A metric has no value for these signals; the message is the reason, in a few words."""


class CodeNotAllowedError(MsdetError):
    """A file names code that is not msdet's and that the user has not allowed."""


class UnknownNameError(MsdetError):
    """A name that is not in a list of names; offers the nearest one."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        self.choices = sorted(choices)
        self._arguments = (kind, name, self.choices)
        super().__init__(f"unknown {kind} '{name}'{did_you_mean(name, self.choices)}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        """Pickle by the arguments, so that the error can leave a worker process."""
        return UnknownNameError, self._arguments


def check_known(kind: str, choices: Iterable[str], *names: str) -> None:
    """Refuse, by an `UnknownNameError`, the first of some names that is none of the choices."""
    known = list(choices)
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)


def printable(text: str) -> str:
    r"""A text with what cannot be printed, or would end the line, escaped: names in it may be anybody's.

    >>> print(printable("a\nb\x1b[31m\ud800é"))
    a\nb\x1b[31m\ud800é
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest name, or all of them.

    >>> did_you_mean("azimut", ["azimuth", "pit"])
    "; did you mean 'azimuth'?"
    >>> did_you_mean("zzz", ["azimuth", "pit"])
    '; expected one of: azimuth, pit'
    """
    names = list(choices)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; expected one of: {', '.join(names)}" if names else ""


def nearest_option(name: str, choices: Iterable[str]) -> str:
    """As `did_you_mean`, of dotted names; one whose last part is the name's is the nearest.

    >>> nearest_option("devices", ["seed", "trainer.devices", "trainer.seed"])
    "; did you mean 'trainer.devices'?"
    """
    names = list(choices)
    leaf = name.rpartition(".")[2]
    leaves = {choice.rpartition(".")[2]: choice for choice in reversed(names)}
    if leaf in leaves:
        return f"; did you mean '{leaves[leaf]}'?"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not near:
        near = [leaves[close] for close in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)]
    return f"; did you mean '{near[0]}'?" if near else "; --help lists all options"
