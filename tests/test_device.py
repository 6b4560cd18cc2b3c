"""Which GPU a job gets: names of GPUs are made up, the processes that claim them are real."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

from pipeline.device import DeviceError, lock_folder, visible_gpus
from pipeline.provenance import ROOT

CLAIM = """
import sys
from pathlib import Path
from pipeline.device import claim_gpu
print(claim_gpu(sys.argv[2].split(","), Path(sys.argv[1]), every=0.05), flush=True)
sys.stdin.read()
"""
Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that claims one of the GPUs, prints its name and lives on; ended after the test."""
    started: list[subprocess.Popen] = []

    def claiming(names: str) -> subprocess.Popen:
        command = [sys.executable, "-c", CLAIM, str(tmp_path), names]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        return started[-1]

    yield claiming
    for process in started:
        process.kill()
        process.communicate()


def test_two_jobs_of_one_machine_get_two_gpus_and_a_third_waits_for_a_killed_one(start):
    first, second = start("3,5"), start("3,5")
    names = [process.stdout.readline().strip() for process in (first, second)]
    assert sorted(names) == ["3", "5"]
    third = start("3,5")
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(1)
    second.kill()
    assert third.stdout.readline().strip() == names[1]


def test_other_tests_see_no_gpu():
    """On a machine that has one too: they compare the CPU's results bit for bit, and stages would all take it."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()


def test_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab, 2")
    assert visible_gpus() == ["GPU-ab", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="ask for a GPU, but this process sees none"):
        visible_gpus()


def test_jobs_of_slurm_do_not_wait_for_each_other(monkeypatch):
    """In each of them the GPU that the scheduler gave it is the first."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    here = lock_folder()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert lock_folder() == here / "17"


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("mesh", "--prior p --identity {0} --track {0} --subject s --sequence q --start 0 --stop 1 --output o"),
        ("render", "--avatar {0} --buffers {0} --track {0} --output o --film f"),
        ("speed", "--trained {0} --few {0} --buffers {0} --targets {0} --track {0} --camera c --output o --film f"),
        ("train", "--buffers {0} --targets {0} --tracks {0} --state s --output o"),
        ("distill", "--avatar {0} --buffers {0} --targets {0} --tracks {0} --state s --output o"),
    ],
)
def test_a_stage_without_its_gpu_says_so(tmp_path, monkeypatch, stage, options):
    (tmp_path / "empty").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    chosen = {"device": "cuda", **({"into": 4} if stage == "distill" else {})}
    monkeypatch.setattr(sys, "argv", [stage, "--settings", json.dumps(chosen), *options.format("empty").split()])
    with pytest.raises(DeviceError, match="ask for a GPU, but this process sees none; expected device cpu"):
        import_module(f"pipeline.stages.{stage}").main()
