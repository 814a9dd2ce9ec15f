"""Many small jobs into one folder: in parallel, one thread each, resumable, refused for other settings."""

from __future__ import annotations

import asyncio
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from msdet import __version__
from msdet.errors import MsdetError
from msdet.io.files import read_json, remove_leftovers, settings_hash, write_json
from msdet.renamed import leaves, translated

Progress = Callable[[int, int], None]
"""Called with the number of jobs done and the number in all."""

Workers = int | Executor
"""A number of processes on this machine, or an executor: of a Dask cluster, for one."""

IN_PROGRESS = "in-progress.json"
T = TypeVar("T")
MAX_WORKERS = 1024  # processes, or threads; more would only take memory
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PRA_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A function at module level and its arguments; it writes its own result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        """Run it."""
        return self.function(*self.arguments)


@dataclass(frozen=True)
class Shard:
    """Part `part`, from 1 on, of `parts` of a list of jobs, for machines that share nothing but a folder."""

    part: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``k/n``.

        >>> Shard.parse("2/8").of(range(20))
        [1, 9, 17]
        """
        part, slash, parts = text.partition("/")
        if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
            raise MsdetError(f"shard is '{text}', expected k/n with k from 1 to n")
        return cls(int(part), int(parts))

    def of(self, jobs: Sequence[T]) -> list[T]:
        """This part of a list."""
        return list(jobs[self.part - 1 :: self.parts])


ALL = Shard(1, 1)


def run_jobs(todo: Sequence[Job], workers: Workers, progress: Progress | None = None, done: int = 0) -> list[Any]:
    """What jobs return, run in processes (in this one for 1) or on an executor; the first error stops the rest."""
    if isinstance(workers, int) and workers > MAX_WORKERS:
        raise MsdetError(f"jobs is {workers}, expected at most {MAX_WORKERS}")
    report = progress or (lambda done, total: None)
    report(done, done + len(todo))
    if isinstance(workers, Executor):
        try:
            return _run_on(workers, todo, report, done)
        except MsdetError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # clusters have exceptions of their own
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise MsdetError(f"the cluster failed or was lost ({reason[:200]})") from error
    if workers <= 1 or len(todo) <= 1:
        results = []
        for number, job in enumerate(todo, start=done + 1):
            results.append(job())
            report(number, done + len(todo))
        return results
    with worker_pool(min(workers, len(todo))) as pool:
        return _run_on(pool, todo, report, done)


def _run_on(executor: Executor, todo: Sequence[Job], report: Progress, done: int) -> list[Any]:
    futures = [executor.submit(job) for job in todo]
    try:
        for number, future in enumerate(as_completed(futures), start=done + 1):
            future.result()
            report(number, done + len(todo))
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return [future.result() for future in futures]


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes whose numeric libraries use one thread each, and that end when this process dies."""
    before = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))  # read by the libraries when a worker starts
    # not fork: a copy of a process whose numeric libraries run threads can hang
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise MsdetError("a worker process was killed (memory?); try fewer jobs") from error
    finally:
        for name in _THREAD_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


def end_with_parent() -> None:
    """Make this worker process end when the process that started it dies, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def begin_run_dir(out: Path, settings: dict[str, Any], header: str, share: Shard = ALL) -> bool:
    """Prepare `out`, made if missing, for jobs with settings that decide its content; False if it is finished.

    The file `header` marks it so. Other runs may be at work in it unless `share` is the whole. Refuses a folder with
    other settings, of which it names the first, or with things that msdet did not write.
    """
    foreign = out.is_dir() and any(not p.name.startswith(".part-") and p.name != IN_PROGRESS for p in out.iterdir())
    for name in (header, IN_PROGRESS):  # after the listing: another part may have claimed it just now
        if (out / name).is_file():
            before = translated(read_json(out / name).get("settings", {}))
            if name == header or foreign:
                _refuse_other_settings(out, before, settings)
            elif before != settings:  # claimed by a run that failed before it wrote anything
                write_json(out / IN_PROGRESS, {"kind": Path(header).stem, "settings": settings})
            if share == ALL:
                remove_leftovers(out)
            return name != header
    if foreign:
        raise MsdetError(f"{out}: exists and is not one of msdet's folders; choose another")
    if out.exists() and not out.is_dir():
        raise MsdetError(f"{out}: is a file, expected a folder")
    write_json(out / IN_PROGRESS, {"kind": Path(header).stem, "settings": settings})
    return True


def finish_run_dir(out: Path, settings: dict[str, Any], header: str, content: dict[str, Any]) -> None:
    """Write the header that marks the folder finished."""
    origin = {"generator": f"msdet {__version__}", "hash": settings_hash(settings), "settings": settings}
    write_json(out / header, {**content, **origin})
    (out / IN_PROGRESS).unlink(missing_ok=True)


def _refuse_other_settings(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, now = ({".".join(path): v for path, v in leaves(settings) if v != {}} for settings in (old, new))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise MsdetError(
                f"{out}: exists with other settings: {key} is {_short(before.get(key))}, "
                f"asked for {_short(now.get(key))}; choose another folder or delete this one"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
