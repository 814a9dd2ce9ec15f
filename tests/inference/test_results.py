"""What is written: voices, doa.json that scoring reads, RTTM; and which recordings are meant."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from msdet.arrays import MicrophoneArray
from msdet.errors import MsdetError
from msdet.inference.listing import opened, recordings
from msdet.inference.results import description, rttm, scratch, write_tables, write_voices
from msdet.io import audio
from msdet.methods.base import Separation
from msdet.scoring.submission import DoaEstimates

RATE = 8000
Array = npt.NDArray[Any]


@pytest.fixture
def found(run: Callable[..., Any], say: Any, mixture_of: Any, knowing: Any) -> tuple[Array, Separation]:
    """Voices and talkers of a short conversation with a long pause."""
    talkers = say([(0, 0.0, 8.0), (1, 2.0, 6.0), (1, 24.0, 30.0), (0, 26.0, 27.0)], 30.0)
    return run(knowing, mixture_of(talkers), block_s=4.0, overlap_s=1.0)


@pytest.mark.parametrize(("subtype", "peak"), [("PCM_16", 0.99), ("PCM_24", 0.99), ("FLOAT", 3.0)])
def test_voices_keep_their_balance_and_do_not_clip(subtype: str, peak: float, tmp_path: Path) -> None:
    voices = np.random.default_rng(0).uniform(-1, 1, (3, 50_000)).astype(np.float32)
    voices *= np.array([[3.0], [1.0], [0.3]], dtype=np.float32) / np.abs(voices).max(axis=1, keepdims=True)
    with scratch(tmp_path / "out") as kept:
        for start in range(0, 50_000, 7000):
            kept.append(voices[:, start : start + 7000])
        files, gain = write_voices(tmp_path / "out", kept, np.array([2, 0]), RATE, subtype)
    assert files == sorted(p.name for p in (tmp_path / "out").iterdir()) == ["talker1.wav", "talker2.wav"]
    assert gain == pytest.approx(peak / 3.0)
    quiet, loud = (audio.read(tmp_path / "out" / name)[0][0] for name in files)
    np.testing.assert_allclose(np.stack([quiet, loud]), gain * voices[[2, 0]], atol=1 / 30_000)


def test_nothing_of_an_earlier_result_describes_new_voices(tmp_path: Path) -> None:
    """A kill after the voices are there, and before doa.json is, leaves nothing that looks complete."""
    names = ["doa.json", "index.html", "talkers.rttm", "talker1.wav", "talker2.wav", "talker3.wav"]
    for name in [*names, "mine.html"]:
        (tmp_path / name).touch()
    with scratch(tmp_path) as kept:
        kept.append(np.full((2, 10), 0.1, dtype=np.float32))
        write_voices(tmp_path, kept, np.array([0]), RATE, "PCM_16")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.html", "talker1.wav"]


def test_a_disk_that_fills_at_the_last_moment_keeps_an_earlier_result(tmp_path: Path) -> None:
    """Two voices in doubles are each as long as both together while they are kept, but for the header."""
    import resource

    for name in ("doa.json", "talker1.wav"):
        (tmp_path / name).touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with scratch(tmp_path) as kept:
        kept.append(np.full((2, 100), 0.1, dtype=np.float32))
        resource.setrlimit(resource.RLIMIT_FSIZE, (810, hard))
        try:
            with pytest.raises(MsdetError, match="cannot be written"):
                write_voices(tmp_path, kept, np.array([0, 1]), RATE, "DOUBLE")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["doa.json", "talker1.wav"]


def test_nothing_is_written_where_a_voice_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(MsdetError, match="refused to write NaN"), scratch(tmp_path / "out") as kept:
        kept.append(np.full((2, 10), np.nan, dtype=np.float32))
    assert list((tmp_path / "out").iterdir()) == []


def test_doa_json_is_what_scoring_reads(
    found: tuple[Array, Separation], array: MicrophoneArray, tmp_path: Path
) -> None:
    write_tables(tmp_path, description(found[1], array, {"a": 1}, ["x.wav", "y.wav"]), found[1], "recording")
    value = json.loads((tmp_path / "doa.json").read_text())
    assert value["array"] == array.to_dict() and value["a"] == 1
    assert [t["file"] for t in value["talkers"]] == ["x.wav", "y.wav"]
    row = {k: [t[k] for t in value["talkers"]] for k in ("azimuth_deg", "confidence")}
    read = DoaEstimates.from_row({**row, "track": value["track"]})
    np.testing.assert_allclose(read.azimuth_deg, [40.0, 200.0], atol=3.0)
    np.testing.assert_allclose(read.confidence, 0.9, atol=1e-3)
    assert read.track is not None
    at = read.track.at(np.array([3.0, 15.0, 28.0])).azimuth_deg
    np.testing.assert_allclose(at[1], [200.0, np.nan, 200.0], atol=4.0)
    assert len(value["activity"]) == 2 and len(value["activity"][0]) == len(value["track"]["time_s"]) == 300


def test_rttm_read_back_says_who_speaks_when(found: tuple[Array, Separation]) -> None:
    lines = [line.split() for line in rttm(found[1], "my recording").splitlines()]
    assert all(len(fields) == 10 and fields[:3] == ["SPEAKER", "my_recording", "1"] for fields in lines)
    assert [float(fields[3]) for fields in lines] == sorted(float(fields[3]) for fields in lines)
    speakers = sorted({fields[7] for fields in lines})
    assert [s.split("_")[0] for s in speakers] == ["talker1", "talker2"]
    azimuths = [int(s.split("_")[1].removesuffix("deg")) for s in speakers]
    np.testing.assert_allclose(azimuths, [40, 200], atol=3)
    spoken = np.zeros((2, 300), dtype=bool)
    for fields in lines:
        start, length = round(10 * float(fields[3])), round(10 * float(fields[4]))
        spoken[speakers.index(fields[7]), start : start + length] = True
    assert (spoken == (found[1].activity >= 0.5)).mean() > 0.97
    assert spoken[1, 25:55].mean() > 0.9 and not spoken[1, 70:235].any()


def test_recordings_are_files_tables_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "b.wav").touch()
    (tmp_path / "wav.scp").write_text("\ufeffone\tb.wav\n\ntwo  /elsewhere/c d.wav \n", "utf-8")
    listed = recordings(["x/a.flac", str(tmp_path / "wav.scp"), "-"])
    assert [(r.name, r.path) for r in listed] == [
        ("a", Path("x/a.flac")),
        ("one", tmp_path / "b.wav"),
        ("two", Path("/elsewhere/c d.wav")),
        ("standard_input", None),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("one sox in.wav -t wav - |", "line 1: is a command ('sox in.wav -t wav - |'), expected a file"),
        ("one a.wav\ntwo raw.ark:123", "line 2: is in an archive (raw.ark:123), expected a file"),
        ("one", "line 1: is 'one', expected an id and a file"),
        ("../up a.wav", "line 1: id is '../up', expected a plain name"),
        ("", "lists no recordings"),
        ("one a.wav\none b.wav", "would both be called 'one'"),
    ],
)
def test_bad_tables_are_one_line(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(table)
    with pytest.raises(MsdetError) as caught:
        recordings([str(tmp_path / "wav.scp")])
    assert message in str(caught.value)


def test_files_of_one_name_are_refused_before_they_meet() -> None:
    with pytest.raises(MsdetError, match=r"x/a.wav and y/a.flac would both be called 'a'"):
        recordings(["x/a.wav", "y/a.flac"])
    assert len(recordings(["x/a.wav", "y/a.flac"], distinct=False)) == 2


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"no audio", "not readable as audio")])
def test_bad_standard_input_is_named(content: bytes, message: str) -> None:
    (stdin,) = recordings(["-"])
    with pytest.raises(MsdetError, match=f"standard input: {message}"), opened(stdin, io.BytesIO(content)):
        pass
