"""MUSIC (Schmidt, IEEE Trans. AP 34(3), 1986), its spectra summed over frequency; pyroomacoustics."""

from __future__ import annotations

from functools import partial

from msdet.evaluation.baselines import AZIMUTHS
from msdet.evaluation.baselines._doa import band, fewer_than_microphones, search

FINDS = (AZIMUTHS,)

separator = partial(search, "MUSIC", fewer_than_microphones, band)
