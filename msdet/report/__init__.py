"""The report of an evaluation: what it shows, how it is drawn, and the HTML around it."""

from __future__ import annotations
