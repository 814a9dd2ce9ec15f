"""Scoring estimates against a rendered set, and summarizing the scores; needs no model."""

from __future__ import annotations
