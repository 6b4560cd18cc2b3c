"""What `make lint` does not say of the workflow: its parts fit each other, a wrong config is one clear line."""

import json
import os
import re
import shlex
import subprocess

import pytest
import yaml

from pipeline.capture.curves import ARKIT
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


def test_figures_ask_a_subject_for_its_own_held_out_sequences_alone():
    asked = {}
    for subject in ("901", "902"):
        result = snakemake("-n", "-p", f"results/{subject}/metrics.json", "--config", 'avatars=["901", "902"]')
        assert result.returncode == 0, result.stdout
        (line,) = [line for line in result.stdout.splitlines() if "pipeline.stages.evaluate " in line]
        arguments = shlex.split(line)
        asked[subject] = arguments[arguments.index("--held-out-sequences") + 1]
    assert asked == {"901": "EXP-2-eyes", "902": ""}  # 902 has FREE alone


def example(page: str) -> str:
    """The first piece of JSON on a page."""
    return re.search(r"```json\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[1]


def test_every_kind_of_film_and_export_that_the_pages_name_has_a_plan(tmp_path):
    """Motions, views and endings of docs/drive.md with its own examples, exports, comparisons: in one dry run."""
    for name, text in (
        ("wink.json", example("docs/stages/animate.md")),
        ("closer.json", example("docs/drive.md")),
        ("phone.csv", "\n".join([",".join(ARKIT), *[",".join(["0.1"] * len(ARKIT))] * 90])),
    ):
        (tmp_path / name).write_text(text)
    films = {
        "motions": {"wink": str(tmp_path / "wink.json"), "phone": str(tmp_path / "phone.csv")},
        "paths": {"closer": str(tmp_path / "closer.json")},
    }
    names = (
        "renders/EXP-2-eyes/222200037.mp4",
        "renders/902~FREE/orbit@head.mov",
        "renders/wink/shake.webm",
        "renders/phone/closer.png.zip",
        *(f"export/{name}" for name in ("wink.glb", "902~FREE.obj.zip", "EXP-2-eyes.ply.zip")),
        *(f"export/{name}" for name in ("colmap.zip", "transforms.json")),
        "compared/deferred/index.html",
        "ablations.tex",
        "baselines.md",
    )
    result = snakemake("-n", *(f"results/901/{name}" for name in names), "--config", f"films={json.dumps(films)}")
    assert result.returncode == 0, result.stdout
    for rule in ("retarget", "animate", "rig_path", "film", "compare", "ablation_table", "baseline_table"):
        assert re.search(rf"^{rule} +[1-9]", result.stdout, re.MULTILINE), rule
    for kind in ("cameras", "clouds", "meshes", "head"):
        assert re.search(rf"^export_{kind} +[1-9]", result.stdout, re.MULTILINE), kind


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
