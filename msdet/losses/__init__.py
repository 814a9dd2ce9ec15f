"""Objectives: which reference a slot answers for, what each task costs, and how the costs are joined."""

from __future__ import annotations
