"""What a metric raises where it has no value, and the reason that several modules give."""

from __future__ import annotations

from msdet.errors import MsdetError

UNTOLD = "SI-SDR does not tell whose voice it is"
"""Why what follows the voices' permutation has no value: voices that are undefined, or alike."""


class UndefinedMetricError(MsdetError):
    """A metric has no value for these signals; the message is the reason, in a few words."""
