"""CSSM, coherent signal subspaces (Wang and Kaveh, IEEE Trans. ASSP 33(4), 1985); pyroomacoustics.

Its focusing starts from the beams of each frequency, which in rooms misleads it: a weak baseline there.
"""

from __future__ import annotations

from functools import partial

from msdet.evaluation.baselines import AZIMUTHS
from msdet.evaluation.baselines._doa import band_with_peaks, fewer_than_microphones, search

FINDS = (AZIMUTHS,)

separator = partial(search, "CSSM", fewer_than_microphones, band_with_peaks)
