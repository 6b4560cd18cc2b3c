"""The project's commands, run within the tests' process: what they import, seconds each, is imported once.

Processes of their own are tried where they matter: by the tiny workflow for its stages, where memory is measured, and
once for the stages that the tiny workflow has no use for, animate and export. One that is to be killed is forked.
"""

import contextlib
import faulthandler
import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from pipeline import cli


def run(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `python -m pipeline.<module>` would end with and say. A bug raises its own error."""
    words, status = [f"pipeline.{module}", *map(str, arguments)], 0
    with tempfile.TemporaryFile("w+") as stderr, io.StringIO() as stdout:
        with (
            contextlib.chdir(cwd or Path.cwd()),
            patch.object(sys, "argv", words),
            patch.dict(os.environ),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            no_handlers(),
        ):
            try:
                cli.run(import_module(words[0]).main)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
                if isinstance(end.code, str):
                    stderr.write(end.code)
            finally:
                faulthandler.enable(sys.__stderr__)  # cli.run's goes with the file
        stderr.seek(0)
        return subprocess.CompletedProcess(words, status, stdout.getvalue(), stderr.read())


def spawn(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", f"pipeline.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def fork(said: Path, module: str, *arguments: object, before: Callable[[], None] | None = None) -> BaseProcess:
    """The same in a process that is forked from this one and has begun; what it says goes to a file. `before` is called
    in it first."""
    process = get_context("fork").Process(target=_forked, args=(said, f"pipeline.{module}", arguments, before))
    process.start()
    return process


def _forked(said: Path, module: str, arguments: Iterable[object], before: Callable[[], None] | None) -> None:
    sys.stderr = said.open("w")
    logging.getLogger().handlers[:] = []
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the threads there were are not forked
    if before:
        before()
    sys.argv = [module, *map(str, arguments)]
    cli.run(import_module(module).main)


def run_well(module: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Like `run`, for a command that must end well."""
    done = run(module, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


@contextlib.contextmanager
def no_handlers() -> Iterator[None]:
    """Set pytest's handlers of log records aside, and its level, so that a command sets up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
