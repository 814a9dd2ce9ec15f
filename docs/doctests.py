"""Examples in docstrings as code: a run of ``>>>`` lines, with what they print, is a fenced block."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^([ \t]*)>>> .*(?:\n[ \t]*\S.*)*", re.MULTILINE)


class Doctests(Extension):
    """Fences examples before docstrings are read as Markdown, where ``>>>`` would be quotations."""

    def on_object(self, *, obj: Object, **of_the_object: Any) -> None:
        """Change the docstring of an object that has one."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
