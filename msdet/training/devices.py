"""Trainings that take one device, whatever there is."""

from __future__ import annotations

import dataclasses

from msdet.errors import MsdetError
from msdet.training.config import TrainConfig


def on_one_device(config: TrainConfig, what: str) -> TrainConfig:
    """The settings, for one process on one device.

    Args:
        config: settings of a training.
        what: that has one device, and what else to do, in the error.

    Raises:
        MsdetError: they ask for several devices.
    """
    o = config.optimiser
    if o.devices not in ("auto", "1") or o.nodes != 1:
        raise MsdetError(f"optimiser.devices is {o.devices}, nodes {o.nodes}: {what}")
    return dataclasses.replace(config, optimiser=dataclasses.replace(o, devices="1"))
