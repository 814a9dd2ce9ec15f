"""Is an array plugged in as its description says? Faults of channels, found from a recording of speech.

Levels alone tell dead, clipped and offset channels and copies. For the rest the delays between channels must
be explained by one direction at each moment (`fit`): a channel that is inverted, delayed or on another
microphone's plug contradicts the others at all moments, whoever talks from wherever.
"""

from __future__ import annotations

__all__ = ["Finding", "Report", "check_array"]
