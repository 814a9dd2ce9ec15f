"""Where simulation runs: processes of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msdet.commands._progress import usable_cores
from msdet.errors import MsdetError
from msdet.work import Workers

CONNECT_S = 10


@contextmanager
def workers(jobs: int, dask: str) -> Iterator[Workers]:
    """As many processes as asked for, one a core for 0; or the executor of a Dask cluster at an address.

    Raises:
        MsdetError: Dask is not installed, or nobody answers at the address.
    """
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
