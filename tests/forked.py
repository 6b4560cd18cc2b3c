"""Snakemake forked from a process that has imported it: every run is a process of its own, without a start of seconds.

This file imports nothing of the project: a run is to find the project that it is started in.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

FORKING = get_context("forkserver")
# what every run imports, some only once it has begun
FORKING.set_forkserver_preload(["snakemake.cli", "snakemake.report.html_reporter", "snakemake.storage"])


def snakemake(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder, standard error within standard output."""
    with tempfile.TemporaryDirectory() as place:
        said = Path(place, "said")
        process = start(folder, environment, said, *arguments)
        process.join()
        return subprocess.CompletedProcess(["snakemake", *arguments], process.exitcode, said.read_text())


def start(folder: Path, environment: Mapping[str, str], said: Path, *arguments: str) -> BaseProcess:
    """Begin to run Snakemake in a folder; what it says is appended to a file."""
    process = FORKING.Process(target=_run, args=(str(folder), dict(environment), arguments, str(said)))
    process.start()
    return process


def _run(folder: str, environment: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main()
