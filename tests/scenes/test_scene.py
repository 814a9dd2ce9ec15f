"""Scene records survive JSON, and malformed ones are refused with file and field."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msdet.errors import MsdetError
from msdet.scenes.distribution import SceneDistribution
from msdet.scenes.sampling import Material, sample_scene
from msdet.scenes.scene import NOWHERE, Scene

ORIGIN = "scenes.jsonl, line 3"


@pytest.fixture
def scene(material: Material) -> Scene:
    return sample_scene("train-000000", SceneDistribution(), material, 0)


def test_json_round_trip_is_exact(scene: Scene) -> None:
    text = json.dumps(scene.to_dict())
    assert Scene.from_dict(json.loads(text), ORIGIN) == scene


def test_what_is_known_leaves_no_trace_in_json(scene: Scene) -> None:
    assert scene.referenced and scene.located
    assert not {"referenced", "located"} & scene.to_dict().keys()


def test_scene_without_labels_survives_json(scene: Scene) -> None:
    places = {"position_m": NOWHERE, "azimuth_deg": math.nan, "elevation_deg": math.nan}
    sources = tuple(dataclasses.replace(s, **places) for s in scene.sources)  # type: ignore[arg-type]
    partial = dataclasses.replace(scene, sources=sources, referenced=False, located=False)
    row = json.loads(json.dumps(partial.to_dict(), allow_nan=False))
    assert not places.keys() & row["sources"][0].keys()
    back = Scene.from_dict(row, ORIGIN)
    assert not back.referenced and not back.located
    assert np.isnan(back.azimuths_deg).all() and np.isnan(back.azimuth_gap_deg)
    assert [s.distance_m for s in back.sources] == [s.distance_m for s in scene.sources]
    assert json.loads(json.dumps(back.to_dict())) == row


def test_place_in_a_scene_that_is_not_located_is_refused(scene: Scene) -> None:
    row = json.loads(json.dumps(scene.to_dict())) | {"located": False}
    with pytest.raises(MsdetError, match=f"{ORIGIN}, sources 0: has position_m, but located is false in the"):
        Scene.from_dict(row, ORIGIN)


def test_talking_all_the_time_without_references_is_no_knowledge(scene: Scene) -> None:
    late = (dataclasses.replace(scene.sources[0], onset_s=0.5, duration_s=2.0), *scene.sources[1:])
    assert dataclasses.replace(scene, sources=late, referenced=False).timed
    whole = tuple(dataclasses.replace(s, onset_s=0.0, duration_s=scene.duration_s) for s in scene.sources)
    assert dataclasses.replace(scene, sources=whole).timed
    assert not dataclasses.replace(scene, sources=whole, referenced=False).timed


def test_number_of_samples_is_rounded(scene: Scene) -> None:
    assert scene.samples == 32000


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: row.pop("seed"), "key 'seed' is missing"),
        (lambda row: row.update(sed=1), "unknown key 'sed'"),
        (lambda row: row["sources"][0].pop("azimuth_deg"), "sources 0: key 'azimuth_deg' is missing"),
        (lambda row: row["sources"][0].update(azimut=1), "sources 0: unknown key 'azimut'; did you mean 'azimuth_deg'"),
        (lambda row: row["noises"][0].pop("kind"), "noises 0: key 'kind' is missing"),
        (lambda row: row.update(room_m=[1.0, 2.0]), "room_m has 2 values, expected 3"),
        (lambda row: row.update(room_m="large"), "room_m is 'large', expected a list"),
        (lambda row: row.update(room_m=[1.0, 2.0, "x"]), "room_m 2 is 'x', expected float"),
        (lambda row: row.update(seed=True), "seed is True, expected int"),
        (lambda row: row.update(t60_target_s=float("nan")), "t60_target_s is nan, expected a finite number"),
        (lambda row: row["noises"][0].update(kind="sensr"), "kind is 'sensr', expected one of"),
        (lambda row: row.update(sources=3), "sources is 3, expected a list"),
        (lambda row: row.update(sources=[3]), "expected an object"),
        (lambda row: row.update(target="dry"), "target is 'dry', expected one of"),
        (lambda row: row.update(duration_s="long"), "duration_s"),
        (lambda row: row["sources"][0].update(azimuth_deg="left"), "azimuth_deg"),
        (lambda row: row.update(id=7), "id"),
        (lambda row: row.update(sample_rate=7), "sample_rate is 7, expected 1000 to 1e+06"),
        (lambda row: row.update(duration_s=1e308), "duration_s is 1e+308, expected 0 to 1e+06"),
        (lambda row: row.update(room_m=[1e300, 3.0, 3.0]), "room_m is 1e+300, expected 0 to 10000"),
        (lambda row: row["sources"][0].update(distance_m=1e308), "sources 0: distance_m is 1e+308"),
        (lambda row: row["sources"][0].update(position_m=[0.0, 0.0, -1e9]), "sources 0: position_m is -1e+09"),
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


def test_record_of_an_older_version_reads_as_one_of_today(scene: Scene) -> None:
    row = json.loads(json.dumps(scene.to_dict()))
    row["t60_asked_s"] = row.pop("t60_target_s")
    assert Scene.from_dict(row, ORIGIN) == scene
