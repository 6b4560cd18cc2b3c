"""From a capture to a fitted head on a real Slurm: what it gives without one. `make test-slurm` sets the Slurm up."""

from pathlib import Path

import pytest

from tests.tiny_workflow import assert_equal, joined, make_project, run

pytestmark = pytest.mark.slurm

# A job costs Snakemake's own start and a wait for Slurm's answer, 15 s together: all 45 of the tiny workflow would take
# 9 minutes. These seven have jobs of one sequence, of one span, and of several threads.
RUN = ("--max-threads", "1", "results/901/identity.safetensors", "--config", "span=3")
ON_THIS_NODE = (  # no accounting, no GPU, jobs of seconds; a cluster needs none of these
    *("--workflow-profile", "profiles/slurm", "--jobs", "4", "--latency-wait", "5", "--retries", "0"),
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
    *("--set-resources", "train:mem_mb=2000"),
    *(f"{rule}:gpu=0" for rule in ("train", "render_capture", "render_span", "speed")),
)


def test_slurm_and_local_runs_fit_equal_heads(tmp_path: Path, tiny_capture: Path) -> None:
    local = make_project(tmp_path / "local", tiny_capture)
    cluster = make_project(tmp_path / "cluster", tiny_capture)
    run(local, "--cores", "2", *RUN)
    said = run(cluster, *ON_THIS_NODE, *RUN)
    assert "has been submitted with SLURM jobid" in said
    assert_equal(joined(local / "results/901"), joined(cluster / "results/901"))
