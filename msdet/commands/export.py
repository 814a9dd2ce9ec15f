"""``msdet export``."""

from __future__ import annotations

from pathlib import Path

FORMATS = ("kaldi", "sms_wsj", "lhotse")


def export(data: Path, format: str, dataset: str = "") -> None:
    """Write a data set's tables in another format into its folder; all paths in them are relative to it.

    Args:
        data: folder of a finished data set; may come first, unnamed.
        format: kaldi (wav.scp and other tables), sms_wsj (sms_wsj.json) or lhotse (recordings.jsonl.gz and
            cuts.jsonl.gz).
        dataset: name of the data set in sms_wsj.json; the folder's name by default.
    """
    from msdet.data.scene_set import SceneSet
    from msdet.errors import MsdetError, UnknownNameError

    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if dataset and format != "sms_wsj":
        raise MsdetError(f"dataset is '{dataset}', but only format sms_wsj names its data set")
    scene_set = SceneSet.open(data)
    if format == "kaldi":
        from msdet.data.formats.kaldi import write_kaldi

        write_kaldi(data, scene_set.scenes)
        tables = (data / name for name in ("wav.scp", "spk1.scp", "utt2doa"))
        written = [path for path in tables if path.is_file()]
    elif format == "sms_wsj":
        from msdet.data.formats.sms_wsj import write_sms_wsj

        written = [write_sms_wsj(scene_set, dataset)]
    else:
        from msdet.data.formats.lhotse import write_lhotse

        written = list(write_lhotse(scene_set))
    names = ", ".join(path.name for path in written)
    print(f"{data}: {len(scene_set.scenes)} scenes in {names}{' …' if format == 'kaldi' else ''}")
