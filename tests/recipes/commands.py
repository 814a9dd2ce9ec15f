"""A server that runs commands in forks of itself: importing what they need is most of a small run's time.

Recipes start commands through ``train_cmd`` and ``cpu_cmd`` (recipes/utils/cmd.sh), where a cluster's queue
goes; in the tests this goes there. ``commands.py serve SOCKET`` waits for commands; ``commands.py run SOCKET
COMMAND...`` has one run in the caller's folder, with its environment and streams, and exits as it does.
"""

from __future__ import annotations

import json
import os
import socket
import sys

LOST = 70  # exit code for a command that died without one


def run(path: str, command: list[str]) -> int:
    """Have the server run a command; its exit code."""
    request = {"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [b"0"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        code = connection.recv(16)
    return int(code) if code else LOST


def serve(path: str) -> None:
    """Fork for every command that is asked for, until killed or left alone by who started it."""
    started_by = os.getppid()
    _import_what_commands_need()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(5.0)
        while os.getppid() == started_by:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()
            _reap()


def _import_what_commands_need() -> None:
    import fast_bss_eval  # noqa: F401
    import pyroomacoustics  # noqa: F401
    import tensorboard.summary.writer.event_file_writer  # noqa: F401

    import msdet.models.encoders.ft_gru
    import msdet.report.page
    import msdet.training.run
    import msdet.training.trainer  # noqa: F401
    from msdet.cli import load_command

    for name in ("simulate", "bank", "import-set", "train", "evaluate", "report", "package"):
        load_command(name)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _answer(connection: socket.socket) -> None:
    """Run what a connection asks for, in this process, and end it."""
    import atexit
    import traceback

    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    try:
        code = _run_here(request["command"])
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code).encode())
    os._exit(0)


def _run_here(command: list[str]) -> int:
    """``msdet COMMAND ...`` or ``python SCRIPT ...``."""
    import runpy

    from msdet.cli import main

    if command[0] == "msdet":
        sys.argv = command
        return main(command[1:])
    if command[0] != "python":
        raise SystemExit(f"cannot run {command[0]}, only msdet and python")
    sys.argv = command[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(command[1])))  # noqa: PTH100, PTH120
    runpy.run_path(command[1], run_name="__main__")
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))
