"""``msdet separate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msdet.errors import MsdetError

if TYPE_CHECKING:
    from msdet.inference.offline import Separation


def separate(
    recording: Path,
    out: Path,
    model: Path | None = None,
    method: str | None = None,
    array: str | None = None,
    talkers: int | None = None,
) -> None:
    """Separate a recording into talkers and their directions: one WAV file each, and doa.json.

    Give either a model, which knows its array and number of talkers, or a method that needs no training.
    Some methods give directions alone (norm_music) or voices alone (auxiva).

    Args:
        recording: multichannel audio file, channels in the array's order; may come first, unnamed.
        out: folder for talker1.wav, talker2.wav and so on (ascending in azimuth), and doa.json.
        model: checkpoint directory.
        method: a baseline instead of a model, for example srp_beam, or with options auxiva,iterations=100.
        array: with a method, name of a shipped array or path of a TOML file.
        talkers: with a method, number of talkers (2 if not given).
    """
    from msdet import audio
    from msdet.arrays import load_array
    from msdet.evaluation.baselines import baseline_separator, without_truth
    from msdet.inference.offline import check_recording, model_separator, write_separation
    from msdet.training.checkpoint import load_model

    if (model is None) == (method is None):
        raise MsdetError("give either --model (a checkpoint directory) or --method (for example srp_beam)")
    mixture, rate = audio.read(recording)
    if model is not None:
        loaded = load_model(model)
        if array is not None or (talkers is not None and talkers != loaded.config.talkers):
            raise MsdetError(
                f"{model} is for the array '{loaded.array.name}' and {loaded.config.talkers} talkers; "
                "leave --array and --talkers out"
            )
        if rate < loaded.sample_rate:
            raise MsdetError(
                f"{recording}: is at {rate} Hz, the model needs at least {loaded.sample_rate} Hz"
            )
        geometry, used_rate = loaded.array, loaded.sample_rate
        separator, name = model_separator(loaded), str(model)
    else:
        if array is None or method is None:
            raise MsdetError("give --array (a shipped name or a TOML file): a method knows no geometry")
        geometry, used_rate = load_array(array), rate
        count = 2 if talkers is None else talkers
        separator = without_truth(baseline_separator(method, geometry, rate, count), f"method '{method}'")
        name = method
    check_recording(mixture, geometry, rate, recording)
    result = separator(audio.resample(mixture, rate, used_rate))
    notes = {"recording": recording.name, "separated_by": name}
    write_separation(out, result, used_rate, geometry, notes)
    _tell(result, out)


def _tell(result: Separation, out: Path) -> None:
    """Print a line a talker, of what there is."""
    for talker, found in enumerate(result.talkers, start=1):
        shown = [f"talker {talker}" if result.voices is None else str(out / f"talker{talker}.wav")]
        if "azimuth_deg" in found:
            shown.append(f"azimuth {found['azimuth_deg']:5.1f}°")
        if "confidence" in found:
            shown.append(f"confidence {found['confidence']:.2f}")
        print("  ".join(shown))
