"""A `python` that starts in milliseconds: calls are forked from a process that has imported the libraries.

What is kept imported are the libraries, seconds for each job of the tiny workflow; the project's own modules each job
imports itself, from the folder that it is started in. A job is a process of its own, ends with its own status, and is
killed with the process that called it. That a stage can be started as it stands is tried too: `once` is a `python` that
starts every module as usual the first time.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CALLER = """#!{python} -IS
import json, os, socket, sys
once = {once!r}
if once and sys.argv[2] not in os.listdir(once):
    open(os.path.join(once, sys.argv[2]), "w").close()
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    socket.send_fds(connection, [b"."], [0, 1, 2])
    connection.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    status = int(connection.makefile().readline())
sys.exit(status) if status >= 0 else os.kill(os.getpid(), -status)
"""


class Warm(NamedTuple):
    """Folders for PATH that have a `python`."""

    always: Path
    once: Path


@contextmanager
def warm_python(folder: Path) -> Iterator[Warm]:
    """Keep the libraries imported, in a process of one thread."""
    address, pythons = folder / "socket", Warm(folder / "always", folder / "once")
    (folder / "started").mkdir()
    for kind, started in zip(pythons, ("", str(folder / "started")), strict=True):
        kind.mkdir()
        caller = kind / "python"
        caller.write_text(CALLER.format(python=sys.executable, address=str(address), once=started))
        caller.chmod(0o755)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        command = [sys.executable, __file__, str(listener.fileno())]
        environment = os.environ | one_thread | {"PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()])
    try:
        yield pythons
    finally:
        server.kill()
        server.wait()


def import_libraries() -> None:
    """Import all stages, and forget the project's own modules."""
    from importlib import import_module

    for path in sorted(ROOT.glob("pipeline/stages/[a-z]*.py")):
        import_module(f"pipeline.stages.{path.stem}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline"]:
        del sys.modules[name]


def next_job(listener: socket.socket) -> list[str]:
    """Wait for callers for ever; returns in each process that is forked for one, with what it is to run."""
    while True:
        connection, _ = listener.accept()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # those that have ended
        if os.fork():
            connection.close()
            continue
        listener.close()
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        arguments, folder, environment = json.loads(connection.makefile().readline())
        job = os.fork()
        if job:
            attend(job, connection)
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        return arguments


def attend(job: int, connection: socket.socket) -> None:
    """Tell the caller how a job ends; end the job when the caller does. Never returns."""
    ended = os.pidfd_open(job)
    if connection in select.select([connection, ended], [], [])[0]:
        os.kill(job, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % status)
    os._exit(0)


def run(module: str) -> int:
    """Run a module as `python -m` does; the status that it ends with."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 -- as the interpreter does
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    import_libraries()
    gc.freeze()
    option, *sys.argv = next_job(socket.socket(fileno=int(sys.argv[1])))
    assert option == "-m", option
    sys.path[0:1] = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    status = run(sys.argv[0])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking every library down takes seconds
