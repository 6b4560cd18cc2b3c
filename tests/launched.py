"""A training in several processes, as `accelerate launch` starts them, forked from the tests' process."""

import os
import socket
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from accelerate.state import AcceleratorState

from tests import in_process

SECONDS = 60  # until a process counts as hanging


def run(
    count: int, folder: Path, module: str, *arguments: object, before: Callable[[], None] = lambda: None
) -> list[tuple[int | None, str]]:
    """Status and words of each process at the end of all. `before` is called first in each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = [folder / f"process{index}.log" for index in range(count)]
    processes: list[BaseProcess] = [
        in_process.fork(path, module, *arguments, before=partial(_begin, index, count, port, before))
        for index, path in enumerate(said)
    ]
    for process in processes:
        process.join(SECONDS)
        process.kill()
        process.join()
    return [(process.exitcode, path.read_text()) for process, path in zip(processes, said, strict=True)]


def _begin(index: int, count: int, port: int, before: Callable[[], None]) -> None:
    os.environ.update({"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": str(count)})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"})
    AcceleratorState._reset_state(True)  # of the process that it was forked from
    before()
