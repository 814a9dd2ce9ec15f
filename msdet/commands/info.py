"""``msdet info``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


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
        array = load_array(what)
        print(f"array {array.name}: {array.microphones} microphones, reference is channel {array.reference}")
        print(
            f"  aperture {100 * array.aperture_m:.1f} cm; aliasing from {array.aliasing_frequency_hz:.0f} Hz"
        )
        if array.is_linear:
            print("  linear: cannot tell a talker from the mirror image behind the line; models refuse it")
        if array.source:
            print(f"  source: {array.source}")
        for channel, (x, y, z) in enumerate(array.positions_m):
            print(f"  channel {channel}: {x:+.4f} {y:+.4f} {z:+.4f} m")
    else:
        hint = "" if path.exists() else did_you_mean(what, array_names())
        raise MsdetError(f"{what}: no model, data set, RIR bank or array{hint}")


def _describe_model(folder: Path) -> None:
    from msdet.training.checkpoint import load_model, read_description

    model, description = load_model(folder), read_description(folder)
    parameters = sum(p.numel() for p in model.parameters())
    c = model.config
    print(f"model {folder}: {c.front_end} -> {c.encoder} -> {c.separation_head} + {c.doa_head} DoA")
    print(
        f"  {parameters:,} parameters, {c.talkers} talkers, {c.doa_classes} classes, {model.sample_rate} Hz"
    )
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
    speakers = {source.speaker for scene in data.scenes for source in scene.sources}
    t60 = [scene.t60_measured_s or 0.0 for scene in data.scenes]
    print(f"data set {folder}: {len(data.scenes)} scenes, {hours:.2f} h, {data.sample_rate} Hz")
    print(f"  talkers a scene: {dict(sorted(counts.items()))}; {len(speakers)} speakers")
    print(f"  array {data.array.name}, {data.array.microphones} microphones")
    print(f"  T60 measured {min(t60):.2f} to {max(t60):.2f} s; hash {data.identity}")


def _describe_bank(folder: Path) -> None:
    from msdet.simulation.bank import RirBank

    bank = RirBank.open(folder)
    print(f"RIR bank {folder}: {bank.rooms} rooms x {bank.positions} positions, {bank.sample_rate} Hz")
    print(f"  array {bank.array.name}, {bank.array.microphones} microphones; hash {bank.identity}")
