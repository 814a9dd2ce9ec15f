"""Using a model, or a method without one, on recordings."""

from __future__ import annotations
