"""Scene records survive JSON, and malformed ones are refused with file and field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from msdet.errors import MsdetError
from msdet.simulation.distribution import SceneDistribution
from msdet.simulation.sampling import Material, sample_scene
from msdet.simulation.scene import Scene

ORIGIN = "scenes.jsonl, line 3"


@pytest.fixture
def scene(material: Material) -> Scene:
    return sample_scene("train-000000", SceneDistribution(), material, 0)


def test_json_round_trip_is_exact(scene: Scene) -> None:
    text = json.dumps(scene.to_dict())
    assert Scene.from_dict(json.loads(text), ORIGIN) == scene


def test_number_of_samples_is_rounded(scene: Scene) -> None:
    assert scene.samples == 32000


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: row.pop("seed"), "key 'seed' is missing"),
        (lambda row: row.update(sed=1), "unknown key 'sed'"),
        (lambda row: row["sources"][0].pop("azimuth_deg"), "sources 0: key 'azimuth_deg' is missing"),
        (
            lambda row: row["sources"][0].update(azimut=1),
            "sources 0: unknown key 'azimut'; did you mean 'azimuth_deg'",
        ),
        (lambda row: row["noises"][0].pop("kind"), "noises 0: key 'kind' is missing"),
        (lambda row: row.update(room_m=[1.0, 2.0]), "room_m has 2 values, expected 3"),
        (lambda row: row.update(room_m="large"), "room_m is 'large', expected a list"),
        (lambda row: row.update(room_m=[1.0, 2.0, "x"]), "room_m 2 is 'x', expected float"),
        (lambda row: row.update(seed=True), "seed is True, expected int"),
        (lambda row: row.update(t60_asked_s=float("nan")), "t60_asked_s is nan, expected a finite number"),
        (lambda row: row["noises"][0].update(kind="sensr"), "kind is 'sensr', expected one of"),
        (lambda row: row.update(sources=3), "sources is 3, expected a list"),
        (lambda row: row.update(sources=[3]), "expected an object"),
        (lambda row: row.update(target="dry"), "target is 'dry', expected one of"),
        (lambda row: row.update(duration_s="long"), "duration_s"),
        (lambda row: row["sources"][0].update(azimuth_deg="left"), "azimuth_deg"),
        (lambda row: row.update(id=7), "id"),
    ],
)
def test_malformed_record_names_where_and_what(
    scene: Scene, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    row = json.loads(json.dumps(scene.to_dict()))
    damage(row)
    with pytest.raises(MsdetError, match=f"{ORIGIN}.*{re.escape(message)}"):
        Scene.from_dict(row, ORIGIN)


def test_record_that_is_no_object_is_refused() -> None:
    with pytest.raises(MsdetError, match=f"{ORIGIN}: expected an object, found list"):
        Scene.from_dict([1, 2], ORIGIN)  # type: ignore[arg-type]
