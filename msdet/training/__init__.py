"""Training joint models with Lightning, and their checkpoints."""

from __future__ import annotations
