"""One of several processes of a training fails alone: all end, its error is one line, and nothing is published."""

import json
import os
import signal
from functools import partial

import pytest
import torch
from avatar_scene import TINY

from pipeline.avatar.processes import ANOTHER
from pipeline.avatar.train.loop import Trainer
from pipeline.errors import DataError
from tests import launched

SETTINGS = {"texture_steps": 0, "steps": 4, "batch": 4, "crop_height": 12, "crop_width": 12, "architecture": TINY}
COUNT, FAILS, FAILS_AT = 2, 1, 2  # processes; which fails, at which step
NOT_FINITE = f"the loss is nan at step {FAILS_AT}"


def fail_alone(how: str) -> None:
    """From now on the last process fails in a step."""
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
    arguments = ["--settings", json.dumps(SETTINGS), *files, "--state", tmp_path / "state", "--output", output]
    ended = launched.run(COUNT, tmp_path, "stages.train", *arguments, before=partial(fail_alone, how))
    for (status, said), expected, line in zip(ended, statuses, lines, strict=True):
        assert status == expected, said
        assert "Traceback" not in said
        errors = [words for words in said.splitlines() if " error: " in words]
        assert len(errors) == (line is not None), said
        assert line is None or line in errors[0]
    assert not output.exists()
