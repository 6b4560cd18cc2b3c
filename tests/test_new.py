"""From a folder to a running workflow in two commands, for every kind of capture."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
import yaml

from pipeline.capture.new import sequences_and_split
from pipeline.planning import config
from pipeline.planning.plan import Plan
from pipeline.provenance import ROOT
from tests import forked, in_process
from tests.other_captures import pictures_of, write_colmap, write_transforms

SEQUENCE = "EXP-5-mouth"


def planned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of the config that the command wrote in a folder."""
    monkeypatch.chdir(folder)
    return config.load(yaml.safe_load(Path("me.yaml").read_text())).plan()


def new(folder: Path, capture: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return in_process.run("capture.new", capture, "--subject", "me", cwd=folder)


WRITERS = {
    "nersemble": lambda capture, folder: folder.symlink_to(capture),
    "transforms": lambda capture, folder: write_transforms(capture, folder, SEQUENCE),
    "colmap": lambda capture, folder: write_colmap(capture, folder, SEQUENCE, "OPENCV", True),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_becomes_a_table_and_a_config_that_plan(
    tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    WRITERS[kind](tiny_capture, tmp_path / "capture")
    done = new(tmp_path, tmp_path / "capture")
    assert done.returncode == 0, done.stderr
    assert f"kind {kind}: 5 cameras of " in done.stdout
    assert "run: snakemake --cores all --configfile me.yaml" in done.stdout
    plan = planned(tmp_path, monkeypatch)
    plan.check_captures()
    assert plan.subjects() == ["me"]
    assert (len(plan.cameras("me")), len(plan.held_out_cameras)) == (5, 1)
    assert plan.training("me")
    again = new(tmp_path, tmp_path / "capture")
    assert again.returncode == 1
    assert "me.tsv: is there already" in again.stderr


def test_the_command_that_is_printed_plans_beside_the_demo_s_config(tiny_capture: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "config.yaml", tmp_path)
    assert new(tmp_path, tiny_capture).returncode == 0
    done = forked.snakemake(
        tmp_path, os.environ, "-n", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "me.yaml"
    )
    assert done.returncode == 0, done.stdout
    assert "results/me/report.html" in done.stdout
    assert "results/901" not in done.stdout


def test_photographs_with_cameras_are_placed_anew(tiny_capture: Path, tmp_path: Path) -> None:
    write_transforms(tiny_capture, tmp_path / "capture", SEQUENCE)
    path = tmp_path / "capture" / SEQUENCE / "transforms.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        for key in ("timestep_index", "camera_id", "camera_index", "cx", "cy"):
            frame.pop(key, None)
        frame["fl_x"] = frame["fl_y"] = 500.0
        frame["file_path"] = str(path.parent / frame["file_path"])
    path.write_text(json.dumps(content))
    done = new(tmp_path, tmp_path / "capture")
    assert "calibrate.refine: where_off" in done.stdout, done.stderr
    assert yaml.safe_load((tmp_path / "me.yaml").read_text())["calibrate"] == {
        "off_cameras": "drop",
        "refine": "where_off",
    }


def test_recordings_without_cameras_plan_as_well(
    tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_colmap(tiny_capture, tmp_path / "capture", SEQUENCE, "OPENCV", True)
    (tmp_path / "capture/sparse").rename(tmp_path / "sparse")
    done = new(tmp_path, tmp_path / "capture")
    assert done.returncode == 0, done.stderr
    assert "kind unposed: 5 cameras of 128x192, 256x384, no masks" in done.stdout
    assert "nothing says where the cameras stand: calibrate finds them from what they see" in done.stdout
    plan = planned(tmp_path, monkeypatch)
    plan.check_captures()
    assert plan.calibration("me") == []


def test_photographs_hold_out_every_eighth(tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pictures_of(tiny_capture, SEQUENCE, "222200037")[0]
    (tmp_path / "capture").mkdir()
    for number in range(17):
        cv2.imwrite(str(tmp_path / f"capture/p{number:02d}.png"), picture)
    done = new(tmp_path, tmp_path / "capture")
    assert done.returncode == 0, done.stderr
    assert "held out: camera p04, p12, no time: too few frames" in done.stdout
    assert "results/me/renders/still/orbit.mp4" in done.stdout
    plan = planned(tmp_path, monkeypatch)
    assert (plan.steps("me", "all"), plan.motions) == (1, {"still": 97})
    assert plan.largest_picture("me") == 256 * 384


def test_two_cameras_are_too_few_and_four_get_a_hint(tiny_capture: Path, tmp_path: Path) -> None:
    write_colmap(tiny_capture, tmp_path / "capture", SEQUENCE, "OPENCV", True)
    (tmp_path / "capture/sparse").rename(tmp_path / "sparse")
    cameras = sorted((tmp_path / "capture/images").iterdir())
    shutil.rmtree(cameras[0])
    done = new(tmp_path, tmp_path / "capture")
    assert "4 cameras: a point counts where two agree (pointcloud.min_views: 2)" in done.stdout
    assert yaml.safe_load((tmp_path / "me.yaml").read_text())["pointcloud"] == {"min_views": 2}
    for camera in cameras[1:3]:
        shutil.rmtree(camera)
    (tmp_path / "me.yaml").unlink()
    (tmp_path / "me.tsv").unlink()
    done = new(tmp_path, tmp_path / "capture")
    assert done.returncode == 1
    assert "2 cameras; expected 3 at least, or no surface can be confirmed: 222200048, 222200049" in done.stderr
    assert not (tmp_path / "me.tsv").exists()


def test_what_is_held_out() -> None:
    assert sequences_and_split({"a": 9, "b": 4}) == ([("a", 9), ("b", 4)], ["b"])
    assert sequences_and_split({"a": 20}) == ([("a@0-16", 16), ("a@16-20", 4)], ["a@16-20"])
    assert sequences_and_split({"a": 1}) == ([("a", 1)], [])
