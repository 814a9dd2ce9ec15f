"""A GPU without one: tensors that say they are on it, hold CPU data, and record what is done with them.

torch sees device ``cuda:0`` and autocast's rules for it; what would fail there (tensors of two devices in one
operation) and what would wait for it (values that the host asks for) is noted.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._decomp.decompositions import gru_impl, lstm_impl
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

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


UNREPEATABLE = (
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool3d", "bincount", "ctc_loss", "cumsum", "fractional_max_pool",
    "grid_sampler", "histc", "kthvalue", "max_pool3d", "max_unpool", "median", "nll_loss2d", "put_", "reflection_pad",
    "replication_pad", "scatter_reduce", "upsample",
)  # fmt: skip
"""Starts of the names of those that have no deterministic form on CUDA (`torch.use_deterministic_algorithms`), in the
backward pass if they have one of their own."""


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
        self.unrepeatable: list[str] = []

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
        name = operation.overloadpacket.__name__.lstrip("_")
        pooled = "pool" in name or "pad" in name or name.startswith(("upsample", "grid_sampler"))
        if name.startswith(UNREPEATABLE) and ours[0].dtype.is_floating_point and ("backward" in name or not pooled):
            self.unrepeatable.append(f"{operation}, {place()}")
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


@contextmanager
def pretending(swap: Callable[[], None]) -> Iterator[tuple[Gpu, Functions]]:
    """Tell torch of a GPU; `swap` takes its view of CUDA devices away, and puts it back."""
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


@pytest.fixture(scope="session")
def pretend(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], AbstractContextManager[tuple[Gpu, Functions]]]:
    """Gives one GPU as long as a ``with`` lasts: what is done on it, and the functions that are called."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, by which torch could be told of a GPU")
    root, library = Path(torch.__file__).parent, tmp_path_factory.mktemp("gpu") / "pretended_gpu.so"
    source = Path(__file__).with_name("pretended_gpu.cpp")
    flags = ["-std=c++20", "-shared", "-fPIC", f"-I{root / 'include'}", f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
    subprocess.run([compiler, str(source), "-o", str(library), *flags], check=True, capture_output=True)
    return partial(pretending, ctypes.CDLL(str(library)).swap_gpu)
