"""What scoring commands share: the mixture first, then systems beside it, and in the end one summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from msdet.commands._progress import progress_bar, usable_cores
from msdet.commands._results import Format, show_results, split_names
from msdet.errors import MsdetError
from msdet.scoring.breakdowns import find_breakdowns
from msdet.scoring.metrics import UNPROCESSED, check_metrics

if TYPE_CHECKING:
    from msdet.data.scene_set import SceneSet
    from msdet.models.joint import JointModel
    from msdet.scoring.metrics import Row

SCORES = "scores.jsonl"
MODEL = "model"  # name of the model among the systems


@dataclass(frozen=True)
class ScoringRequest:
    """Which metrics of the audio and which breakdowns are to be scored by how many processes, and how it is shown."""

    metrics: tuple[str, ...]
    breakdowns: tuple[str, ...]
    form: Format
    workers: int

    @classmethod
    def parse(cls, metrics: str, by: str, form: Format, jobs: int) -> ScoringRequest:
        """From a command's options."""
        if jobs < 0:
            raise MsdetError(f"jobs is {jobs}, expected 0 (one a core) or more")
        chosen, breakdowns = check_metrics(split_names(metrics)), split_names(by)
        find_breakdowns(breakdowns)
        return cls(chosen, breakdowns, form, jobs or usable_cores())

    @property
    def in_lines(self) -> bool:
        """Whether it is printed for reading, and not to be pasted."""
        return self.form == "text"

    @property
    def stream(self) -> TextIO:
        """Where to print what is not to be pasted."""
        return sys.stdout if self.in_lines else sys.stderr


@dataclass
class Scoring:
    """The scoring of systems on a data set into a folder."""

    scene_set: SceneSet  # the data set
    out: Path  # the folder
    request: ScoringRequest  # what to score
    rows: dict[str, list[Row]] = field(default_factory=dict)  # scores by system, in the order of the summary
    remarks: list[str] = field(default_factory=list)  # lines below the summary
    about: Sequence[str] = ()  # facts on the model among the systems
    weights: str | None = None  # SHA-256 of the weights of the model among the systems; None without one

    def score_mixture(self) -> None:
        """Score the unprocessed mixture, over which the systems' improvements are."""
        from msdet.scoring.provenance import write_provenance
        from msdet.scoring.score import score_unprocessed

        with progress_bar(f"score {UNPROCESSED}", self.request.in_lines) as progress:
            self.rows[UNPROCESSED] = score_unprocessed(
                self.scene_set, self.scores(UNPROCESSED), self.request.workers, progress, self.request.metrics
            )
        write_provenance(self.out / UNPROCESSED, self.scene_set.identity, None)

    def score(
        self, name: str, estimates: Path, is_oracle: bool | None = None, align: bool = False, resample: bool = False
    ) -> None:
        """Score a system's folder of estimates; writes its scores, its curves and where it came from."""
        from msdet.io.files import write_json
        from msdet.scoring.confidence_calibration import curve_notes, curves
        from msdet.scoring.provenance import write_provenance
        from msdet.scoring.score import score_set
        from msdet.scoring.submission import listed, read_directions, unknown_scenes

        request, scene_set, unprocessed = self.request, self.scene_set, self.rows[UNPROCESSED]
        with progress_bar(f"score {name}", request.in_lines) as progress:
            self.rows[name] = score_set(
                scene_set, estimates, self.scores(name), request.workers, progress, request.metrics, unprocessed,
                align, resample,
            )  # fmt: skip
        about = self.about if name == MODEL else ()
        write_provenance(self.out / name, scene_set.identity, estimates, is_oracle, about)
        certainty = curves(scene_set, read_directions(estimates) or {}, self.rows[name])
        write_json(self.out / name / "curves.json", certainty)
        self.remarks += curve_notes(name, certainty)
        if unknown := unknown_scenes(scene_set, estimates):
            self.remarks.append(f"{name}: estimates of {len(unknown)} scenes that the set has not ({listed(unknown)}).")

    def scores(self, name: str) -> Path:
        """The file of a system's scores."""
        return self.out / name / SCORES

    def show(self, name: str) -> None:
        """Print and write the summary, with the paired differences of a system to the others."""
        from msdet.scoring.summary import ScoreTable

        notes = {"data": self.scene_set.identity}
        if self.weights is not None:
            notes["weights"] = self.weights
        table = ScoreTable(self.rows, name, self.request.breakdowns, self.remarks, notes)
        show_results(table, self.out, self.request.form)


def check_fit(scene_set: SceneSet, model: JointModel, folder: Path) -> list[int]:
    """Refuse a data set of another sample rate or number of talkers than a model's; the numbers of talkers in it."""
    counts = sorted({len(scene.sources) for scene in scene_set.scenes})
    slots, fewer = model.config.talkers, model.config.variable_num_speakers
    rate, own_rate = scene_set.sample_rate, model.sample_rate
    if rate != own_rate:
        raise MsdetError(f"{scene_set.root}: sample rate is {rate}, the model {folder} expects {own_rate}")
    if counts[-1] > slots or (counts[0] < slots and not fewer):
        expected, in_set = f"1 to {slots}" if fewer else f"{slots}", " or ".join(map(str, counts))
        raise MsdetError(f"{scene_set.root}: number of talkers is {in_set}, the model {folder} expects {expected}")
    return counts
