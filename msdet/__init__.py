"""msdet: joint multichannel speech separation and direction-of-arrival estimation."""

__version__ = "0.1.0"
