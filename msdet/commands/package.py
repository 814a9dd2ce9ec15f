"""``msdet package``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from msdet.errors import MsdetError
from msdet.io.files import plain_name, read_json
from msdet.io.reading import read_text

TRAINING_FILE = "training.json"
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zip", ".zst")


def package(
    model: Path,
    out: Path,
    license: str,
    data_notes: Path,
    evaluation: list[str] = [],  # noqa: B006
    data: list[Path] = [],  # noqa: B006
) -> None:
    """Put a model, its measured scores and its card into one file, for others to use.

    Everything that takes --model takes the package too. It holds model.safetensors, model.json, scores.json
    and README.md, the model card; no places of this machine.

    Args:
        model: checkpoint directory; may come first, unnamed.
        out: package to write: NAME.tar, or a folder.
        license: of the weights, such as Apache-2.0, or a sentence.
        data_notes: text or Markdown file: what data it learned from, their licenses and who is to be named.
        evaluation: folders of `msdet evaluate --model`, each with a name for its test set before it:
            "unseen rooms=exp/evaluation" "other noise=exp/other". They stand side by side in the card. If
            none is given, a package keeps its own scores.
        data: folders of the test sets, for the card to describe; matched by their hash.
    """
    from msdet.commands.info import counted_cost
    from msdet.hub.model_card import Card, scores_table, without_places
    from msdet.hub.scores import collect_scores
    from msdet.models import packages
    from msdet.models.checkpoint import load_model, read_description

    name = _package_name(out)
    if not license.strip():
        raise MsdetError("license is empty, expected a name such as Apache-2.0")
    if not license.strip().isprintable():
        raise MsdetError(f"license is {license!r}, expected text on one line that can be printed")
    notes = read_text(data_notes).strip()
    if not notes:
        raise MsdetError(f"{data_notes}: is empty, expected what data the model learned from, and their licenses")
    loaded, description = load_model(model), without_places(read_description(model))
    packaged = packages.find_model(model)
    if packaged.has(packages.SCORES_FILE) and not evaluation:
        scores = packaged.read_json(packages.SCORES_FILE)
        scores_table(scores, packaged.shown(packages.SCORES_FILE))  # refused here if malformed
    else:
        scores = collect_scores(evaluation, data, packages.weights_hash(model))
    for called in (key for key, entry in scores["evaluations"].items() if entry["weights"] is None):
        print(f"warning: evaluation '{called}' does not say which weights it is of", file=sys.stderr)
    description.setdefault("notes", {})["package"] = {"name": name, "license": license.strip(), "data": notes}
    command = _command(model, out, license, data_notes, evaluation, data)
    training = without_places(read_json(path)) if (path := model / TRAINING_FILE).is_file() else {}
    cost = counted_cost(loaded)
    card = Card(name, out.name, loaded, cost, description, training, scores, license, notes, command)
    files = {
        packages.MODEL_FILE: _json(description),
        packages.WEIGHTS_FILE: packaged.read(packages.WEIGHTS_FILE),
        packages.SCORES_FILE: _json(scores),
        packages.CARD_FILE: card.text().encode(),
    }
    packages.write_package(out, files)
    size = sum(map(len, files.values()))
    print(f"{out}: {size / 1e6:.2f} MB, {len(scores['evaluations'])} evaluations")


def _package_name(out: Path) -> str:
    """The name of a package that can be written."""
    from msdet.models.packages import TAR

    name = out.name.removesuffix(TAR)
    if not name or out.suffix in COMPRESSED:
        raise MsdetError(f"{out}: expected the name of a folder, or one that ends in .tar, not compressed")
    if out.exists() and not (out.is_dir() and out.suffix != TAR and not any(out.iterdir())):
        raise MsdetError(f"{out}: exists; choose another name")
    return plain_name(name, "name of the package", out)


def _command(model: Path, out: Path, license: str, data_notes: Path, evaluation: list[str], data: list[Path]) -> str:
    """The command line, with places of this machine as their last names."""
    from msdet.hub.model_card import without_places

    def place(text: str | Path) -> str:
        name, equals, folder = str(text).partition("=")
        return f"{name}={without_places(folder)}" if equals else str(without_places(str(text)))

    words = ["msdet", "package", place(model), "--out", place(out), "--license", license]
    words += ["--data_notes", place(data_notes)]
    words += ["--evaluation", *map(place, evaluation)] if evaluation else []
    words += ["--data", *map(place, data)] if data else []
    return shlex.join(words)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
