"""``msdet show-scene``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from msdet.errors import MsdetError, UnknownNameError
from msdet.io.files import read_json, write_bytes

if TYPE_CHECKING:
    from msdet.conventions import Array
    from msdet.data.scene_set import SceneSet
    from msdet.scenes.rir.bank import RirBank
    from msdet.scenes.scene import Scene


def show_scene(data: Path, out: Path, scene: str = "", bank: Path | None = None) -> None:
    """Draw a scene of a data set: its room, who talks when and where, its responses and its sound.

    Args:
        data: folder of the data set; may come first, unnamed.
        out: picture to write, a .png file.
        scene: id of the scene; the set's first without it.
        bank: RIR bank that the scene was made from, if it was, for its responses.
    """
    from msdet.data.scene_set import SceneSet
    from msdet.plots.scene import measure_decay, scene_sheet
    from msdet.plots.theme import to_png
    from msdet.scenes.rir.bank import RirBank

    if out.suffix != ".png":
        raise MsdetError(f"{out}: the picture's name must end in .png")
    scene_set = SceneSet.open(data)
    by_id = {s.id: s for s in scene_set.scenes}
    if scene and scene not in by_id:
        raise UnknownNameError("scene", scene, by_id)
    shown = by_id[scene] if scene else scene_set.scenes[0]
    rooms = RirBank.open(bank) if bank else None
    responses, missing = find_responses(scene_set, shown, rooms)
    mixture = scene_set.mixture(shown)[scene_set.array.reference]
    t60s = [] if responses is None else [measure_decay(h, shown.sample_rate).t60_s for h in responses]
    figure = scene_sheet(shown, scene_set.array, mixture, responses)
    write_bytes(out, to_png(figure))
    _tell(shown, scene_set, t60s if shown.t60_target_s != 0 else [])
    if missing:
        print(f"  no responses: {missing}")
    print(out)


def find_responses(scene_set: SceneSet, scene: Scene, bank: RirBank | None) -> tuple[Array | None, str]:
    """Responses ``(talker, tap)`` at the reference microphone, or why there are none."""
    import numpy as np

    from msdet.data.scene_set import HEADER
    from msdet.scenes.rendering import scene_response

    if scene.rir_room is None and (scene.room_m is None or scene.t60_target_s is None):
        return None, "the room is not known"
    if not scene.located:
        return None, "directions are not known"
    if scene.rir_room is not None:
        if bank is None:
            return None, "the scene was made from an RIR bank; give it by --bank"
        made_from = read_json(scene_set.root / HEADER).get("settings", {}).get("bank", "")
        if made_from != bank.identity:
            raise MsdetError(f"{bank.root}: RIR bank is {bank.identity}, the set was made from {made_from}")
    standing = tuple(dataclasses.replace(s, waypoints=(), track=()) for s in scene.sources)
    response, paths, _ = scene_response(dataclasses.replace(scene, sources=standing), scene_set.array, bank)
    starts = np.array([positions[0] for positions, _ in paths])
    chosen: Array = response.rirs[starts, scene_set.array.reference]
    return chosen, ""


def _tell(scene: Scene, scene_set: SceneSet, t60s: list[float | None]) -> None:
    room = "unknown" if scene.room_m is None else " x ".join(f"{v:.2f}" for v in scene.room_m) + " m"
    yaw, pitch, roll = scene.array_rotation_deg
    center = ", ".join(f"{v:.2f}" for v in scene.array_center_m)
    noises = [f"{n.kind}{f' ({n.material})' if n.material else ''} {n.snr_db:.1f} dB" for n in scene.noises]
    t60 = f"T60 target {_seconds(scene.t60_target_s)}, measured {_seconds(scene.t60_measured_s)}"
    turned = f"yaw {yaw:.1f}°, pitch {pitch:.1f}°, roll {roll:.1f}°"
    references = f"references {scene.target}" if scene.referenced else "no references"
    facts = {
        "sound": f"{scene.duration_s:g} s at {scene.sample_rate / 1000:g} kHz, {references}",
        "room": f"{room}; {t60}",
        "array": f"{scene_set.array.name} at {center} m; {turned}",
        "noise": ", ".join(noises) or "unknown",
        "seed": str(scene.seed),
    }
    print(scene.id)
    for name, text in facts.items():
        print(f"  {name:<6}{text}")
    head = ["talker", "speaker", "azimuth", "elevation", "distance", "talks", "level"]
    rows = [[*head, "T60"] if t60s else head]
    for number, s in enumerate(scene.sources, start=1):
        place = [f"{s.azimuth_deg:.1f}°", f"{s.elevation_deg:.1f}°", f"{s.distance_m:.2f} m"]
        talks = [f"{s.onset_s:.2f}–{s.onset_s + s.duration_s:.2f} s", f"{s.level_db:.1f} dB"]
        row = [str(number), s.speaker or "?", *place, *(talks if scene.timed else ["?", "?"])]
        row = ["?" if cell.startswith("nan") else cell for cell in row]
        row += [_seconds(t60s[number - 1])] if t60s else []
        rows.append([*row, f"moves to {s.track[-1].azimuth_deg:.1f}°"] if s.track else row)
    widths = [max(len(row[k]) for row in rows if k < len(row)) for k in range(max(map(len, rows)))]
    for row_ in rows:
        print("  " + "  ".join(cell.ljust(w) for cell, w in zip(row_, widths, strict=False)).rstrip())


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f} s"
