"""``msdet info``."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdet.arrays import MicrophoneArray


COUNTED_S = 4.0
"""Seconds of audio over which the multiply-accumulates of a model are counted."""


def info(what: str) -> None:
    """Describe a model, a data set, an RIR bank or an array.

    Args:
        what: folder of a model, data set or bank, path of an array's TOML file, or name of a shipped array;
            may come first, unnamed.
    """
    from msdet.arrays import array_names, load_array
    from msdet.errors import MsdetError, did_you_mean

    path = Path(what)
    if (path / "model.json").is_file():
        _describe_model(path)
    elif (path / "dataset.json").is_file():
        _describe_set(path)
    elif (path / "bank.json").is_file():
        _describe_bank(path)
    elif what.endswith(".toml") or what in array_names():
        _describe_array(load_array(what))
    else:
        hint = "" if path.exists() else did_you_mean(what, array_names())
        raise MsdetError(f"{what}: no model, data set, RIR bank or array{hint}")


def _describe_array(array: MicrophoneArray) -> None:
    import numpy as np

    from msdet.arrays import FLAT
    from msdet.commands._drawing import draw_points
    from msdet.conventions import azimuth_elevation_deg

    first, second = array.closest_pair
    print(f"array {array.name}: {array.microphones} microphones, reference is channel {array.reference}")
    for label, text in (("", array.description), ("source: ", array.source)):
        if text:
            _print_wrapped(f"{label}{text}")
    print(f"  {array.geometry}; aperture {100 * array.aperture_m:.1f} cm")
    print(
        f"  closest pair: channels {first} and {second}, {100 * array.closest_distance_m:.1f} cm; "
        f"aliasing from {array.aliasing_frequency_hz:.0f} Hz"
    )
    _print_wrapped(f"tells apart: {array.resolvable_domain.words}")
    if array.is_linear:
        print("  models need the full circle of azimuths and refuse a linear array")
    print(f"  centroid {100 * np.linalg.norm(array.centroid_m):.1f} cm from the origin")
    for caution in array.cautions:
        _print_wrapped(f"caution: {caution}")
    print("  azimuth: 0° = +x, counter-clockwise seen from above; elevation: from the xy-plane up to +z")
    azimuth, elevation = azimuth_elevation_deg(array.positions)
    for channel, (x, y, z) in enumerate(array.positions_m):
        seen = f"azimuth {azimuth[channel]:5.1f}°  elevation {elevation[channel] + 0.0:+5.1f}°"
        print(f"  channel {channel:2d}: {x + 0.0:+.4f} {y + 0.0:+.4f} {z + 0.0:+.4f} m  {seen}")
    views = [("from above, x right, y up", [0, 1])]
    if np.ptp(array.positions[:, 2]) > FLAT * array.aperture_m:
        views.append(("from the front (from +x), y right, z up", [1, 2]))
    for view, coordinates in views:
        lines, row_m = draw_points(array.positions[:, coordinates])
        origin = "; + is the origin" if any("+" in line for line in lines) else ""
        print(f"\n  {view}{origin}; a row is {100 * row_m:.2g} cm high\n")
        print("\n".join(f"    {line}".rstrip() for line in lines))


def _print_wrapped(text: str) -> None:
    print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ", break_long_words=False))


def _describe_model(folder: Path) -> None:
    import torch

    from msdet.models.cost import count_cost
    from msdet.training.checkpoint import load_model, read_description

    model, description = load_model(folder), read_description(folder)
    silence = torch.zeros(1, model.array.microphones, round(COUNTED_S * model.sample_rate))
    cost = count_cost(model, silence, COUNTED_S)
    c = model.config
    print(f"model {folder}: {c.front_end} -> {c.encoder} -> {c.separation_head} + {c.doa_head} DoA")
    giga = cost.macs_per_s / 1e9
    print(f"  {cost.parameters:,} parameters, {giga:.2f} G multiply-accumulates per second of audio")
    talkers = f"1 to {c.talkers}" if c.vacancy else f"{c.talkers}"
    tasks = f"; also {', '.join(c.tasks)}" if c.tasks else ""
    print(f"  {talkers} talkers, {c.doa_classes} classes, {model.sample_rate} Hz; {c.sharing} sharing{tasks}")
    print(f"  array {model.array.name}, {model.array.microphones} microphones")
    notes = description.get("notes", {})
    if "step" in notes:
        print(f"  trained for {notes['step']} steps with msdet {description['msdet']}")
    for name, value in notes.get("scores", {}).items():
        print(f"  {name} {value:g}")


def _describe_set(folder: Path) -> None:
    from msdet.data.manifest import SceneSet

    data = SceneSet.open(folder)
    hours = sum(scene.duration_s for scene in data.scenes) / 3600
    counts = Counter(len(scene.sources) for scene in data.scenes)
    speakers = {source.speaker for scene in data.scenes for source in scene.sources} - {""}
    t60 = [scene.t60_s for scene in data.scenes if scene.t60_s is not None]
    print(f"data set {folder}: {len(data.scenes)} scenes, {hours:.2f} h, {data.sample_rate} Hz")
    known = f"{len(speakers)} speakers" if speakers else "speakers not known"
    print(f"  talkers a scene: {dict(sorted(counts.items()))}; {known}")
    print(f"  array {data.array.name}, {data.array.microphones} microphones")
    span = f"{min(t60):.2f} to {max(t60):.2f} s" if t60 else "not known"
    print(f"  T60 {span}; hash {data.identity}")
    for what, count in data.unlabelled().items():
        print(f"  {count} without {what}")


def _describe_bank(folder: Path) -> None:
    from msdet.simulation.bank import RirBank

    bank = RirBank.open(folder)
    print(f"RIR bank {folder}: {bank.rooms} rooms x {bank.positions} positions, {bank.sample_rate} Hz")
    print(f"  array {bank.array.name}, {bank.array.microphones} microphones; hash {bank.identity}")
