"""A box for one run of a command: a process of its own that can write to its folder alone.

Landlock (Linux 5.13 and newer) refuses every write, removal and creation elsewhere, to the process and to all
that it starts, root or not. Memory and time are limited.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 3 << 30
CPU_SECONDS = 30
PATIENCE = 8  # as many seconds by the clock may pass as it is allowed of a core, on a machine that is busy

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # numbers of the system calls, the same on every architecture
_WRITES = 0b111_1111_1111_0010  # write, remove, make (any kind), refer, truncate: bits 1, 4 to 14
_OF_FILES = 0b100_0000_0000_0010  # those that a rule on a file may have
_NO_NEW_PRIVILEGES = 38
_NEW_MOUNTS = 0x20000
_PRIVATE = 0x44000  # and everything mounted below


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: exit code; minus the signal's number if one ended it; None after the time limit.
        stdout: what it printed, bytes that are no UTF-8 replaced.
        stderr: likewise.
        seconds: wall-clock time.
        peak_bytes: largest memory that the process and those it started held at once, in RAM.
    """

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int


def is_possible() -> bool:
    """Whether this system has Landlock with the rights that a box needs."""
    return bool(_LIBC.syscall(_CREATE, None, 0, 1) >= 3)


def run_boxed(
    work: Callable[[], int], folder: Path, cpu_seconds: int = CPU_SECONDS, memory: int = MEMORY_BYTES
) -> Outcome:
    """Run a function in a forked process that can write to `folder` alone.

    Args:
        work: returns the exit code; runs in `folder`, which is its home and holds its temporary files too.
        folder: an existing one; ``.stdout`` and ``.stderr`` beside it are left there.
        cpu_seconds: of a core, after which it is killed, with all that it started.
        memory: bytes of address space that it may ask for besides what it is forked with.
    """
    outputs = [folder.with_name(folder.name + suffix) for suffix in (".stdout", ".stderr")]
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(work, folder, outputs, cpu_seconds, memory)
    watched = os.pidfd_open(pid)
    ended = bool(select.select([watched], [], [], PATIENCE * cpu_seconds)[0])
    os.close(watched)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it started and left running; all of it after the time limit
    _, status, usage = os.wait4(pid, 0)
    text = [path.read_bytes().decode("utf-8", "replace") for path in outputs]
    code: int | None = os.waitstatus_to_exitcode(status)
    if not ended or usage.ru_utime + usage.ru_stime > 0.95 * cpu_seconds:  # the kernel counts in ticks
        code = None
    return Outcome(code, *text, time.monotonic() - start, usage.ru_maxrss << 10)


def _child(work: Callable[[], int], folder: Path, outputs: list[Path], cpu_seconds: int, memory: int) -> None:
    code = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        for number, path in enumerate(outputs, start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(folder)
        os.environ |= {"HOME": str(folder), "TMPDIR": str(folder), "MPLCONFIGDIR": str(folder)}
        tempfile.tempdir = None
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
        _restrict_writes(folder, _own_shared_memory())
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


_LIBC = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = [("handled_access_fs", ctypes.c_uint64)]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def _own_shared_memory() -> list[Path]:
    """Give this process an empty ``/dev/shm`` of its own, if it may: pools of processes need one."""
    if _LIBC.unshare(_NEW_MOUNTS) < 0:
        return []
    _checked(_LIBC.mount(None, b"/", None, _PRIVATE, None))
    _checked(_LIBC.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64m"))
    return [Path("/dev/shm")]


def _restrict_writes(folder: Path, own: list[Path]) -> None:
    """From here on this process writes to `folder`, to what is its `own`, and to ``/dev/null`` alone."""
    attributes = _Ruleset(_WRITES)
    ruleset = _checked(_LIBC.syscall(_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0))
    for path, rights in [(Path(os.devnull), _OF_FILES), *((path, _WRITES) for path in (folder, *own))]:
        rule = _PathRule(rights, os.open(path, os.O_PATH))
        _checked(_LIBC.syscall(_ADD, ruleset, 1, ctypes.byref(rule), 0))
    _checked(_LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(_LIBC.syscall(_RESTRICT, ruleset, 0))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return result
