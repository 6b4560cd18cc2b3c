"""One of several processes of a training fails alone: all end, its error is one line, and nothing is published."""

import json
import logging
import os
import signal
import socket
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from avatar_scene import TINY

from pipeline import cli
from pipeline.avatar.processes import ANOTHER
from pipeline.avatar.train.loop import Trainer
from pipeline.errors import DataError
from pipeline.stages import train

SETTINGS = {"texture_steps": 0, "steps": 4, "batch": 4, "crop_height": 12, "crop_width": 12, "architecture": TINY}
COUNT, FAILS, FAILS_AT = 2, 1, 2  # processes; which fails, at which step
SECONDS = 60  # until a process counts as hanging


def one_of_several(index: int, port: int, how: str, arguments: list[str], said: Path) -> None:
    """The stage as a launcher starts it, in a process forked from the tests'; the last one fails in a step."""
    os.environ.update({"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": str(COUNT)})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"})
    AcceleratorState._reset_state(True)  # of the process that it was forked from
    sys.stderr = said.open("w")
    logging.getLogger().handlers[:] = []
    step = Trainer.train_step

    def fail(self: Trainer, **more: bool) -> torch.Tensor:
        assert self.processes.count == COUNT
        if self.processes.index == FAILS and self.step == FAILS_AT:
            if how == "stops":
                raise DataError("picture 7: damaged")
            if how == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            with torch.no_grad():
                self.avatar.unet.conv_out.weight.fill_(torch.inf)
        return step(self, **more)

    Trainer.train_step = fail
    sys.argv = ["train", *arguments]
    cli.run(train.main)


NOT_FINITE = f"the loss is nan at step {FAILS_AT}"


@pytest.mark.parametrize(
    ("how", "statuses", "lines"),
    [
        ("stops", (1, 1), (ANOTHER, "picture 7: damaged")),
        ("is killed", (1, -signal.SIGKILL), (ANOTHER, None)),
        ("learns nothing finite", (1, 1), (NOT_FINITE, NOT_FINITE)),
    ],
)
def test_all_end_and_the_error_is_one_line(tmp_path, scene, how, statuses, lines):
    """A loss that is not finite in one process is so in the sum: every process says so, at the same step."""
    files = [part for kind, paths in scene.items() for part in (f"--{kind}", *map(str, paths))]
    output = tmp_path / "avatar.safetensors"
    arguments = ["--settings", json.dumps(SETTINGS), *files, "--state", str(tmp_path / "state")]
    arguments += ["--output", str(output)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = [tmp_path / f"{index}.log" for index in range(COUNT)]
    context = get_context("fork")
    processes = [
        context.Process(target=one_of_several, args=(index, port, how, arguments, path))
        for index, path in enumerate(said)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()
        process.join()
    for process, path, status, line in zip(processes, said, statuses, lines, strict=True):
        text = path.read_text()
        assert process.exitcode == status, text
        assert "Traceback" not in text
        errors = [words for words in text.splitlines() if " error: " in words]
        assert len(errors) == (line is not None), text
        assert line is None or line in errors[0]
    assert not output.exists()
