"""``msdet export`` and ``msdet import-set``: tables of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from msdet.data.formats.external import ExternalDataset
    from msdet.data.scene_set import SceneSet

FORMATS = ("kaldi", "sms_wsj", "lhotse")


def export(
    data: Path,
    format: str,
    out: Path | None = None,
    dataset: str = "",
    speech: Path | None = None,
    noise: Path | None = None,
    bank: Path | None = None,
) -> None:
    """Write a data set's tables in another format into its folder, with paths relative to it.

    Args:
        data: folder of a finished data set; may come first, unnamed.
        out: folder for the tables instead, with absolute paths, which open from anywhere until the set is moved.
        format: kaldi (wav.scp and other tables), sms_wsj (sms_wsj.json) or lhotse (recordings.jsonl.gz and
            cuts.jsonl.gz).
        dataset: name of the data set in sms_wsj.json; the folder's name by default.
        speech: the corpus that the set was made of, for format sms_wsj: render dry speech, early parts, tails, noise
            and responses again, and write them into --out as well, for SMS-WSJ's own reader.
        noise: folder of noise recordings that the set was made with, if any.
        bank: RIR bank that the set was made from, if any.
    """
    from msdet.data.scene_set import SceneSet
    from msdet.errors import MsdetError, UnknownNameError

    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if dataset and format != "sms_wsj":
        raise MsdetError(f"dataset is '{dataset}', but only format sms_wsj names its data set")
    for name, folder in (("speech", speech), ("noise", noise), ("bank", bank)):
        if folder is not None and (format != "sms_wsj" or out is None or speech is None):
            raise MsdetError(f"{name} is {folder}, but only format sms_wsj with --speech and --out renders signals")
    scene_set = SceneSet.open(data)
    if format == "kaldi":
        from msdet.data.scene_set import write_kaldi

        write_kaldi(data, scene_set.scenes, out)
        tables = ((out or data) / name for name in ("wav.scp", "spk1.scp", "utt2doa"))
        written = [path for path in tables if path.is_file()]
    elif format == "sms_wsj":
        from msdet.data.formats.sms_wsj import write_sms_wsj

        signals = {} if speech is None or out is None else _signals(scene_set, speech, noise, bank, out)
        written = [write_sms_wsj(scene_set, dataset, out, signals)]
    else:
        from msdet.data.formats.lhotse import write_lhotse

        written = list(write_lhotse(scene_set, out))
    names = ", ".join(path.name for path in written)
    print(f"{out or data}: {len(scene_set.scenes)} scenes in {names}{' …' if format == 'kaldi' else ''}")


def _signals(
    scene_set: SceneSet, speech: Path, noise: Path | None, bank: Path | None, out: Path
) -> dict[str, dict[str, object]]:
    """Signals of the scenes, rendered again by a process a core."""
    from msdet.commands._progress import progress_bar, workers
    from msdet.data.formats.sms_wsj_signals import Material, write_signals

    with workers(0, "") as pool, progress_bar("render") as progress:
        return write_signals(scene_set, Material(speech, noise, bank), out, pool, progress)


def import_set(
    source: Path,
    out: Path,
    array: str = "",
    target: str = "",
    dataset: str = "",
    audio_root: str = "",
    distance_m: float | None = None,
    allow_commands: bool = False,
    jobs: int = 0,
) -> None:
    """Make a data set from an sms_wsj.json or from a Kaldi directory.

    Args:
        source: an sms_wsj.json or a directory with wav.scp and spk1.scp, utt2doa or both; what they do not
            tell of a mixture, references or directions, the data set does not have; may come first, unnamed.
        out: folder of the data set; run the same command again to finish it after a kill.
        array: that recorded the mixtures, a shipped array's name or a TOML file; sms_wsj for an sms_wsj.json.
        target: what the references hold, direct, early or image; early by default for an sms_wsj.json, from
            which all three can be had.
        dataset: which data set of the sms_wsj.json, such as test_eval92.
        audio_root: OLD=NEW if paths that start with OLD now start with NEW, or the folder audio was moved to.
        distance_m: of all talkers, for a Kaldi directory without utt2distance.
        allow_commands: run the commands that a Kaldi directory has in place of files ("sox in.wav -t wav - |"), in the
            working directory; they can do whatever you can, so look at them first.
        jobs: worker processes; 0 for one a core.
    """
    from msdet.commands._progress import progress_bar, workers
    from msdet.data.formats.external import scales, write_external_dataset

    found = _read(source, array, target, dataset, audio_root, distance_m, allow_commands)
    with workers(jobs, "") as pool, progress_bar("import") as progress:
        made = write_external_dataset(out, found, pool, progress)
    print(f"{out}: {len(made.scenes)} scenes, {made.array.microphones} microphones at {made.sample_rate} Hz")
    for what, count in made.unlabeled().items():
        print(f"  {count} without {what}")
    if scaled := scales(made):
        names = ", ".join(list(scaled)[:5]) + (" …" if len(scaled) > 5 else "")
        print(f"  {len(scaled)} are scaled, by {min(scaled.values()):.3f} and up, so as not to clip: {names}")


def _read(
    source: Path, array: str, target: str, dataset: str, audio_root: str, distance_m: float | None, allow_commands: bool
) -> ExternalDataset:
    """The other set, read by the reader that `source` calls for."""
    from msdet.arrays import load_array
    from msdet.data.formats.kaldi import read_kaldi
    from msdet.data.formats.sms_wsj import read_sms_wsj
    from msdet.errors import MsdetError, UnknownNameError
    from msdet.scenes.scene import Target

    chosen: Target | None = next((t for t in get_args(Target) if t == target), None)
    if target and chosen is None:
        raise UnknownNameError("target", target, get_args(Target))
    if audio_root and "=" not in audio_root and not Path(audio_root).is_dir():
        raise MsdetError(f"audio_root is '{audio_root}', expected OLD=NEW or a folder")
    if source.is_file():
        if distance_m is not None:
            raise MsdetError("distance_m is for Kaldi directories; an sms_wsj.json has positions")
        if allow_commands:
            raise MsdetError("allow_commands is for Kaldi directories; an sms_wsj.json names files alone")
        return read_sms_wsj(source, load_array(array or "sms_wsj"), chosen or "early", dataset, audio_root)
    if not (source / "wav.scp").is_file():
        problem = "no such file or folder" if not source.exists() else "has no wav.scp"
        raise MsdetError(f"{source}: {problem}, expected an sms_wsj.json or a Kaldi directory")
    if dataset:
        raise MsdetError(f"dataset is '{dataset}', but a Kaldi directory is one data set")
    if not array:
        raise MsdetError(f"{source}: does not tell its array; give --array, a shipped name or a TOML file")
    if chosen is None:
        raise MsdetError(f"{source}: does not tell what spk1.scp holds; give --target direct, early or image")
    return read_kaldi(source, load_array(array), chosen, distance_m, audio_root, allow_commands)
