"""NormMUSIC (Salvati et al., IEEE Sig. Proc. Letters 21(5), 2014): MUSIC, each frequency's peak set to 1.

Of the DoA methods of pyroomacoustics the most exact in simulated rooms, but as often far off as
SRP-PHAT.
"""

from __future__ import annotations

from functools import partial

from msdet.evaluation.baselines import AZIMUTHS
from msdet.evaluation.baselines._doa import band, fewer_than_microphones, search

FINDS = (AZIMUTHS,)

separator = partial(search, "NormMUSIC", fewer_than_microphones, band)
