"""SRP-PHAT (DiBiase 2000): azimuths where the phase-normalised microphones add up best; pyroomacoustics."""

from __future__ import annotations

from functools import partial

from msdet.evaluation.baselines import AZIMUTHS
from msdet.evaluation.baselines._doa import any_number, band, search

FINDS = (AZIMUTHS,)

separator = partial(search, "SRP", any_number, band)
