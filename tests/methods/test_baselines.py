"""Baselines: physics of each kind, what oracles gain, options, refusals, and all of them by one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import fftconvolve

from msdet.arrays import MicrophoneArray, load_array
from msdet.cli import main
from msdet.conventions import angular_distance_deg, direction_vector
from msdet.data.scene_set import SceneSet
from msdet.dsp.spatial import srp_phat, steering_vectors
from msdet.dsp.stft import Stft
from msdet.errors import MsdetError, UnknownNameError
from msdet.io import audio
from msdet.io.files import read_jsonl
from msdet.methods import build_method, method_names, methods_without_options
from msdet.methods.base import Oracle, OracleInput, Separation, Separator
from msdet.methods.doa_search import music
from msdet.models.checkpoint import save_model
from msdet.scenes.rir.room_response import room_response
from msdet.scoring.permutations import best_permutation
from msdet.scoring.separation_metrics import pairwise_si_sdr

RATE = 8000
HALL_M = (20.0, 20.0, 5.0)
CENTER_M = np.array([10.0, 10.0, 2.5])
CIRCLE, LINE = load_array("circular6_10cm"), load_array("linear4_5cm")
DOA_METHODS = ("cssm", "frida", "music", "norm_music", "srp_phat", "tops", "waves")
BLIND_METHODS = ("auxiva", "fastmnmf", "ilrma")
BEAMS = ("delay_and_sum", "lcmv", "mvdr", "superdirective")
MASKERS = ", ".join(["oracle", *sorted({*BLIND_METHODS, *BEAMS, "mask_mvdr", "srp_beam"})])
LOCATORS = "oracle, cssm, frida, music, norm_music, srp_beam, srp_phat, tops, waves, [10,190] (degrees)"

Signals = npt.NDArray[Any]
Run = Callable[..., tuple[int, str]]


def far(azimuths_deg: list[float], dry: Signals, array: MicrophoneArray = CIRCLE) -> Signals:
    """Images ``(talker, mic, time)`` of talkers at 6 m in an anechoic hall."""
    sources = CENTER_M + 6.0 * direction_vector(azimuths_deg)
    rirs = room_response(HALL_M, 0.0, CENTER_M + array.positions, sources, RATE).rirs
    return fftconvolve(dry[:, None], rirs, axes=-1)[..., : dry.shape[-1]].astype(np.float32)


def white(talkers: int, seconds: float = 1.0) -> Signals:
    return np.random.default_rng(3).standard_normal((talkers, round(seconds * RATE)))


def with_noise(images: Signals, snr_db: float = 40.0) -> Signals:
    """The sum ``(mic, time)`` of images and sensor noise, without which covariances are singular."""
    noise = np.random.default_rng(4).standard_normal(images.shape[1:])
    return (images.sum(0) + 10 ** (-snr_db / 20) * images.std() * noise).astype(np.float32)


def ordinary(method: str, talkers: int, array: MicrophoneArray = CIRCLE) -> Separator:
    separator = build_method(method, array, RATE, talkers)
    assert not isinstance(separator, Oracle)
    return separator


def told(method: str, mixture: Signals, references: Signals, azimuths_deg: list[float]) -> Signals:
    """Voices of an oracle."""
    separator = build_method(method, CIRCLE, RATE, len(references))
    assert isinstance(separator, Oracle)
    found = separator.separate(mixture, OracleInput(references, np.array(azimuths_deg)))
    assert found.estimates is not None and found.azimuth_deg is None  # knowing is not estimating
    return found.estimates


def mean_si_sdr_db(references: Signals, estimates: Signals) -> float:
    matrix = pairwise_si_sdr(references, estimates)
    return float(matrix[range(len(matrix)), best_permutation(matrix)].mean())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its exit code and what it printed, errors as one line."""

    def call(*arguments: object) -> tuple[int, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        if code == 2:
            lines = captured.err.splitlines()
            assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
            return code, lines[0]
        return code, captured.out + captured.err

    return call


@pytest.mark.parametrize("method", DOA_METHODS)
@pytest.mark.parametrize("azimuth_deg", [101.5, 359.6])
def test_a_single_anechoic_talker_is_found_within_2_degrees(method: str, azimuth_deg: float) -> None:
    mixture = with_noise(far([azimuth_deg], white(1, 0.5)), 30.0)
    found = ordinary(method, 1)(mixture)
    assert found.estimates is None and found.azimuth_deg is not None
    assert angular_distance_deg(found.azimuth_deg, azimuth_deg).max() <= 2.0


@pytest.mark.parametrize("method", ["music", "norm_music", "srp_phat", "tops"])
def test_two_anechoic_talkers_are_found_in_ascending_order(method: str, talker_signals: Callable[..., Signals]) -> None:
    mixture = with_noise(far([300.0, 40.0], talker_signals(2)))
    found = ordinary(method, 2)(mixture).azimuth_deg
    np.testing.assert_allclose(found, [40.0, 300.0], atol=2.0)


def test_srp_phat_of_pyroomacoustics_peaks_where_ours_does() -> None:
    from msdet.dsp.stft import Stft
    from msdet.models.frontends import ArrayGeometry

    mixture = with_noise(far([77.3], white(1)), 20.0)
    geometry = ArrayGeometry(CIRCLE, 129, RATE, 360)
    ours = srp_phat(Stft(256)(torch.from_numpy(mixture)[None]), geometry.steering)
    theirs = ordinary("srp_phat", 1)(mixture).azimuth_deg
    assert angular_distance_deg(float(ours.argmax()), theirs).max() <= 1.0


@pytest.mark.parametrize("azimuths_deg", [(45.0, 125.0), (350.0, 20.0), (100.0, 280.0)])
def test_a_null_suppresses_a_far_interferer_by_20_db(azimuths_deg: tuple[float, float]) -> None:
    images = far(list(azimuths_deg), white(2))
    references = images[:, CIRCLE.reference]
    power = references.astype(float).var(-1)
    for alone, talker in ((0, images[0]), (1, images[1])):
        voices = told("lcmv,doa=oracle", talker, references, list(azimuths_deg))
        gain_db = 10 * np.log10(voices.astype(float).var(-1) / power[alone])
        assert abs(gain_db[alone]) <= 1.0
        assert gain_db[1 - alone] <= -20.0


@pytest.mark.parametrize("method", BEAMS)
def test_a_beam_does_not_change_its_talker(method: str) -> None:
    image = far([200.0], white(1))
    found = ordinary(method, 1)(with_noise(image, 50.0))
    assert found.estimates is not None and found.azimuth_deg is not None
    assert mean_si_sdr_db(image[:, CIRCLE.reference], found.estimates) >= 15.0
    given = ordinary(f"{method},doa=[560]", 1)(with_noise(image, 50.0))
    np.testing.assert_allclose(given.azimuth_deg, [200.0])


@pytest.mark.parametrize("method", BLIND_METHODS)
def test_blind_methods_separate_at_the_reference_and_draw_the_same_each_time(
    method: str, talker_signals: Callable[..., Signals]
) -> None:
    images = far([30.0, 150.0], talker_signals(2, 2.0))
    mixture, references = with_noise(images), images[:, CIRCLE.reference]
    before = np.random.get_state()[1]
    found = ordinary(method, 2)(mixture)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert found.azimuth_deg is None and found.estimates is not None and found.estimates.dtype == np.float32
    unprocessed = np.broadcast_to(mixture[CIRCLE.reference], references.shape)
    assert mean_si_sdr_db(references, found.estimates) >= mean_si_sdr_db(references, unprocessed) + 6.0
    level_db = 10 * np.log10(found.estimates.var(-1).sum() / references.var(-1).sum())
    assert abs(level_db) <= 1.0
    np.testing.assert_array_equal(found.estimates, ordinary(method, 2)(mixture).estimates)


@pytest.mark.parametrize("method", BLIND_METHODS)
def test_blind_methods_take_a_single_talker_without_noise(method: str) -> None:
    """Two components of one source are singular but for the floor."""
    image = far([30.0], white(1))[0]
    voices = ordinary(method, 2)(image).estimates
    assert voices is not None and np.isfinite(voices).all()
    assert mean_si_sdr_db(image[:1], ordinary(method, 1)(image).estimates) >= 15.0


def test_masks_of_any_baseline_make_an_mvdr_beam(talker_signals: Callable[..., Signals]) -> None:
    images = far([30.0, 150.0], talker_signals(2))
    mixture, references = with_noise(images, 20.0), images[:, CIRCLE.reference]
    unprocessed = mean_si_sdr_db(references, np.broadcast_to(mixture[CIRCLE.reference], references.shape))
    found = ordinary("mask_mvdr,masks=auxiva", 2)(mixture)
    assert found.azimuth_deg is None
    assert mean_si_sdr_db(references, found.estimates) >= unprocessed + 3.0
    oracle = told("oracle_mvdr", mixture, references, [30.0, 150.0])
    np.testing.assert_array_equal(oracle, told("mask_mvdr,masks=oracle", mixture, references, [30.0, 150.0]))
    assert mean_si_sdr_db(references, oracle) >= unprocessed + 6.0


def test_options_keep_their_types() -> None:
    mixture = white(6).astype(np.float32)
    own = f"{__name__}:own_system"
    for options, level in (("gain=2", 2.0), ("gain=0.5,label=x=1,2", 0.5), ("label=null", 1.0)):
        voices = ordinary(f"{own},{options}", 1)(mixture).estimates
        np.testing.assert_allclose(voices[0], level * mixture[0])


def told_system(array: MicrophoneArray, sample_rate: int, talkers: int) -> Oracle:
    """The references themselves."""
    return Oracle(lambda mixture, truth: Separation(truth.references))


def own_system(
    array: MicrophoneArray, sample_rate: int, talkers: int, gain: float = 1.0, label: str | None = None
) -> Separator:
    """The mixture at another level."""
    assert isinstance(gain, float) and label in (None, "x=1,2")

    def separate(mixture: Signals) -> Separation:
        return Separation(np.repeat(gain * mixture[array.reference][None], talkers, axis=0))

    return separate


@pytest.mark.parametrize(
    ("method", "talkers", "message"),
    [
        ("norm_musik", 2, "unknown method 'norm_musik'; did you mean 'norm_music'?"),
        ("auxiva,iteration=3", 2, "method 'auxiva' has no option 'iteration'; did you mean 'iterations'?"),
        ("auxiva,iterations=many", 2, "method 'auxiva': option 'iterations' is 'many', expected a whole number"),
        ("auxiva,iterations=2.5", 2, "option 'iterations' is 2.5, expected a whole number"),
        ("auxiva,iterations=0", 2, "iterations is 0, expected at least 1"),
        ("ilrma,bases=0", 2, "bases is 0, expected at least 1"),
        ("auxiva,window_s=0.001", 2, "window_s is 0.001, which is 8 samples"),
        ("lcmv,oracle", 2, "method 'lcmv,oracle': expected NAME,OPTION=VALUE"),
        ("lcmv,doa=oracel", 2, "unknown doa 'oracel'; did you mean 'oracle'?"),
        ("mvdr,doa=norm_musik", 2, "unknown doa 'norm_musik'; did you mean 'norm_music'?"),
        ("lcmv,doa=garbage", 2, f"unknown doa 'garbage'; expected one of: {LOCATORS}"),
        ("lcmv,doa=garbage", 3, "waves, [10,130,250] (degrees)"),
        ("delay_and_sum,doa=30,150", 2, "unknown doa '30,150'; expected one of: oracle, "),
        ("superdirective,doa=auxiva", 2, f"doa 'auxiva' finds no azimuths by itself; expected one of: {LOCATORS}"),
        ("lcmv,doa=oracle_irm", 2, "doa 'oracle_irm' finds no azimuths by itself; did you mean 'oracle'?"),
        ("lcmv,doa=[10]", 2, "doa is [10], expected azimuths of 2 talkers"),
        ("mvdr,loading=0", 2, "loading is 0.0, expected above 0"),
        ("mask_mvdr,masks=garbage", 2, f"unknown masks 'garbage'; expected one of: {MASKERS}"),
        ("mask_mvdr,masks=music", 2, "masks 'music' finds no voices by itself; expected one of: oracle,"),
        ("mask_mvdr,masks=oracle_irm", 2, "'oracle_irm' finds no voices by itself; did you mean 'oracle'?"),
        (f"mask_mvdr,masks={__name__}:told_system", 2, ":told_system' is an oracle"),
        ("asteroid", 2, "method 'asteroid' needs the option checkpoint: asteroid,checkpoint=..."),
        ("asteroid,checkpoint=nowhere.pth", 2, "nowhere.pth: cannot be read"),
        ("auxiva", 7, "talkers is 7, expected 1 to 6 for AuxIVA"),
        ("norm_music", 6, "talkers is 6, expected 1 to 5 for NormMUSIC"),
        ("unprocessed", 0, "talkers is 0, expected 1 to 8"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(method: str, talkers: int, message: str) -> None:
    with pytest.raises(MsdetError) as refused:
        build_method(method, CIRCLE, RATE, talkers)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_linear_array_is_refused_where_it_would_guess_the_side() -> None:
    with pytest.raises(MsdetError, match=r"is linear: FRIDA looks for azimuths over the full circle"):
        build_method("frida", LINE, RATE, 2)


@pytest.mark.parametrize("method", [*(m for m in DOA_METHODS if m != "frida"), "srp_beam"])
def test_a_linear_array_tells_the_angle_to_its_line(method: str) -> None:
    """Of talkers on either side, found on the left: 60 degrees, and 130 for one at 230."""
    frequency_hz = torch.linspace(0, RATE / 2, 257, dtype=torch.float64)
    steering = steering_vectors(torch.tensor(LINE.positions), torch.tensor([60.0, 230.0]), frequency_hz, 0)
    spectrum = Stft(512)(torch.from_numpy(white(2).astype(np.float32))[None])[0]
    heard = torch.einsum("sfm,sft->mft", steering, spectrum)
    mixture = Stft(512).inverse(heard[None], RATE)[0].numpy()
    found = ordinary(method, 2, LINE)(mixture).azimuth_deg
    assert found is not None and (found >= 0).all() and (found <= 180).all()
    if method not in ("cssm", "waves", "tops"):  # weak ones
        assert found.tolist() == pytest.approx([60.0, 130.0], abs=6.0)


def test_an_upright_array_tells_no_azimuths() -> None:
    pole = MicrophoneArray("pole", ((0.0, 0.0, 0.0), (0.0, 0.0, 0.1), (0.0, 0.0, 0.15)))
    for method in ("srp_phat", "srp_beam"):
        with pytest.raises(MsdetError, match="array 'pole' is linear"):
            build_method(method, pole, RATE, 1)


def test_a_linear_array_serves_what_does_not_look_for_azimuths() -> None:
    mixture = white(4).astype(np.float32)
    for method in (*BLIND_METHODS, "superdirective,doa=[40,90]", "unprocessed"):
        voices = ordinary(method, 2, LINE)(mixture).estimates
        assert voices is not None and voices.shape == (2, RATE)


def test_a_separation_of_nothing_or_of_different_counts_is_refused() -> None:
    with pytest.raises(MsdetError, match="has nothing, expected estimates or azimuth_deg"):
        Separation()
    with pytest.raises(MsdetError, match="has 2 estimates, 3 azimuth_deg"):
        Separation(white(2), np.zeros(3))


def test_sets_with_several_numbers_of_talkers(make_set: Callable[..., SceneSet], tmp_path: Path, run: Run) -> None:
    mixed = make_set([[10.0, 350.0], [80.0, 200.0, 300.0]])
    arguments = ("evaluate", mixed.root, "--out", tmp_path / "out", "--jobs", "1", "--methods")
    code, _ = run(*arguments, "oracle_irm", "delay_and_sum,doa=oracle")
    assert code == 0
    rows = read_jsonl(tmp_path / "out" / "oracle_irm" / "scores.jsonl")
    assert [len(row["si_sdr_db"]) for row in rows] == [2, 3]
    code, line = run(*arguments, "auxiva")
    assert code == 2 and "talkers is 3, expected 1 to 2 for AuxIVA" in line


def test_all_leaves_out_what_does_not_suit_the_set(make_set: Callable[..., SceneSet], tmp_path: Path, run: Run) -> None:
    pair = make_set([[10.0, 350.0]])  # two microphones leave no noise subspace beside two talkers
    code, printed = run("evaluate", pair.root, "--out", tmp_path / "out", "--jobs", "1", "--methods", "all")
    assert code == 0
    left_out = {line.split(": ")[1] for line in printed.splitlines() if line.startswith("left out: ")}
    assert left_out == {*DOA_METHODS, *BEAMS} - {"srp_phat"}


def model_of(mixed: SceneSet, folder: Path, **settings: Any) -> None:
    """Save an untrained model for a set, whose array gets a third microphone off its line."""
    from msdet.models.config import ModelConfig
    from msdet.models.joint import JointModel

    array = MicrophoneArray(
        "pair and one", (*mixed.array.positions_m, (0.0, 0.05, 0.0)), reference=mixed.array.reference
    )
    header = json.loads((mixed.root / "dataset.json").read_text()) | {"array": array.to_dict()}
    (mixed.root / "dataset.json").write_text(json.dumps(header))
    torch.manual_seed(0)
    save_model(folder, JointModel(ModelConfig(**settings), array, RATE), {})


def test_a_model_with_empty_slots_is_scored_on_any_number_of_talkers(
    make_set: Callable[..., SceneSet], tmp_path: Path, run: Run
) -> None:
    """Where the count is wrong, voices cannot be told apart from invented ones; directions are counted."""
    mixed = make_set([[10.0, 150.0], [80.0, 200.0, 300.0]])
    model_of(mixed, tmp_path / "model", talkers=3, variable_num_speakers=True)
    for scene in mixed.scenes:
        path = mixed.root / "audio" / scene.id / "mixture.wav"
        samples, rate = audio.read(path)
        audio.write(path, np.concatenate([samples, samples[:1]]), rate)
    arguments = ["evaluate", mixed.root, "--out", tmp_path / "out", "--model", tmp_path / "model"]
    code, printed = run(*arguments, "--methods=[]", "--metrics", "si_sdr", "--jobs", "1")
    rows = read_jsonl(tmp_path / "out" / "model" / "scores.jsonl")
    assert code == 1, printed
    assert [row["doa_matched"] + row["doa_missed"] for row in rows] == [2, 3]
    assert [row["doa_matched"] + row["doa_false"] for row in rows] == [3, 3]
    assert [row["doa_count_error"] for row in rows] == [1, 0]
    assert rows[0]["si_sdr_db"] is None and "expected one file for each of 2" in rows[0]["undefined"]["si_sdr_db"]
    assert len(rows[1]["si_sdr_db"]) == 3


def test_a_model_for_any_array_may_be_told_how_many_talk(
    make_set: Callable[..., SceneSet], tmp_path: Path, run: Run
) -> None:
    from msdet.models.config import ModelConfig
    from msdet.models.joint import JointModel

    pairs = make_set([[10.0, 150.0], [80.0, 200.0, 300.0]])  # of a line
    parts = {"front_end": "srp_map", "doa_head": "map_peaks", "separation_head": "directional_filter"}
    small = {"hidden": [8, 8], "refiner_options": {"hidden": 8}}
    config = ModelConfig(
        talkers=4, variable_num_speakers=True, encoder="direction_cnn", separation_options=small, **parts
    )
    torch.manual_seed(0)
    save_model(tmp_path / "model", JointModel(config, pairs.array, RATE), {})
    arguments = ["evaluate", pairs.root, "--model", tmp_path / "model", "--methods=[]", "--metrics", "si_sdr"]
    run(*arguments, "--out", tmp_path / "told", "--tell_count", "true", "--jobs", "1")
    rows = read_jsonl(tmp_path / "told" / "model" / "scores.jsonl")
    assert [row["doa_count_error"] for row in rows] == [0, 0]
    assert [len(row["si_sdr_db"]) for row in rows] == [2, 3]
    run(*arguments, "--out", tmp_path / "free", "--jobs", "1")
    rows = read_jsonl(tmp_path / "free" / "model" / "scores.jsonl")
    assert [row["doa_count_error"] for row in rows] == [1, 2]  # untrained, it finds one
    model_of(pairs, tmp_path / "slots", talkers=3, variable_num_speakers=True)
    code, line = run(
        "evaluate", pairs.root, "--model", tmp_path / "slots", "--out", tmp_path / "x", "--tell_count=true"
    )
    assert code == 2 and "cannot be told how many talk" in line


def test_a_model_refuses_another_number_of_talkers_before_any_work(
    make_set: Callable[..., SceneSet], tmp_path: Path, run: Run
) -> None:
    mixed = make_set([[10.0, 350.0], [80.0, 200.0, 300.0]])
    model_of(mixed, tmp_path / "model")
    code, line = run("evaluate", mixed.root, "--out", tmp_path / "out", "--model", tmp_path / "model", "--methods=[]")
    assert code == 2 and "number of talkers is 2 or 3, the model" in line and "expects 2" in line
    assert not (tmp_path / "out").exists()


def test_a_baseline_is_a_file_and_ready_unless_it_needs_something() -> None:
    names = method_names()
    assert {"srp_beam", "music", "auxiva", "oracle_mvdr"} <= set(names)
    assert set(names) - set(methods_without_options()) == {"asteroid", "ensemble", "folded"}
    with pytest.raises(UnknownNameError) as refused:
        build_method("x", CIRCLE, RATE, 2)
    assert refused.value.choices == names


def test_search_that_finds_nothing_says_so() -> None:
    """At 1 kHz and -600 dB, responses are NaN."""
    whisper = 1e-30 * np.random.default_rng(0).standard_normal((4, 8000)).astype(np.float32)
    with pytest.raises(MsdetError, match="MUSIC finds no directions in this recording"):
        music(load_array("circular4_5cm"), 1000, 2)(whisper)
