"""The page that shows whether a capture's cameras fit its pictures."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.capture.calibration import read_rig_of
from pipeline.capture.check import thumbnail
from pipeline.capture.formats import open_capture
from pipeline.capture.sfm import verdict
from pipeline.capture.sfm.matching.matches import Pairs, Seen, View, look, match_all
from pipeline.capture.sfm.matching.pictures import views_of
from pipeline.capture.sfm.verdict import judge
from tests import in_process
from tests.conftest import DEMO, TINY_CAMERAS

SEQUENCE = "EXP-5-mouth"


def check(capture: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command on one sequence."""
    return in_process.run("capture.check", capture, "--sequence", SEQUENCE, "--output", page, *options)


def test_the_page_of_a_good_capture(tiny_capture: Path, tmp_path: Path) -> None:
    done = check(tiny_capture, tmp_path / "check.html")
    assert done.returncode == 0, done.stderr
    assert "5 cameras, 0 of them off" in done.stderr
    page = (tmp_path / "check.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5
    assert all(camera in page for camera in ("220700191", "222200037", "222200049"))
    assert "{{" not in page


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--sequence", "TALK"), "no sequence TALK; it has EXP-2-eyes, EXP-5-mouth"),
        (("--frames", 0, 3), "EXP-2-eyes: no frame 3; expected 0 to 2"),
        (("--scale", 2), "--scale 2; expected a share above 0, at most 1"),
    ],
)
def test_what_is_not_there_is_one_line(tiny_capture: Path, tmp_path: Path, asked: tuple, message: str) -> None:
    done = in_process.run("capture.check", tiny_capture, *asked, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert message in done.stderr


def test_a_turned_camera_is_on_the_page_and_in_the_exit_status(tmp_path: Path) -> None:
    capture = tmp_path / "901"
    shutil.copytree(DEMO / "calibration", capture / "calibration")
    (capture / "sequences").symlink_to(DEMO / "sequences")
    path = capture / "calibration/camera_params.json"
    content = json.loads(path.read_text())
    turn, angle = np.eye(4), np.radians(1)
    turn[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    content["world_2_cam"]["222200037"] = (turn @ content["world_2_cam"]["222200037"]).tolist()
    path.write_text(json.dumps(content))
    done = check(capture, tmp_path / "check.html", "--frames", "8")
    line = "camera 222200037: its matches lie"
    assert done.returncode == 1, done.stderr
    assert line in done.stderr
    assert line in (tmp_path / "check.html").read_text()


def test_a_camera_of_five_that_a_single_pair_shows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned along the row that the cameras stand in: its other pairs fit, or share too little."""
    matched: dict[tuple[int, int], Pairs] = {}  # where cameras stand changes no match

    def match_once(seen: Sequence[Seen], tried: Sequence[tuple[int, int]], on_pair: Callable[[int], None]) -> Pairs:
        matched.update({pair: match_all(seen, [pair], on_pair) for pair in tried if pair not in matched})
        return {name: found for pair in tried for name, found in matched[pair].items()}

    monkeypatch.setattr(verdict, "match_all", match_once)
    capture = open_capture(DEMO)
    rig = read_rig_of(capture, 1.0, list(TINY_CAMERAS))
    seen = [look(view) for view in views_of(capture, SEQUENCE, rig, [2, 8, 14])]
    assert not judge(seen, rig.cameras, lambda done: None)[0].off
    turn, angle = np.eye(4), np.radians(1)
    turn[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    for number, camera in enumerate(rig.cameras):
        cameras = list(rig.cameras)
        cameras[number] = replace(camera, camera_from_world=turn @ camera.camera_from_world)
        assert list(judge(seen, cameras, lambda done: None)[0].off) == [number]


def test_a_camera_without_a_first_picture_shows_its_next() -> None:
    second, mask = np.full((40, 30, 3), 200, np.uint8), np.full((40, 30), 255, np.uint8)
    late = View("late", (None, second), (None, mask))
    assert late.first[0] is second
    assert late.first[1] is mask
    assert thumbnail(late) == thumbnail(View("whole", (second,), (mask,)))
