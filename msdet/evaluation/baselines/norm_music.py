"""NormMUSIC (Salvati et al., IEEE Sig. Proc. Letters 21(5), 2014): MUSIC, each frequency's peak set to 1.

Of the DoA methods of pyroomacoustics the best on simulated rooms.
"""

from __future__ import annotations

from functools import partial

from msdet.evaluation.baselines._doa import band, fewer_than_microphones, search

separator = partial(search, "NormMUSIC", fewer_than_microphones, band)
