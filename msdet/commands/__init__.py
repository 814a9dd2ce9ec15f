"""The commands of ``msdet``: each module has one typed function of its own name."""

from __future__ import annotations
