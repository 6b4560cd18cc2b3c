"""The rules are linted and formatted, the schedule they give is the demo's, a wrong config is one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.provenance import ROOT

TOOLS = Path(sys.executable).parent


def tool(*command: str) -> subprocess.CompletedProcess:
    """Run a tool of this environment in the project, its output in one string."""
    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def test_snakemake_lint_finds_nothing():
    result = tool("snakemake", "--lint")
    assert result.returncode == 0, result.stdout


def test_rules_are_formatted():
    result = tool("snakefmt", "--check", "Snakefile", "workflow")
    assert result.returncode == 0, result.stdout


def test_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 40


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_environments_hold_the_pins_of_the_lock(name):
    lock = [line for line in (ROOT / "envs/requirements.txt").read_text().splitlines() if not line.startswith("#")]
    *_, of_pip = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"]
    assert [pin for pin in of_pip["pip"] if not pin.startswith("-")] == lock


def test_every_stage_is_run_by_a_rule():
    rules = "".join(path.read_text() for path in (ROOT / "workflow").glob("**/*.smk"))
    for stage in (ROOT / "pipeline/stages").glob("[a-z]*.py"):
        assert f"pipeline.stages.{stage.stem} " in rules, stage


def test_a_config_in_latin_1_is_one_line(tmp_path):
    (tmp_path / "config.yaml").write_bytes("# für mich\n".encode("latin-1"))
    result = tool("snakemake", "-n", "--snakefile", "Snakefile", "--directory", str(tmp_path))
    assert result.returncode == 1
    assert "config.yaml: line 1 is not UTF-8; expected the file to be saved as UTF-8" in result.stdout
    assert "Traceback" not in result.stdout


def test_an_unknown_sequence_in_the_split_ends_the_run_with_one_clear_line():
    result = tool("snakemake", "-n", "--config", 'split={"cameras": ["222200037"], "sequences": ["EXP-9"]}')
    assert result.returncode == 1
    assert "split.sequences: unknown 'EXP-9'; allowed: EMO-1-shout+laugh, EXP-2-eyes, EXP-5-mouth" in result.stdout
    assert "Traceback" not in result.stdout
