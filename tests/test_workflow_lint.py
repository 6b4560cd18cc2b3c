"""What `make lint` does not say of the workflow: its parts fit each other, a wrong config is one clear line."""

import os
import subprocess

import pytest
import yaml

from pipeline.provenance import ROOT
from tests import forked


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in the project."""
    return forked.snakemake(ROOT, os.environ, *arguments)


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
    result = snakemake("-n", "--snakefile", "Snakefile", "--directory", str(tmp_path))
    assert result.returncode == 1
    assert "config.yaml: line 1 is not UTF-8; expected the file to be saved as UTF-8" in result.stdout
    assert "Traceback" not in result.stdout


def test_an_unknown_sequence_in_the_split_ends_the_run_with_one_clear_line():
    result = snakemake("-n", "--config", 'split={"cameras": ["222200037"], "sequences": ["EXP-9"]}')
    assert result.returncode == 1
    assert "split.sequences: unknown 'EXP-9'; allowed: EMO-1-shout+laugh, EXP-2-eyes, EXP-5-mouth" in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    "target",
    [
        "results/903/report.html",
        "results/901/clouds/EXP-9/000000-000008.zarr.zip",
        "results/901/renders/EXP-2-eyes/another_camera.mp4",
    ],
)
def test_a_file_of_what_is_not_there_is_refused_in_one_line(target):
    result = snakemake("-n", target)
    assert result.returncode == 1
    assert f"No rule to produce {target}" in result.stdout
    assert "Traceback" not in result.stdout
