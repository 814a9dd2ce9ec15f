"""``msdet export-model``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msdet.commands._progress import progress_bar
from msdet.errors import MsdetError
from msdet.export import Format, Precision, StftPlace

if TYPE_CHECKING:
    from msdet.data.scene_set import SceneSet
    from msdet.export.parity import Deviation
    from msdet.export.writing import ExportedFile
    from msdet.models.joint import JointModel

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}


def export_model(
    model: Path,
    out: Path,
    format: Format = "onnx",
    precision: Precision = "float32",
    stft: StftPlace = "outside",
    data: Path | None = None,
) -> None:
    """Write a model as a file that other programs run without msdet: ONNX, or a PyTorch program.

    The file is run before it is written, and its voices are compared with the model's; if they differ, there
    is no file. Prints how far they are off, how large the file is, and how fast.

    Args:
        model: checkpoint directory, package (.tar) or name of a shipped model; may come first, unnamed.
        out: the file; its name ends in .onnx, or .pt2 for format torch.
        format: onnx, or torch (torch.export).
        precision: of the weights: float32; float16 or bf16 (stored so, computed in float32); int8.
        stft: outside: the file takes and gives spectra; inside: waveforms.
        data: rendered data set that the file and the model are scored on.
    """
    from msdet.commands._inference import computing
    from msdet.export.writing import export_model as write
    from msdet.models.checkpoint import load_model, read_description

    if out.suffix != SUFFIXES[format]:
        raise MsdetError(f"{out}: the name of a file of format {format} must end in {SUFFIXES[format]}")
    loaded = load_model(model)
    scene_set = None if data is None else _fitting_set(data, loaded, model)
    left_out = [name for name in loaded.config.tasks if name != "activity"]
    with computing(1):
        file = write(loaded, out, format, precision, stft, read_description(model).get("notes", {}))
        print(f"{out}: {file.size / 1e6:.2f} MB, weights in {precision}, STFT {stft}")
        if left_out:
            print(f"  left out: {', '.join(left_out)}")
        _tell_parity("voices and posteriors", file.parity)
        if file.lowered is not None:
            print(f"  in float32 the file would be of {file.full_size / 1e6:.2f} MB")
            _tell_parity(f"of weights in {precision}", file.lowered)
        _tell_speed(loaded, file, stft, "onnxruntime" if format == "onnx" else "the file")
        if scene_set is not None:
            _tell_scores(scene_set, loaded, file, stft, precision)


def _tell_parity(what: str, found: Deviation) -> None:
    print(
        f"  {what}: off by {found.estimates:.1e} of a voice's peak and {found.doa:.1e} of probability at "
        f"most; voices agree to {found.si_sdr_db:.1f} dB"
    )


def _tell_speed(model: JointModel, file: ExportedFile, stft: StftPlace, name: str) -> None:
    from msdet.export.parity import speeds

    of_file, of_model = speeds(model, file.runner, stft)
    print(
        f"  real-time factor on one core: {name} {of_file:.3f}, PyTorch {of_model:.3f} "
        f"({of_model / of_file:.2f} times as fast)"
    )


def _fitting_set(data: Path, model: JointModel, folder: Path) -> SceneSet:
    """A data set that a model can be scored on."""
    from msdet.commands._scoring import check_fit
    from msdet.data.scene_checks import audio_paths
    from msdet.data.scene_set import SceneSet

    scene_set = SceneSet.open(data)
    recorded, known = scene_set.array, model.array
    if (recorded.positions_m, recorded.reference) != (known.positions_m, known.reference):
        raise MsdetError(
            f"{data}: its array '{recorded.name}' has other coordinates than '{known.name}' of the model {folder}"
        )
    check_fit(scene_set, model, folder)
    for scene in scene_set.scenes:
        if not scene.referenced:
            raise MsdetError(f"{data}: scene '{scene.id}' has no references to score with")
        for path in audio_paths(scene):
            if not (data / path).is_file():
                raise MsdetError(f"{data / path}: no such file")
    return scene_set


def _tell_scores(
    scene_set: SceneSet, model: JointModel, file: ExportedFile, stft: StftPlace, precision: Precision
) -> None:
    """SI-SDRi and mean absolute DoA error of model and file, over all talkers whose score is defined."""
    import numpy as np

    from msdet.export.parity import file_separator
    from msdet.methods.trained import model_separator
    from msdet.scoring.score import ScoringOptions, score_scene
    from msdet.scoring.submission import DoaEstimates

    systems = {"PyTorch": model_separator(model), f"the file in {precision}": file_separator(model, file.runner, stft)}
    print(f"  on {len(scene_set.scenes)} scenes of {scene_set.root}")
    for name, separate in systems.items():
        values: dict[str, list[float]] = {"si_sdr_improvement_db": [], "doa_error_deg": []}
        with progress_bar(f"score {name}", lines=False) as progress:
            for number, scene in enumerate(scene_set.scenes, start=1):
                found, truth = separate(mixture := scene_set.mixture(scene)), scene_set.references(scene)
                assert found.azimuth_deg is not None
                scored = (scene, scene_set.array, mixture, truth, found.estimates, DoaEstimates(found.azimuth_deg))
                row = score_scene(*scored, ScoringOptions(("si_sdr",)))
                for field in values:
                    values[field] += [value for value in row.get(field) or [] if value is not None]
                progress(number, len(scene_set.scenes))
        gain_db, error_deg = (float(np.mean(v)) if v else float("nan") for v in values.values())
        print(f"    {name}: SI-SDRi {gain_db:.2f} dB, DoA error {error_deg:.2f}°")
