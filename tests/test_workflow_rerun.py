"""What runs again after which change: the whole workflow is scheduled by Snakemake itself, in a copy of the project.

The first run makes every file with stand-ins for the stages (they only create their outputs), because these tests are
about decisions; then each test makes one change and reads the schedule of a dry run.
"""

import json
import os
import re
import shutil
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.cameras.rig import Rig, write_rig
from pipeline.provenance import ROOT
from pipeline.store.chunk import Array, write_chunk
from tests import forked

CAMERAS = ("left", "middle", "right")
STAND_IN = """#!/bin/bash
if [ "$2" = "$FAILING" ]; then
    echo "the stage's own words" >&2
    exit 143
fi
stage=$2
while [ $# -gt 0 ]; do
    case $1 in --output | --film | --comparison | --sheet) echo "$RANDOM" >"$2" ;; esac
    case $stage$1 in *.evaluate--pictures | *.evaluate--figures) echo "$RANDOM" >"$2" ;; esac
    shift
done
"""
AFTER_AVATAR = {"render_capture", "render_span", "film", "speed", "evaluate", "report"}
AFTER_MESHES = {"rasterize", "isolate", "train"} | AFTER_AVATAR
AFTER_TRACKS = AFTER_MESHES | {"mesh", "fit_quality"}
BEFORE_FIT = {"pointcloud", "detect", "triangulate"}
AFTER_FRAMES = AFTER_TRACKS | BEFORE_FIT | {"fit_identity", "fit_sequence", "rig_capture", "rig_path"}
CHUNKED = BEFORE_FIT | {"ingest", "fit_sequence", "mesh", "fit_quality", "rasterize", "isolate", "render_capture"}


class Project:
    """A copy of the workflow in a folder of its own, with a capture that has names but no pictures."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "pipeline", "workflow", "profiles", "envs"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self.write("bin/python", STAND_IN)
        (folder / "bin/python").chmod(0o755)
        for name in ("camera_params", "color_calibration"):
            self.write(f"capture/calibration/{name}.json", json.dumps({"world_2_cam": dict.fromkeys(CAMERAS)}))
        for camera in CAMERAS:
            self.write(f"capture/sequences/BACKGROUND/image_{camera}.jpg", camera)
        self.config = {
            "captures": "captures.tsv",
            "span": 2,
            "split": {"cameras": ["middle"], "sequences": ["held", "also held"]},
            "films": {"cameras": ["left"], "orbits": ["held"]},
        }
        self.write_config(self.config)
        self.write("captures.tsv", "subject\tsequence\tfolder\tframes\n")
        for sequence, frames in (("one", 3), ("two", 2), ("held", 3), ("also held", 1)):
            self.record(sequence, frames)

    def write(self, name: str, text: str) -> None:
        """Write a file of the copy."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_config(self, config: dict) -> None:
        """Write config.yaml."""
        self.write("config.yaml", yaml.safe_dump(config))

    def record(self, sequence: str, frames: int, subject: str = "7") -> None:
        """Add a sequence to the capture and to the table."""
        for camera in CAMERAS:
            self.write(f"capture/sequences/{sequence}/images/cam_{camera}.mp4", f"{sequence} {camera}")
        with (self.folder / "captures.tsv").open("a") as table:
            table.write(f"{subject}\t{sequence}\tcapture\t{frames}\n")

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the copy, standard error within standard output."""
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        return forked.snakemake(self.folder, environment, "--cores", "4", *arguments)

    def snakemake(self, *arguments: str) -> str:
        """Run Snakemake in the copy to a good end; its output."""
        result = self.call(*arguments)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def schedule(self) -> dict[str, set[str]]:
        """What a run would make now: rule name to output files."""
        jobs: dict[str, set[str]] = {}
        pattern = re.compile(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    output: (.*)$", re.MULTILINE)
        for rule, output in pattern.findall(self.snakemake("-n")):
            jobs.setdefault(rule, set()).update(output.split(", "))
        return jobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after a whole run."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.snakemake("--quiet", "all")
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """The finished project; its sources, config and table are put back after the test."""
    kept = ("pipeline", "config.yaml", "captures.tsv")
    for name in kept:
        copy = shutil.copytree if (finished.folder / name).is_dir() else shutil.copy
        copy(finished.folder / name, tmp_path / name)
    yield finished
    shutil.rmtree(finished.folder / "pipeline")
    shutil.copytree(tmp_path / "pipeline", finished.folder / "pipeline")
    for name in kept[1:]:
        shutil.copy(tmp_path / name, finished.folder / name)


def edit(project: Project, module: str, text: str) -> None:
    """Append to a module of the project."""
    path = project.folder / "pipeline" / module
    assert path.is_file(), module
    path.write_text(path.read_text() + text)


def test_nothing_changed_nothing_runs(project):
    assert project.schedule() == {}


def test_comments_docstrings_and_messages_rerun_nothing(project):
    for path in (project.folder / "pipeline").rglob("*.py"):
        edit(project, str(path.relative_to(project.folder / "pipeline")), "\n\n# a remark\n")
    stage = project.folder / "pipeline/stages/train.py"
    stage.write_text(re.sub(r'^""".*?"""', '"""Another docstring."""', stage.read_text(), flags=re.DOTALL))
    loop = project.folder / "pipeline/avatar/train/loop.py"
    assert "try a lower learning_rate" in loop.read_text()
    loop.write_text(loop.read_text().replace("try a lower learning_rate", "lower learning_rate"))
    assert project.schedule() == {}


@pytest.mark.parametrize(
    ("stage", "reruns"),
    [
        ("calibrate", {"calibrate", "ingest"} | AFTER_FRAMES),
        ("ingest", {"ingest"} | AFTER_FRAMES),
        ("mesh", AFTER_TRACKS),
        ("render", {"render_capture", "render_span", "film", "evaluate", "report"}),
        ("report", {"report"}),
    ],
)
def test_a_stage_edit_reruns_it_and_what_is_downstream(project, stage, reruns):
    edit(project, f"stages/{stage}.py", "\nCHANGED = 1\n")
    assert project.schedule().keys() == reruns


@pytest.mark.parametrize(
    ("module", "reruns"),
    [
        ("evaluate/measures/flicker.py", {"evaluate", "report"}),
        ("raster/backends/embree.py", AFTER_FRAMES - {"detect", "triangulate"}),  # it shows clouds the head that guides
        ("capture/pictures/matting.py", {"calibrate", "ingest"} | AFTER_FRAMES),
    ],
)
def test_a_library_edit_reruns_exactly_the_rules_that_import_it(project, module, reruns):
    edit(project, module, "\nCHANGED = 1\n")
    assert project.schedule().keys() == reruns


@pytest.mark.parametrize(
    ("section", "change", "reruns"),
    [
        ("ingest", {"person_levels": 31}, {"ingest"} | AFTER_FRAMES),
        ("train", {"seed": 5}, {"train"} | AFTER_AVATAR),
        ("train", {"preview_every": 5, "save_every": 7}, set()),
        ("distill", {"into": 4}, {"distill"} | AFTER_AVATAR),
        ("distill", {"seed": 5}, set()),
        ("speed", {"frames": 3}, {"speed", "report"}),
        ("speed", {"steps": None}, {"report"}),
        ("evaluate", {"comparison_pictures": 3}, {"evaluate", "report"}),
        ("prior", {"seed": 5}, set()),
    ],
)
def test_a_config_value_reruns_only_its_readers(project, section, change, reruns):
    project.write_config({**project.config, section: change})
    assert project.schedule().keys() == reruns


def test_a_new_held_out_sequence_runs_its_own_chunks_and_the_figures_but_no_training(project):
    project.record("new", 3)
    split = {**project.config["split"], "sequences": ["held", "also held", "new"]}
    project.write_config({**project.config, "split": split})
    schedule = project.schedule()
    assert schedule.keys() == CHUNKED | {"evaluate", "report"}
    for rule in CHUNKED:
        assert all("/new" in output for output in schedule[rule]), rule
    assert len(schedule["ingest"]) == 2


def test_a_new_training_sequence_keeps_frames_and_clouds_of_the_others(project):
    project.record("new", 2)
    schedule = project.schedule()
    assert schedule["ingest"] == {"results/7/frames/new/000000-000002.zarr.zip"}
    assert schedule["pointcloud"] == {"results/7/clouds/new/000000-000002.zarr.zip"}
    assert schedule.keys() == {"ingest"} | AFTER_FRAMES


def test_a_driver_is_tracked_and_drives_but_changes_no_figure(project):
    project.record("nod", 3, subject="8")
    films = {**project.config["films"], "drivers": ["8~nod"]}
    project.write_config({**project.config, "avatars": ["7"], "films": films})
    schedule = project.schedule()
    assert schedule["retarget"] == {"results/7/tracks/8~nod.zarr.zip"}
    driven = {output for outputs in schedule.values() for output in outputs if "results/7/" in output}
    assert driven == {
        "results/7/tracks/8~nod.zarr.zip",
        *(f"results/7/meshes/8~nod/{span}.zarr.zip" for span in ("000000-000002", "000002-000003")),
        *(f"results/7/buffers/8~nod/capture/{span}.zarr.zip" for span in ("000000-000002", "000002-000003")),
        "results/7/renders/8~nod/capture.zarr.zip",
        "results/7/renders/8~nod/capture.mp4",
        "results/7/report.html",
        "results/7/contact_sheet.png",
    }
    assert not schedule.keys() & {"train", "evaluate"}


def test_another_order_of_held_out_cameras_is_another_film(project):
    project.write_config({**project.config, "split": {**project.config["split"], "cameras": ["middle", "right"]}})
    assert project.schedule().keys() == {"train"} | AFTER_AVATAR


def test_a_replaced_video_reruns_its_sequence(project):
    video = project.folder / "capture/sequences/held/images/cam_left.mp4"
    before, status = video.read_text(), video.stat()
    video.write_text("another take")
    schedule = project.schedule()
    video.write_text(before)
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert schedule["ingest"] == {
        f"results/7/frames/held/{span}.zarr.zip" for span in ("000000-000002", "000002-000003")
    }
    assert "train" not in schedule


def test_landmarks_of_ones_own_take_the_place_of_detected_points_in_all_clouds_and_fits(project):
    path = project.folder / "capture/sequences/held/landmarks/cam_left.npy"
    project.write(str(path.relative_to(project.folder)), "points")
    schedule = project.schedule()
    shutil.rmtree(path.parent)
    assert schedule["landmarks"] == {"results/7/landmarks/held.zarr.zip"}
    assert "fit_identity" in schedule
    assert "results/7/tracks/held.zarr.zip" in schedule["fit_sequence"]
    assert "pointcloud" in schedule  # a head at them guides the matching
    assert not schedule.keys() & {"ingest", "detect", "triangulate"}


@pytest.mark.parametrize(
    ("stage", "makes"), [("prior", "failing/head_prior.safetensors"), ("calibrate", "failing/7/cameras.json")]
)
def test_a_stage_that_is_stopped_fails_with_its_own_status_and_words(project, monkeypatch, stage, makes):
    """Through a pipe into tee too, whose status is 0."""
    monkeypatch.setenv("FAILING", f"pipeline.stages.{stage}")
    result = project.call(makes, "--config", "results=failing", "ict_facekit=captures.tsv")
    assert result.returncode == 1
    assert "the stage's own words" in result.stdout
    assert "returned non-zero exit status 143" in result.stdout
    assert "latency" not in result.stdout


@pytest.mark.parametrize(
    ("stage", "path"), [("mesh", "results/7/meshes/one/000000-000002.zarr.zip"), ("rig", "results/7/rigs/capture.json")]
)
def test_what_was_made_with_other_settings_is_made_anew_where_snakemake_has_lost_its_records(
    project, tmp_path, stage, path
):
    path = Path(path)
    record = project.folder / ".snakemake/metadata" / urlsafe_b64encode(str(path).encode()).decode()
    whole = shutil.copy2(project.folder / path, tmp_path / "kept")
    lost = record.rename(tmp_path / "record")
    made = {"stage": stage, "settings": {"of another day": 99}, "code": ""}
    if path.suffix == ".json":
        write_rig(project.folder / path, Rig(()), made)
    else:
        write_chunk(project.folder / path, {"points": Array(np.zeros(3), ("point",), "", "")}, made)
    result = project.call("-n", str(path))
    shutil.copy2(whole, project.folder / path)
    lost.rename(record)
    assert f"{path}: made with other settings, which .snakemake knows nothing of" in result.stdout
    assert re.search(rf"^rule {stage}(_capture)?:$", result.stdout, re.MULTILINE), result.stdout


def test_a_missing_calibration_is_one_line(project):
    """Even where nothing would have to run: Snakemake alone would not mind."""
    path = project.folder / "capture/calibration/camera_params.json"
    lost = path.rename(project.folder / "lost")
    result = project.call()
    lost.rename(path)
    assert result.returncode == 1
    expected = "capture/calibration/camera_params.json: no such file; expected the calibration of the cameras"
    assert result.stdout.count(expected) == 1, result.stdout


def test_a_camera_without_a_video_is_left_out_aloud(project):
    video = project.folder / "capture/sequences/one/images/cam_left.mp4"
    lost = video.rename(project.folder / "lost")
    project.write_config({**project.config, "films": {}})
    result = project.call("-n")
    lost.rename(video)
    project.write_config(project.config)
    assert "camera left recorded nothing of one: left out of all its sequences" in result.stdout
    assert result.returncode == 0, result.stdout
