"""Running a separator over a data set, into a folder of estimates that anyone could have made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from msdet import audio
from msdet.data.manifest import SceneSet
from msdet.evaluation.scoring import DATA_FILE, DOA_FILE
from msdet.files import write_json, write_jsonl
from msdet.inference.offline import Separator
from msdet.work import Progress


def write_estimates(
    scene_set: SceneSet, separator: Separator, out: Path, progress: Progress | None = None
) -> None:
    """Separate every scene into ``<out>/<scene id>/talkerN.wav`` (32-bit float) and ``<out>/doa.jsonl``.

    ``<out>/data.json`` names the data set, so that the estimates are not scored against another.

    Earlier estimates in `out` are replaced; ``doa.jsonl`` is written last.
    """
    if out.exists():
        shutil.rmtree(out)
    write_json(out / DATA_FILE, {"hash": scene_set.identity})
    rows = []
    for number, scene in enumerate(scene_set.scenes, start=1):
        result = separator(scene_set.mixture(scene))
        for talker, voice in enumerate(result.voices, start=1):
            audio.write(out / scene.id / f"talker{talker}.wav", voice, scene.sample_rate, "FLOAT")
        rows.append(
            {
                "id": scene.id,
                "azimuth_deg": np.round(result.azimuth_deg, 3).tolist(),
                "confidence": np.round(result.confidence, 4).tolist(),
            }
        )
        if progress:
            progress(number, len(scene_set.scenes))
    write_jsonl(out / DOA_FILE, rows)
