"""``msdet info``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdet.errors import CodeNotAllowedError, MsdetError, did_you_mean

if TYPE_CHECKING:
    from msdet.models.cost import Cost
    from msdet.models.joint import JointModel

SCORES_SHOWN = ("si_sdr_improvement_db", "doa_mae_deg", "accuracy_10deg")
"""Of the scores of a package; the card has more."""

COUNTED_S = 4.0  # seconds of audio over which the multiply-accumulates of a model are counted


def info(what: str | None = None) -> None:
    """Describe a model, a data set, an RIR bank or an array; without one, list the shipped models.

    Of a model with parts that are not msdet's, it names them; the rest is told with --allow-code.

    Args:
        what: folder of a model, data set or bank, package of a model (.tar), path of an array's TOML file, or
            name of a shipped model or array; may come first, unnamed.
    """
    from msdet.arrays import array_names, load_array
    from msdet.commands.array import describe_array
    from msdet.models.packages import is_model, shipped_names

    if what is None:
        _list_shipped()
        return
    path = Path(what)
    if is_model(what):
        _describe_model(path)
    elif (path / "dataset.json").is_file():
        _describe_set(path)
    elif (path / "bank.json").is_file():
        _describe_bank(path)
    elif what.endswith(".toml") or what in array_names():
        describe_array(load_array(what))
    else:
        hint = "" if path.exists() else did_you_mean(what, [*array_names(), *shipped_names()])
        raise MsdetError(f"{what}: no model, data set, RIR bank or array{hint}")


def _list_shipped() -> None:
    from msdet.models.packages import shipped_models

    models = shipped_models()
    if not models:
        print("no shipped models")
    for m in models:
        made_for = "any array" if m.any_array else f"array {m.array}, {m.microphones} microphones"
        talkers = f"1 to {m.talkers}" if m.any_array else m.talkers
        print(f"  {m.name}  {m.sample_rate} Hz, {talkers} talkers, {made_for}")


def _describe_package(folder: Path, notes: dict[str, Any]) -> None:
    """What the package of a model says besides: license, data, measured scores."""
    from msdet.commands.array import print_wrapped
    from msdet.hub.model_card import scores_table
    from msdet.models.packages import SCORES_FILE, find_model
    from msdet.scoring.tables import plain

    if isinstance(told := notes.get("package"), dict):
        print_wrapped(f"license: {told.get('license')}")
        print_wrapped(f"data: {' '.join(str(told.get('data')).split())}")
    files = find_model(folder)
    if files.has(SCORES_FILE):
        table, remarks = scores_table(files.read_json(SCORES_FILE), files.shown(SCORES_FILE), SCORES_SHOWN)
        print(f"\n{plain([table], remarks)}" if table.columns else "")


def _describe_model(folder: Path) -> None:
    from msdet.inference.streaming import latency_s, why_not
    from msdet.models.checkpoint import load_model, read_description

    description = read_description(folder)
    notes = description.get("notes", {})
    try:
        model = load_model(folder)
    except CodeNotAllowedError:
        _describe_unbuilt(folder, description)
        _describe_package(folder, notes)
        return
    structure, *facts = model_facts(model, description)
    print(f"model {folder}: {structure}")
    print(f"  {counted_cost(model).macs_per_s / 1e9:.2f} G multiply-accumulates per second of audio")
    obstacle = why_not(model)
    streams = f"streams, algorithmic latency {1e3 * latency_s(model):.0f} ms"
    facts.insert(3, f"does not stream: {obstacle}" if obstacle else streams)
    for fact in facts:
        print(f"  {fact}")
    scores = notes.get("scores")
    for name, value in scores.items() if isinstance(scores, dict) else ():
        print(f"  {name} {f'{value:g}' if isinstance(value, (int, float)) else value}")
    _describe_package(folder, notes)


def model_facts(model: JointModel, description: dict[str, Any]) -> list[str]:
    """A model's structure, parameters, slots, array and training, by `read_description` of its folder."""
    c, notes = model.config, description.get("notes", {})
    talkers = f"1 to {c.talkers}" if c.variable_num_speakers else f"{c.talkers}"
    tasks = f"; also {', '.join(c.tasks)}" if c.tasks else ""
    trained = f"trained for {notes['step']} steps with msdet {description.get('msdet')}" if "step" in notes else ""
    facts = [
        f"{c.front_end} -> {c.encoder} -> {c.separation_head} + {c.doa_head} DoA",
        f"{sum(p.numel() for p in model.parameters()):,} parameters",
        f"{talkers} talkers, {c.doa_classes} classes, {model.sample_rate} Hz; {c.sharing} sharing{tasks}",
        f"array {model.array.name}, {model.array.microphones} microphones",
        trained,
    ]
    return [fact for fact in facts if fact]


def counted_cost(model: JointModel) -> Cost:
    """Parameters and multiply-accumulates of a model."""
    import torch

    from msdet.models.cost import count_cost

    silence = torch.zeros(1, model.array.microphones, round(COUNTED_S * model.sample_rate))
    return count_cost(model, silence, COUNTED_S)


def _describe_unbuilt(folder: Path, description: dict[str, Any]) -> None:
    """What is known of a model without the code that it needs."""
    from msdet.components import import_paths

    paths = import_paths(description["model"])
    modules = sorted({path.partition(":")[0] for path in paths})
    array, rate = description["array"], description["sample_rate"]
    print(f"model {folder}: needs code that is not msdet's, and was not imported: {', '.join(paths)}")
    print(f"  {rate} Hz; array {array['name']}, {len(array['positions_m'])} microphones")
    print(f"  for the rest, if you trust that code: --allow-code {' '.join(modules)}")


def _describe_set(folder: Path) -> None:
    from msdet.data.scene_set import SceneSet

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
    for what, count in data.unlabeled().items():
        print(f"  {count} without {what}")


def _describe_bank(folder: Path) -> None:
    from msdet.scenes.rir.bank import RirBank

    bank = RirBank.open(folder)
    print(f"RIR bank {folder}: {bank.rooms} rooms x {bank.positions} positions, {bank.sample_rate} Hz")
    print(f"  array {bank.array.name}, {bank.array.microphones} microphones; hash {bank.identity}")
