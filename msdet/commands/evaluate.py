"""``msdet evaluate``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar
from msdet.commands._results import EXIT_NOT_ALL_SCORED, Format, print_failures
from msdet.commands._scoring import MODEL, Scoring, ScoringRequest, check_fit
from msdet.errors import MsdetError
from msdet.scoring.breakdowns import DEFAULT_BREAKDOWNS
from msdet.scoring.metrics import DEFAULT_METRICS, UNPROCESSED

if TYPE_CHECKING:
    from msdet.conventions import Array
    from msdet.data.scene_set import SceneSet
    from msdet.methods.base import Oracle, Separation, Separator

    System = Path | Mapping[int, Separator | Oracle]

METHODS = ["srp_beam"]
ALL = "all"
OWN_ESTIMATES = "estimates"  # name of the folder that a system's estimates are written to


def evaluate(
    data: Path,
    out: Path,
    model: Path | None = None,
    methods: list[str] = METHODS,
    metrics: str = ",".join(DEFAULT_METRICS),
    by: str = ",".join(DEFAULT_BREAKDOWNS),
    format: Format = "text",
    device: str = "cpu",
    jobs: int = 0,
    tell_count: bool = False,
) -> int:
    """Run a model and baselines over a data set and score them beside the unprocessed mixture.

    Writes, for each system, estimates and scores.jsonl, and for all together summary.json and summary.md.
    Exit code 1 if anything could not be scored.

    Args:
        data: rendered data set.
        out: folder of the evaluation.
        model: checkpoint directory, package (.tar) or name of a shipped model; without one, only the baselines are run.
        methods: baselines by name (file names in msdet/methods) or import path module:function,
            with options as in lcmv,doa=oracle; folders of estimates; all: every baseline that needs nothing.
        metrics: of the audio, between commas, as for msdet score.
        by: breakdowns, between commas, as for msdet score.
        format: of what is printed: text to read, or md, latex, csv or json to paste.
        device: to compute on: cpu, cuda or, for one of several GPUs, cuda:1.
        jobs: processes that score; 0 for one a core.
        tell_count: tell the model how many talk in each scene, as baselines always are; for models that find it out.
    """
    from msdet.commands._inference import check_device
    from msdet.data.scene_set import SceneSet
    from msdet.inference.estimates import ESTIMATES
    from msdet.io.files import check_own_folder
    from msdet.models.packages import weights_hash

    request = ScoringRequest.parse(metrics, by, format, jobs)
    check_device(device, of_model=model is not None)
    scene_set = SceneSet.open(data)
    systems = dict(_systems(scene_set, split_methods(methods)))
    about: list[str] = []
    if model is not None:
        systems[MODEL], about = _model_separators(model, scene_set, device, tell_count)
    scoring = Scoring(scene_set, out, request, about=about, weights=None if model is None else weights_hash(model))
    for name, system in systems.items():
        if not isinstance(system, Path):
            check_own_folder(out / name / OWN_ESTIMATES, ESTIMATES)  # before hours of work
    scoring.score_mixture()
    failures = _score(scoring, systems)
    if failures and len(failures) == len(systems):
        raise MsdetError(failures[0])
    scoring.show(list(scoring.rows)[-1])
    return _tell(scoring, failures)


def split_methods(methods: Iterable[str]) -> list[str]:
    """Methods one by one, each once; a comma is also before a method's options, and inside their values.

    >>> split_methods(["all,srp_beam", "lcmv,doa=[10,100],mvdr", "all"])
    ['all', 'srp_beam', 'lcmv,doa=[10,100]', 'mvdr']
    """
    from msdet.methods import method_names

    names = {ALL, *method_names()}
    split: list[str] = []
    for text in methods:
        if not all(part.strip() for part in text.split(",")):
            raise MsdetError(
                f"methods has '{text}', expected names of baselines, folders of estimates or {ALL} "
                f"({UNPROCESSED} alone for none)"
            )
        parts = [text] if "/" in text or Path(text).is_dir() else text.split(",")
        split.append(parts[0])
        for part in parts[1:]:
            if part in names or not ("=" in part or "=" in split[-1]):
                split.append(part)
            else:
                split[-1] += f",{part}"
    return list(dict.fromkeys(split))


def _score(scoring: Scoring, systems: Mapping[str, System]) -> list[str]:
    """Run and score systems; why the ones that separate nothing do not."""
    from msdet.inference.estimates import write_estimates
    from msdet.methods.base import Oracle

    failures = []
    # others' folders come first: they may be refused
    for name, system in sorted(systems.items(), key=lambda item: not isinstance(item[1], Path)):
        if isinstance(system, Path):
            scoring.score(name, system)
            continue
        estimates = scoring.out / name / OWN_ESTIMATES
        try:
            with progress_bar(f"separate {name}", scoring.request.in_lines) as progress:
                write_estimates(scoring.scene_set, system, estimates, progress)
        except MsdetError as error:  # the others are still worth their tables
            failures.append(f"{name}: nothing separated: {error}")
            continue
        scoring.score(name, estimates, is_oracle=any(isinstance(s, Oracle) for s in system.values()))
    scoring.rows = {name: scoring.rows[name] for name in (UNPROCESSED, *systems) if name in scoring.rows}
    return failures


def _tell(scoring: Scoring, failures: list[str]) -> int:
    """Print what each system failed at; the exit code."""
    stream = scoring.request.stream
    scored = [name for name in scoring.rows if name != UNPROCESSED]
    wanted, complete = len(failures) + len(scored), True
    for name in scored:
        try:
            complete &= print_failures(scoring.rows[name], scoring.scores(name), stream, name)
        except MsdetError as error:
            failures.append(str(error))
    if failures and len(failures) == wanted:
        raise MsdetError(failures[0])
    for failure in failures:
        print(f"failed: {failure}", file=stream)
    return EXIT_NOT_ALL_SCORED if failures or not complete else 0


def _systems(scene_set: SceneSet, methods: list[str]) -> Iterator[tuple[str, System]]:
    """Each method's name in the tables, and its separators or its folder of estimates; first what `ALL` stands for."""
    from msdet.io.files import plain_name
    from msdet.methods import build_method, method_names, methods_without_options

    taken = {UNPROCESSED: UNPROCESSED, MODEL: MODEL}
    known = method_names()
    counts = sorted({len(scene.sources) for scene in scene_set.scenes})
    ready = [name for name in methods_without_options() if name not in methods] if ALL in methods else []
    for method in sorted(ready, key=METHODS.count) + [m for m in methods if m != ALL]:
        if method == UNPROCESSED:  # it always is among the systems
            continue
        is_folder = method not in known and ("/" in method.split(",")[0] or Path(method).is_dir())
        name = re.sub(r"[^\w.,=:+\[\]-]", "_", method)
        if is_folder:  # those of an evaluation are called estimates
            folder = Path(method).resolve()
            name = folder.parent.name if folder.name == OWN_ESTIMATES else folder.name
        plain_name(name, "name of the system", f"methods, '{method}'")
        if name in taken:
            raise MsdetError(f"methods '{taken[name]}' and '{method}' would both be called '{name}'")
        taken[name] = method
        if is_folder:
            yield name, Path(method)
            continue
        try:
            yield name, {n: build_method(method, scene_set.array, scene_set.sample_rate, n) for n in counts}
        except MsdetError as error:
            if method not in ready:  # of all, what does not suit this set is left out
                raise
            print(f"left out: {method}: {error}", file=sys.stderr)


def _model_separators(
    folder: Path, scene_set: SceneSet, device: str, tell_count: bool
) -> tuple[dict[int, Separator | Oracle], list[str]]:
    """The model by the number of talkers of a scene: its own, or with empty slots any up to that; and facts on it."""
    from msdet.commands._inference import load_on
    from msdet.commands.info import model_facts
    from msdet.methods.trained import model_separator
    from msdet.models.checkpoint import read_description

    model = load_on(device, folder, scene_set.array)
    facts = [folder.name, *model_facts(model, read_description(folder)), *["told how many talk"] * tell_count]
    counts, separate = check_fit(scene_set, model, folder), model_separator(model)
    if not tell_count:
        return dict.fromkeys(counts, separate), facts
    if not model.may_be_told(counts[0]):
        raise MsdetError(f"{folder}: cannot be told how many talk (--tell_count)")

    def told(talkers: int) -> Separator:
        def separate_told(mixture: Array) -> Separation:
            model.tell(talkers)
            return separate(mixture)

        return separate_told

    return {count: told(count) for count in counts}, facts
