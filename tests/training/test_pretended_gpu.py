"""Training on a GPU, without one: tensors that say they are on it, hold CPU data, and record what is done with them.

torch sees device ``cuda:0`` and autocast's rules for it; what would fail there (tensors of two devices in one
operation) and what would wait for it (values that the host asks for) is noted. A few combinations of parts run in every
``make test``, all of them with ``pytest -m pretended_gpu``.
"""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._decomp.decompositions import gru_impl, lstm_impl
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from msdet.arrays import load_array
from msdet.data.example import Example, TalkerPosition, make_example
from msdet.losses.assignment import ASSIGNMENTS
from msdet.losses.doa import DOA_LOSSES
from msdet.losses.separation import SEPARATION_LOSSES
from msdet.losses.weighting import BALANCERS
from msdet.models.checkpoint import load_model
from msdet.models.config import ModelConfig
from msdet.models.encoders import ENCODERS, ft_gru
from msdet.models.heads import SEPARATION_HEADS, TASKS
from msdet.models.joint import JointModel
from msdet.models.sharing import SHARING_SCHEMES
from msdet.training.config import ObjectiveConfig, OptimizerConfig, TrainConfig
from msdet.training.module import JointModule
from msdet.training.objective import Objective
from msdet.training.optimization import build_optimizer
from msdet.training.run import train

RATE = 8000
GPU = torch.device("cuda:0")
aten = torch.ops.aten

ASK = {
    aten._linalg_check_errors.default, aten._local_scalar_dense.default, aten._unique2.default, aten.equal.default,
    aten.is_nonzero.default, aten.masked_select.default, aten.nonzero.default, aten.unique_dim.default,
}  # fmt: skip
"""Operations whose result the host has to wait for."""

INDEXED = {
    aten._index_put_impl_.default, aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
}  # fmt: skip
"""Those that take indices, which may be of the host; of booleans they count on the device how many there are."""


class Pretended(Tensor):
    """A tensor that says it is on the GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        options = {"dtype": held.dtype, "layout": held.layout, "device": GPU}
        made: Pretended = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), **options
        )
        made.held = held
        return made

    def __deepcopy__(self, memo: Any) -> Pretended:
        return pretended(self.held.clone())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)  # saved, it is a tensor like any other

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{operation} after the GPU was put away")


class Gpu(TorchDispatchMode):
    """Runs every operation on what tensors hold; notes where devices are mixed and where the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if operation is aten._to_copy.default:
            return self.copy(args[0], options)
        if operation is aten._pin_memory.default:
            return args[0]
        tensors = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
        ours = [t for t in tensors if isinstance(t, Pretended)]
        device = options.get("device")
        here = torch.device(device).type == "cuda" if device is not None else bool(ours)
        if device is not None:
            options["device"] = torch.device("cpu")
        self.look(operation, args, ours, [t for t in tensors if not isinstance(t, Pretended)])
        if options.get("generator") is not None and here:
            self.mixed.append(f"{operation} with a generator of the CPU, {place()}")
        given, named = tree_map_only(Pretended, lambda t: t.held, (args, options))
        result = operation(*given, **named)
        if torch.Tag.inplace_view in operation.tags and ours:
            with no_dispatch():  # shape and strides of what stands for it as well
                operation(*args, **kwargs or {})
            return args[0]
        if not here or operation is aten._local_scalar_dense.default:
            return result
        same = {id(t.held): t for t in ours}  # what is changed in place stays itself
        return tree_map_only(Tensor, lambda t: same[id(t)] if id(t) in same else pretended(t), result)

    def copy(self, source: Tensor, options: dict[str, Any]) -> Tensor:
        """A tensor in another type, or on another device."""
        device = options.pop("device", None)
        blocking = not options.pop("non_blocking", False)
        ours = isinstance(source, Pretended)
        here = ours if device is None else torch.device(device).type == "cuda"
        if ours and not here:
            self.waits.append(f"copied to the host, {place()}")
        if here and not ours and blocking:
            self.waits.append(f"copied from the host, {place()}")
        copied: Tensor = aten._to_copy.default(source.held if isinstance(source, Pretended) else source, **options)
        return pretended(copied) if here else copied

    def look(self, operation: Any, args: Any, ours: list[Pretended], others: list[Tensor]) -> None:
        """Note what would fail or wait on a GPU."""
        if operation is aten.copy_.default:
            if ours and not isinstance(args[0], Pretended):
                self.waits.append(f"copied to the host, {place()}")
            return
        if not ours:
            return
        if operation in INDEXED:
            indices = [i for i in args[1] if i is not None]
            if any(not isinstance(i, Pretended) or i.dtype in (torch.bool, torch.uint8) for i in indices):
                self.waits.append(f"{operation}, {place()}")
        elif any(other.dim() for other in others):
            self.mixed.append(f"{operation}, {place()}")
        if operation in ASK:
            self.waits.append(f"{operation}, {place()}")


class Functions(TorchFunctionMode):
    """What does not come to `Gpu`; notes the precision of GRU and LSTM on cuDNN, half under any autocast."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu
        self.dtypes: set[torch.dtype] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], Pretended):
            return function(args[0].cpu())
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Pretended):
            args = (args[0], self.indices(args[1]), *args[2:])
        if function is Tensor.new_tensor and isinstance(args[0], Pretended):
            return self.copied(torch.tensor(*args[1:], **{"dtype": args[0].dtype} | kwargs | {"device": "cpu"}))
        if function in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            return self.copied(function(*args, **kwargs | {"device": "cpu"}))
        if function in (torch._VF.gru, torch._VF.lstm) and isinstance(args[0], Pretended):  # type: ignore[attr-defined]
            self.dtypes.add(torch.float16 if torch.is_autocast_enabled("cuda") else args[0].dtype)
            return {"gru": gru_impl, "lstm": lstm_impl}[function.__name__](*args, **kwargs)
        return function(*args, **kwargs)

    def indices(self, index: Any) -> Any:
        """An index whose lists are tensors, which torch makes of them, and has to copy."""
        if isinstance(index, tuple):
            return tuple(self.indices(part) for part in index)
        return self.copied(torch.tensor(index, dtype=torch.long)) if isinstance(index, list) else index

    def copied(self, made: Tensor) -> Pretended:
        """A tensor that the host has made, on the GPU."""
        self.gpu.waits.append(f"copied from the host, {place()}")
        return pretended(made)


def pretended(held: Tensor) -> Pretended:
    """A tensor on the GPU that holds one of the host."""
    return Pretended(held.resolve_conj().resolve_neg())


def place() -> str:
    """The innermost line of msdet, or of these tests, that is running."""
    frames = [frame for frame in traceback.extract_stack()[:-2] if "/msdet/" in frame.filename]
    inside = frames[-1] if frames else traceback.extract_stack()[-4]
    return f"{inside.filename.rpartition('/msdet/')[2]}:{inside.lineno}"


@pytest.fixture(scope="module")
def swap(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], None]:
    """Takes torch's view of CUDA devices away and puts it back; compiled once."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, by which torch could be told of a GPU")
    root, library = Path(torch.__file__).parent, tmp_path_factory.mktemp("gpu") / "pretended_gpu.so"
    source = Path(__file__).with_suffix("").with_name("pretended_gpu.cpp")
    flags = ["-std=c++20", "-shared", "-fPIC", f"-I{root / 'include'}", f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
    subprocess.run([compiler, str(source), "-o", str(library), *flags], check=True, capture_output=True)
    function: Callable[[], None] = ctypes.CDLL(str(library)).swap_gpu
    return function


@contextmanager
def pretending(swap: Callable[[], None]) -> Iterator[tuple[Gpu, Functions]]:
    """One GPU, as long as this lasts."""
    answers = {
        "_lazy_init": None, "current_device": 0, "device_count": 1, "empty_cache": None, "is_available": True,
        "is_bf16_supported": True, "is_current_stream_capturing": False, "max_memory_allocated": 0,
        "get_device_name": "pretended", "get_device_capability": (9, 0), "set_device": None, "synchronize": None,
        "manual_seed": None, "manual_seed_all": None, "get_rng_state_all": [], "set_rng_state_all": None,
    }  # fmt: skip
    future = torch.__future__
    with ExitStack() as stack:
        swap()
        stack.callback(swap)
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(mock.patch.object(torch.backends.cudnn, "is_acceptable", lambda tensor: False))
        future.set_overwrite_module_params_on_conversion(True)
        stack.callback(future.set_overwrite_module_params_on_conversion, False)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))  # type: ignore[no-untyped-call]
        gpu = stack.enter_context(Gpu())
        yield gpu, stack.enter_context(Functions(gpu))


@dataclasses.dataclass
class Case:
    """What is trained for two steps."""

    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    objective: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: str = "all"
    bf16: bool = False
    array: str = "circular4_5cm"


def small(**changes: Any) -> dict[str, Any]:
    """The default model in frames of 16 ms, with a small encoder."""
    encoder = changes.get("encoder", ModelConfig.encoder)
    tiny = {"ft_gru": {"hidden": 8, "group": 8}}.get(encoder, ENCODERS.fact(encoder, "tiny", {}))
    return {"window_s": 0.016, "encoder_options": tiny} | changes


PLAIN = {"front_end": "stft", "doa_head": "pooled", "separation_head": "complex_mapping"}
MAPS = {
    "front_end": "srp_map", "encoder": "direction_cnn", "doa_head": "map_peaks",
    "separation_head": "directional_filter", "variable_num_speakers": True, "tasks": {"direction_map": {}},
}  # fmt: skip
OF_BINS = [name for name in TASKS.names() if not getattr(TASKS.find(name).Head, "of_directions", False)]


def all_cases() -> Iterator[tuple[str, Case]]:
    """Every part beside the default's others, in both precisions, and labels of every kind."""
    models = {"default": {}} | {f"encoder-{name}": PLAIN | {"encoder": name} for name in ENCODERS.names()}
    models.pop("encoder-direction_cnn")
    models |= {f"front-{name}": PLAIN | {"front_end": name} for name in ("real_imaginary", "tac", "steered")}
    models |= {f"separation-{name}": {"separation_head": name} for name in SEPARATION_HEADS.names()}
    models.pop("separation-directional_filter")
    blocks = {"encoder_options": {"hidden": 8, "group": 8, "blocks": 2}}
    models |= {f"sharing-{name}": {"sharing": name} | blocks for name in SHARING_SCHEMES.names()}
    models |= {f"task-{name}": {"tasks": {name: {}}} for name in OF_BINS}
    models |= {"any-array": MAPS, "empty-slots": {"variable_num_speakers": True}}
    for name, model in models.items():
        for bf16 in (False, True):
            array = "eigenmike32" if name == "task-elevation" else Case.array
            yield f"{name}-{'bf16' if bf16 else 'fp32'}", Case(small(**model), bf16=bf16, array=array)
    objectives = [{"assignment": name} for name in ASSIGNMENTS.names()]
    objectives += [{"separation_loss": name} for name in SEPARATION_LOSSES.names()]
    objectives += [{"doa_loss": name} for name in DOA_LOSSES.names()]
    objectives += [{"balance": name} for name in BALANCERS.names()]
    objectives += [{"normalize": name} for name in ("running_mean", "log")]
    for objective in objectives:
        for labels in ("all", "references", "directions"):
            yield f"{'-'.join(*objective.items())}-{labels}", Case(small(), objective, labels)


CASES = dict(all_cases())
QUICK = [
    "default-fp32", "any-array-bf16", "encoder-ft_jnf-bf16", "empty-slots-fp32", "assignment-pit-all",
    "assignment-azimuth-directions", "balance-uncertainty-references", "separation-recording_filter-bf16",
]  # fmt: skip


def batch_of(case: Case, slots: int, microphones: int) -> Example:
    """Two mixtures of two talkers, noise in place of speech; of one talker in the first where slots may be empty."""
    rng = torch.Generator().manual_seed(1)
    examples = []
    for item in range(2):
        talkers = 1 if item == 0 and case.model.get("variable_num_speakers") else 2
        references = torch.randn(talkers, 1600, generator=rng)
        mixture = references.sum(0) + 0.1 * torch.randn(microphones, 1600, generator=rng)
        nowhere = case.labels == "references" and item == 0
        places = [
            TalkerPosition(*(3 * [torch.nan] if nowhere else (80.0 * n + 10.0, 5.0, 1.0 + n))) for n in range(talkers)
        ]
        known = None if case.labels == "directions" and item == 0 else references.numpy()
        examples.append(make_example(mixture.numpy(), known, places, slots, RATE, 0.3, item, item))
    collated: Example = torch.utils.data.default_collate(examples)
    return collated


def learn(case: Case, device: str, gpu: Gpu | None = None, steps: int = 2) -> list[float]:
    """Train for a few steps as Lightning does; the losses. What the host waited for is of the last step alone."""
    torch.manual_seed(0)
    array, model = load_array(case.array), ModelConfig(**case.model)
    objective = ObjectiveConfig(**{"log_cosine_every": 0} | case.objective)
    module = JointModule(JointModel(model, array, RATE), Objective(objective, model), OptimizerConfig(), steps)
    module.to(device)
    optimizer = build_optimizer(module.settings, module.model, module.objective)
    losses = []
    with mock.patch.object(module, "log_dict"):
        for step in range(steps):
            batch = module.on_before_batch_transfer(batch_of(case, model.talkers, array.microphones), 0)
            batch = Example(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()})  # type: ignore[typeddict-item]
            if gpu:
                gpu.waits.clear()
            with torch.autocast(device, torch.bfloat16, enabled=case.bf16):
                loss = module.training_step(batch, step)
            assert loss is not None
            module.backward(loss)
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        waits = list(gpu.waits) if gpu else []
        numbers = [float(loss) for loss in losses]
        if gpu:
            gpu.waits[:] = waits
    return numbers


def check(case: Case, swap: Callable[[], None], waits: int) -> None:
    """A case learns on the GPU what it learns on the CPU, mixes no devices, and seldom waits."""
    with pretending(swap) as (gpu, functions):
        losses = learn(case, "cuda", gpu)
    assert not gpu.mixed
    assert functions.dtypes <= {torch.float32}
    assert len(gpu.waits) <= waits, gpu.waits
    if not (case.bf16 and case.model.get("front_end") == "srp_map"):  # where rounding decides who is there
        assert losses == pytest.approx(learn(case, "cpu"), rel=0.05 if case.bf16 else 1e-4)


def waits_of(name: str) -> int:
    """How often the host may wait in a step."""
    case = CASES[name]
    if case.model.get("front_end") == "srp_map":
        return 6  # how many talkers there are decides sizes
    if case.model.get("encoder") == "conv_tasnet" or case.model.get("separation_head") == "masked_mvdr":
        return 3  # asteroid's network makes a constant, torchaudio's beamformer checks a solution
    if "balance" in case.objective or "normalize" in case.objective:
        return 60  # signs are looked at, and TorchJD solves on the host
    if case.labels != "all":
        return 6  # whether a label is missing decides what is computed
    return 2


@pytest.mark.parametrize("name", QUICK)
def test_some_combinations(name: str, swap: Callable[[], None]) -> None:
    check(CASES[name], swap, waits_of(name))


@pytest.mark.pretended_gpu
@pytest.mark.parametrize("name", CASES)
def test_all_combinations(name: str, swap: Callable[[], None]) -> None:
    check(CASES[name], swap, waits_of(name))


def test_tensor_of_the_host_in_a_step_is_noticed(swap: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(2, 1)
    loss = JointModel.forward

    def planted(self: JointModel, *args: Any, **kwargs: Any) -> Any:
        output = loss(self, *args, **kwargs)
        return output._replace(predictions=output.predictions | {"doa": output.predictions["doa"] * weight})

    monkeypatch.setattr(JointModel, "forward", planted)
    with pytest.raises(AssertionError, match=r"aten\.mul"):
        check(CASES["default-fp32"], swap, 2)


def test_value_that_is_asked_for_is_noticed(swap: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assign = Objective.assign

    def planted(self: Objective, predictions: Any, truth: Any) -> Tensor:
        assert float(truth.azimuth_deg.sum()) > 0.0
        return assign(self, predictions, truth)

    monkeypatch.setattr(Objective, "assign", planted)
    with pytest.raises(AssertionError, match=r"_local_scalar_dense"):
        check(CASES["default-fp32"], swap, 2)


def test_recurrence_in_half_precision_is_noticed(swap: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ft_gru, "run_rnn_along", lambda layer, x, axis, state=None: run_plainly(layer, x, axis))
    with pytest.raises(AssertionError, match=r"float16"):
        check(CASES["default-bf16"], swap, 2)


def run_plainly(layer: nn.RNNBase, x: Tensor, axis: int) -> tuple[Tensor, Any]:
    """A recurrence as autocast would have it."""
    sequence = x.movedim(axis, 0)
    output, state = layer(sequence.flatten(1, 2))
    return output.reshape(*sequence.shape[:3], output.shape[-1]).movedim(0, axis), state


def test_lightning_trains(swap: Callable[[], None], make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make_config(accelerator="gpu", steps=2, validate_every=1, precision="bf16-mixed")
    lines: list[str] = []
    with pretending(swap) as (gpu, functions):
        train(tmp_path / "run", config, lines.append)
    assert not gpu.mixed
    assert functions.dtypes <= {torch.float32}
    assert sum(line.startswith("step ") for line in lines) == 2
    assert load_model(tmp_path / "run").config == config.model
