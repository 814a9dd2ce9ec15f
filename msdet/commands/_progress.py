"""A progress bar with the time left, for people; a line now and then where output is not a terminal."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msdet.errors import MsdetError
from msdet.io.jobs import Workers


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def progress_bar(title: str, lines: bool = True, every_s: float | None = None) -> Iterator[Callable[..., None]]:
    """Yield a function that is called with the number done, the number in all and, if any, a note.

    Where output is not a terminal, `lines` are printed, at the first call and every so many seconds, or each quarter.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, every_s) if lines else lambda done, total, note="": None
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, note="": bar.update(
            task, completed=done, total=total, description=f"{title}  {note}" if note else title
        )


def _lines(title: str, every_s: float | None) -> Callable[..., None]:
    last: float | None = None

    def tell(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = 4 * done // max(total, 1) if every_s is None else time.monotonic()
        if last is None or now - last >= (every_s or 1):
            last = now
            print(f"{title}: {done}/{total}" + (f", {note}" if note else ""), flush=True)

    return tell


def quiet_lightning() -> None:
    """Nothing but warnings of Lightning's."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


# --- Where simulation runs: processes of this machine, or a Dask cluster.

CONNECT_S = 10


@contextmanager
def workers(jobs: int, dask: str) -> Iterator[Workers]:
    """As many processes as asked for, one a core for 0; or the executor of a Dask cluster at an address."""
    if jobs < 0:
        raise MsdetError(f"jobs is {jobs}, expected a number of processes, or 0 for one a core")
    if not dask:
        yield jobs or usable_cores()
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MsdetError("--dask needs Dask: pip install msdet[cluster]") from error
    try:
        client = Client(dask, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MsdetError(f"--dask {dask}: no Dask scheduler answers there") from error
    with client:
        yield client.get_executor(pure=False)
