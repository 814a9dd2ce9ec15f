"""A data set as a Kaldi directory."""

from __future__ import annotations

from pathlib import Path

from msdet.files import write_text
from msdet.simulation.scene import Scene, mixture_path, reference_path


def write_kaldi(root: Path, scenes: tuple[Scene, ...]) -> None:
    """Write ``wav.scp``, ``spk1.scp`` …, ``utt2spk``, ``utt2dur``, ``utt2doa`` and ``utt2rt60`` into a set.

    Paths are relative to the set, so it can be moved; ``utt2spk`` maps a mixture to itself, as Kaldi wants of
    recordings of several talkers, ``utt2doa`` lists azimuths in degrees in the order of ``spk1.scp`` ….
    """
    ordered = sorted(scenes, key=lambda scene: scene.id)
    tables = {
        "wav.scp": {s.id: mixture_path(s.id) for s in ordered},
        "utt2spk": {s.id: s.id for s in ordered},
        "utt2dur": {s.id: f"{s.duration_s:.3f}" for s in ordered},
        "utt2doa": {s.id: " ".join(f"{a:.2f}" for a in s.azimuths_deg) for s in ordered},
        "utt2rt60": {s.id: f"{s.t60_s:.3f}" for s in ordered if s.t60_s is not None},
    }
    for talker in range(max(len(s.sources) for s in ordered)):
        tables[f"spk{talker + 1}.scp"] = {
            s.id: reference_path(s.id, talker) for s in ordered if talker < len(s.sources)
        }
    for name, table in tables.items():
        write_text(root / name, "".join(f"{key} {value}\n" for key, value in table.items()))
