"""What a metric raises where it has no value."""

from __future__ import annotations

from msdet.errors import MsdetError


class UndefinedMetricError(MsdetError):
    """A metric has no value for these signals; the message is the reason, in a few words."""
