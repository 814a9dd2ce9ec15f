"""Recordings of any length: cut, separated, joined; talkers stay in their slots, and silence is silent."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from msdet.arrays import MicrophoneArray
from msdet.conventions import angular_distance_deg
from msdet.errors import MsdetError
from msdet.inference.blocks import BlockOptions, Grid, cut, fade_in
from msdet.methods import build_method
from msdet.methods.base import Separation
from msdet.scenes.rendering import mix, reverberate_sources
from msdet.scenes.rir.room_response import room_response
from msdet.scoring.separation_metrics import si_sdr

RATE = 8000
Array = npt.NDArray[Any]
Run = Callable[..., tuple[Array, Separation]]
Say = Callable[..., Array]
MixtureOf = Callable[[Array], Array]

BOTH = [(0, 0.0, 9.0), (1, 0.5, 9.0)]
LONG_PAUSE = [(0, 0.0, 5.0), (1, 0.5, 5.0), (0, 5.0, 17.9), (1, 19.1, 29.9), (0, 31.1, 36.0), (1, 33.0, 36.0)]
"""In the pauses at 18 and 30 s lies an overlap of two blocks."""


@pytest.mark.parametrize("samples", [1, 799, 22 * RATE - 1, 22 * RATE, 22 * RATE + 1, 61_234, 543_210])
@pytest.mark.parametrize("piece", [1000, 48_000, 400_000])
def test_blocks_hold_every_sample_once_but_for_the_overlaps(samples: int, piece: int) -> None:
    grid = Grid.of(BlockOptions(), RATE)
    signal = np.arange(samples, dtype=np.float32)[None]
    blocks = list(cut((signal[:, n : n + piece] for n in range(0, samples, piece)), grid))
    starts = [int(block.mixture[0, 0]) for block in blocks]
    assert starts == [n * grid.hop for n in range(len(blocks))]
    for block, start in zip(blocks, starts, strict=True):
        np.testing.assert_array_equal(block.mixture, signal[:, start : start + block.mixture.shape[1]], strict=True)
        assert block.first == (start == 0)
        assert block.last == (start + block.mixture.shape[1] == samples)
    lengths = [block.mixture.shape[1] for block in blocks]
    assert set(lengths[:-1]) <= {grid.hop + grid.overlap}
    assert lengths[-1] < 2 * grid.hop + grid.overlap
    assert len(blocks) == 1 or lengths[-1] >= grid.hop + grid.overlap


def test_fades_add_up_to_one() -> None:
    ramp = fade_in(1000)
    np.testing.assert_allclose(ramp + ramp[::-1], 1.0, atol=1e-6)
    assert ramp[0] < 1e-5 < 1 - 1e-5 < ramp[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_s": 0.5}, "block_s is 0.5, expected 1 to 600"),
        ({"overlap_s": 6.5}, "overlap_s is 6.5, expected 0 to 6, half of block_s"),
        ({"overlap_s": -1.0}, "overlap_s is -1"),
    ],
)
def test_impossible_blocks_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(MsdetError, match=message):
        BlockOptions(**options)


def stationary(mixture: Array) -> Separation:
    """A system that does the same to every sample, whatever comes before."""
    return Separation(0.5 * mixture[1:3], np.array([40.0, 200.0]), np.array([0.9, 0.8]))


@pytest.mark.parametrize("overlap_s", [0.0, 1.0, 2.0])
def test_a_system_without_memory_gives_the_same_in_blocks(
    overlap_s: float, run: Run, say: Say, mixture_of: MixtureOf
) -> None:
    mixture = mixture_of(say([(0, 0.0, 33.3), (1, 0.0, 33.3)], 33.3))
    voices, talkers = run(stationary, mixture, block_s=4.0, overlap_s=overlap_s)
    np.testing.assert_allclose(voices, 0.5 * mixture[1:3], atol=1e-7)
    np.testing.assert_allclose(talkers.azimuth_deg, [40.0, 200.0])
    np.testing.assert_allclose(talkers.confidence, [0.9, 0.8])
    np.testing.assert_allclose(talkers.track_deg, np.array([40.0, 200.0])[:, None] * np.ones(333))
    assert talkers.time_s[[0, -1]] == pytest.approx([0.05, 33.25])


def test_a_fixed_beam_gives_nearly_the_same_in_blocks(
    run: Run, array: MicrophoneArray, say: Say, mixture_of: MixtureOf
) -> None:
    mixture = mixture_of(say([(0, 0.0, 20.0), (1, 0.0, 20.0)], 20.0))
    beam = build_method("delay_and_sum,doa=[40,200]", array, RATE, 2)
    whole, joined = (run(beam, mixture, block_s=b, gate=False)[0] for b in (30.0, 4.0))
    assert si_sdr(whole, joined).min() > 40


def test_a_short_recording_is_one_piece_and_exactly_what_the_system_gives(
    run: Run, say: Say, mixture_of: MixtureOf, knowing: Any
) -> None:
    mixture = mixture_of(say([(0, 0.0, 21.9)], 21.9))  # shorter than a block and a hop; one is silent
    voices, talkers = run(knowing, mixture)
    expected = knowing(mixture)
    np.testing.assert_array_equal(voices, expected.estimates)
    np.testing.assert_allclose(talkers.azimuth_deg, expected.azimuth_deg)


def test_blocks_of_very_many_microphones_are_shorter() -> None:
    from msdet.arrays import MicrophoneArray
    from msdet.inference.offline import RecordingSystem, SystemFactory, prepare
    from msdet.inference.sources import MemorySource

    rows = tuple((0.01 * n, 0.0, 0.0) for n in range(256))
    factory = SystemFactory(
        MicrophoneArray("line", rows), lambda array, rate: RecordingSystem(stationary, array, 48_000, 2, "test")
    )
    noise = np.random.default_rng(0).standard_normal((256, 2000)).astype(np.float32)
    offline = prepare(factory, MemorySource(noise, 8000), BlockOptions())
    assert offline.options == BlockOptions(3.2, 1.6)
    assert "mixture: blocks of 3.2 s instead of 12 s, for memory (256 microphones at 48000 Hz)" in offline.scan.warnings


def test_memory_does_not_grow_with_the_length(run: Run, endless: Any) -> None:
    """No array is longer than the longest block, and a long recording's peak is that of a short one."""
    longest = 0

    def watching(mixture: Array) -> Separation:
        nonlocal longest
        longest = max(longest, mixture.shape[1])
        return stationary(mixture)

    def peak(seconds: float) -> int:
        from msdet.inference.offline import OfflineSeparation, RecordingSystem
        from msdet.inference.sources import scan

        source, array = endless(seconds), load()
        tracemalloc.start()
        system = RecordingSystem(watching, array, RATE, 2, "test")
        inference = OfflineSeparation(system, source, scan(source, array, RATE), BlockOptions(4.0, 1.0))
        total = sum(piece.estimates.shape[1] for piece in inference.pieces() if piece.estimates is not None)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == seconds * RATE
        return found

    def load() -> MicrophoneArray:
        from msdet.arrays import load_array

        return load_array("circular4_5cm")

    peak(10)  # imports
    short, long = peak(30), peak(120)  # whose last blocks are as long
    assert longest < 7 * RATE
    assert long < short + 1000 * 120  # directions over time are kept, some hundred bytes a second


def correlations(voices: Array, talkers: Array) -> Array:
    """Correlation ``(voice, talker)``."""
    return np.corrcoef(np.concatenate([voices, talkers]))[: len(voices), len(voices) :]


@pytest.mark.parametrize("match", ["both", "direction"])
@pytest.mark.parametrize("seed", range(3))
def test_who_comes_back_after_a_long_pause_is_in_the_same_slot(
    match: str, seed: int, run: Run, say: Say, mixture_of: MixtureOf, knowing: Any
) -> None:
    """One is silent for whole blocks, then the other; the system orders them anew in every block."""
    talkers = say(LONG_PAUSE, 36.0)
    knowing.seed = seed
    voices, found = run(knowing, mixture_of(talkers), block_s=4.0, overlap_s=1.0, match=match)
    assert correlations(voices, talkers).diagonal().min() > 0.99
    assert angular_distance_deg(found.azimuth_deg, (40.0, 200.0)).max() < 3.0
    speaks = talkers.reshape(2, -1, RATE // 10).std(-1) > 0.01
    assert ((found.activity >= 0.5) == speaks).mean() > 0.85


def test_overlap_alone_loses_who_is_silent_for_long(run: Run, say: Say, mixture_of: MixtureOf, knowing: Any) -> None:
    """What direction is for: without it, some pause ends in the wrong slot."""
    talkers = say(LONG_PAUSE, 36.0)
    lost = 0
    for seed in range(4):
        knowing.seed = seed
        voices, _ = run(knowing, mixture_of(talkers), block_s=4.0, overlap_s=1.0, match="overlap")
        lost += correlations(voices, talkers).diagonal().min() < 0.9
    assert lost


def test_voices_without_directions_are_kept_by_the_overlap(run: Run, say: Say, mixture_of: MixtureOf) -> None:
    talkers = say([(0, 0.0, 30.0), (1, 0.0, 30.0)], 30.0)
    flip = iter([0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0])

    def shuffled(mixture: Array) -> Separation:
        return Separation(mixture[[1, 2]] if next(flip) else mixture[[2, 1]])

    voices, found = run(shuffled, mixture_of(talkers), block_s=4.0, overlap_s=1.0)
    assert correlations(voices, talkers).max(axis=1).min() > 0.99
    assert found.azimuth_deg is None
    assert np.isnan(found.track_deg).all()


def test_a_slot_is_silent_where_nobody_speaks_unless_told_otherwise(
    run: Run, say: Say, mixture_of: MixtureOf, knowing: Any
) -> None:
    talkers = say([*BOTH, (0, 9.0, 30.0)], 30.0)
    mixture = mixture_of(talkers)
    gated, found = run(knowing, mixture, block_s=4.0, overlap_s=1.0)
    open_, _ = run(knowing, mixture, block_s=4.0, overlap_s=1.0, gate=False)
    alone = slice(15 * RATE, 29 * RATE)
    assert not gated[1, alone].any()
    assert np.isnan(found.track_deg[1, 150:290]).all()
    assert open_[1, alone].std() > 0.005  # the residue
    np.testing.assert_allclose(gated[0], open_[0])


def test_a_slot_that_nobody_ever_fills_has_no_direction(
    run: Run, say: Say, mixture_of: MixtureOf, knowing: Any
) -> None:
    voices, found = run(knowing, mixture_of(say([(1, 0.0, 30.0)], 30.0)), block_s=4.0, overlap_s=1.0)
    assert len(voices) == 2 and voices[0].any() and not voices[1].any()
    np.testing.assert_allclose(found.azimuth_deg, [200.0, np.nan], atol=3.0)


def test_an_offset_does_not_hide_who_speaks(run: Run, say: Say, mixture_of: MixtureOf, knowing: Any) -> None:
    mixture = mixture_of(say(LONG_PAUSE, 36.0))
    without, with_offset = (run(knowing, m, block_s=4.0, overlap_s=1.0)[1].activity for m in (mixture, mixture + 0.5))
    assert (without != with_offset).mean() < 0.01


def test_an_activity_that_the_system_tells_counts(run: Run, say: Say, mixture_of: MixtureOf) -> None:
    talkers = say([(0, 0.0, 20.0), (1, 0.0, 20.0)], 20.0)

    def first_only(mixture: Array) -> Separation:
        activity = np.stack([np.full(37, 0.9), np.full(37, 0.2)])
        return Separation(mixture[1:3], np.array([40.0, 200.0]), activity=activity)

    voices, found = run(first_only, mixture_of(talkers), block_s=4.0, overlap_s=1.0)
    np.testing.assert_allclose(found.activity[0], 0.9, atol=1e-6)
    assert not voices[1].any()


def test_a_track_and_elevations_of_the_system_are_passed_on(run: Run, say: Say, mixture_of: MixtureOf) -> None:
    def walking(mixture: Array) -> Separation:
        track = np.stack([np.linspace(350.0, 370.0, 50) % 360.0, np.full(50, 90.0)])
        return Separation(mixture[1:3], np.array([0.0, 90.0]), elevation_deg=np.array([5.0, -7.0]), track_deg=track)

    _, found = run(walking, mixture_of(say([(0, 0.0, 5.0), (1, 0.0, 5.0)], 5.0)))
    np.testing.assert_allclose(found.elevation_deg, [5.0, -7.0])
    np.testing.assert_allclose(found.track_elevation_deg[1], -7.0)
    assert angular_distance_deg(found.track_deg[0, [0, -1]], [350.0, 10.0]).max() < 0.5


def test_a_voice_split_in_two_is_one_again(run: Run, say: Say, mixture_of: MixtureOf) -> None:
    """Where one talks alone, this system hands out parts of that voice, both from where it comes."""
    talkers = say([*BOTH, (0, 9.0, 30.0)], 30.0)

    def splitting(mixture: Array) -> Separation:
        if mixture[2].std() > 1e-2:
            return Separation(mixture[1:3], np.array([40.0, 200.0]))
        return Separation(np.stack([0.4 * mixture[1], 0.6 * mixture[1]]), np.array([38.0, 41.0]))

    voices, found = run(splitting, mixture_of(talkers), block_s=4.0, overlap_s=1.0)
    assert np.abs(voices[0] - talkers[0]).max() < 2e-3
    assert not voices[1, 14 * RATE :].any()
    assert angular_distance_deg(found.azimuth_deg, (40.0, 200.0)).max() < 2.0


def test_fewer_voices_than_slots_in_a_block_are_fine_and_more_are_not(
    run: Run, say: Say, mixture_of: MixtureOf
) -> None:
    mixture = mixture_of(say([(0, 0.0, 20.0), (1, 10.0, 20.0)], 20.0))

    def only_who_speaks(block: Array) -> Separation:
        there = block[1:3].std(axis=1) > 1e-3
        return Separation(block[1:3][there], np.array([40.0, 200.0])[there])

    voices, found = run(only_who_speaks, mixture, slots=3, block_s=4.0, overlap_s=1.0)
    assert len(voices) == found.count == 2
    np.testing.assert_allclose(found.azimuth_deg, [40.0, 200.0])
    with pytest.raises(MsdetError, match="a block has 2 talkers, expected at most 1"):
        run(only_who_speaks, mixture, slots=1, block_s=4.0, overlap_s=1.0)


def test_digital_silence_never_reaches_the_system(run: Run, say: Say, mixture_of: MixtureOf) -> None:
    mixture = mixture_of(say([(0, 0.0, 30.0), (1, 0.0, 30.0)], 30.0))
    mixture[:, 8 * RATE : 20 * RATE] = 0.0

    def needs_sound(block: Array) -> Separation:
        if not block.any():
            raise MsdetError("silent")
        return stationary(block)

    voices, _ = run(needs_sound, mixture, block_s=4.0, overlap_s=1.0)
    assert not voices[:, 12 * RATE : 16 * RATE].any()


@pytest.fixture(scope="module")
def conversation() -> tuple[Array, Array]:
    """A mixture ``(4, time)`` and azimuths of two who take turns in a dry room, 32 s."""
    from msdet.arrays import load_array

    array = load_array("circular4_5cm")
    rng = np.random.default_rng(1)
    turns = [(0, 0.2, 5.0), (1, 4.5, 11.0), (0, 11.5, 16.0), (1, 16.2, 21.0), (0, 20.5, 32.0), (1, 27.0, 31.0)]
    dry = np.zeros((2, 32 * RATE), dtype=np.float32)
    for talker, start_s, end_s in turns:
        start, end = round(start_s * RATE), round(end_s * RATE)
        noise = rng.standard_normal(end - start) * np.clip(np.sin(np.arange(end - start) / 400), 0.02, 1)
        dry[talker, start:end] = np.convolve(noise, [1.0, 0.9, 0.5 - talker], "same")
    center = np.array([2.0, 1.8, 1.4])
    azimuths = np.array([75.0, 210.0])
    places = center + np.stack([np.cos(np.deg2rad(azimuths)), np.sin(np.deg2rad(azimuths)), 0 * azimuths], -1)
    response = room_response((4.2, 3.9, 2.7), 0.2, array.positions + center, places, RATE)
    paths = [(np.array([t]), np.zeros(1)) for t in range(2)]
    heard = reverberate_sources(list(dry), [12.0, 12.0], response, paths, "direct", 0, RATE, None)
    sensor = rng.standard_normal((4, 32 * RATE), dtype=np.float32)
    return mix(heard, np.zeros(2), [(sensor, 25.0)], 0, RATE).mixture, azimuths


def test_a_recording_cut_in_two_has_the_same_talkers_in_the_same_slots(
    conversation: tuple[Array, Array], array: MicrophoneArray, run: Run
) -> None:
    mixture, azimuths = conversation
    system = build_method("srp_beam", array, RATE, 2)
    half = mixture.shape[1] // 2
    options = {"block_s": 4.0, "overlap_s": 1.0}
    whole, found = run(system, mixture, **options)
    assert angular_distance_deg(found.azimuth_deg, azimuths).max() < 8.0
    for part in (slice(0, half), slice(half, None)):
        voices, apart = run(system, np.ascontiguousarray(mixture[:, part]), **options)
        assert angular_distance_deg(apart.azimuth_deg, azimuths).max() < 8.0
        inner = slice(RATE, half - RATE)
        alike = correlations(voices[:, inner], whole[:, part][:, inner])
        assert alike.diagonal().min() > 0.9 > alike[0, 1]
