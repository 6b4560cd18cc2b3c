"""A calibration that cannot be a rig's round one person is named in one line, with the reading that would do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cameras.camera import Camera
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.plausible import OPENGL, check_rig, common_point
from pipeline.errors import DataError


@pytest.fixture(scope="module")
def cameras(tiny_capture: Path) -> list[Camera]:
    """The tiny capture's rig."""
    return list(read_rig_of(open_capture(tiny_capture), 1.0).cameras)


def posed(cameras: list[Camera], change) -> list[Camera]:
    """The cameras with changed poses."""
    return [replace(camera, camera_from_world=change(camera.camera_from_world)) for camera in cameras]


def stretched(camera: Camera, change) -> Camera:
    """The camera with changed intrinsics."""
    matrix = camera.intrinsics.copy()
    change(matrix)
    return replace(camera, intrinsics=matrix)


def moved_by_thousand(pose: np.ndarray) -> np.ndarray:
    """A pose in millimetres."""
    return np.concatenate([pose[:, :3], pose[:, 3:] * np.array([[1000], [1000], [1000], [1]])], 1)


def turned(pose: np.ndarray) -> np.ndarray:
    """A pose that looks a quarter turn aside."""
    return np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]) @ pose


POSES = {
    "inverse": (np.linalg.inv, r"expected a rig .*read as the inverse \(world-from-camera\)"),
    "OpenGL": (lambda pose: OPENGL @ pose, r"do not have a common point .*read in OpenGL's axes"),
    "both": (lambda pose: np.linalg.inv(OPENGL @ pose), "expected a rig .*inverse in OpenGL's axes"),
    "millimetres": (moved_by_thousand, r"stand \d+.* m from what they look at; expected 0.15 to 8 m; .* millimetres"),
}


def test_the_rig_passes(cameras: list[Camera]) -> None:
    check_rig(cameras, metric=True, where="here")


@pytest.mark.parametrize("case", POSES)
def test_other_readings_of_poses(cameras: list[Camera], case: str) -> None:
    change, message = POSES[case]
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        check_rig(posed(cameras, change), metric=True, where="here")


def test_units_of_their_own_pass_where_none_is_said(cameras: list[Camera]) -> None:
    check_rig(posed(cameras, moved_by_thousand), metric=False, where="here")


INTRINSICS = {
    "twice the size": (lambda m: m.__setitem__(slice(2), m[:2] * 2), "intrinsics fit pictures of 512x768"),
    "four times": (lambda m: m.__setitem__(slice(2), m[:2] * 4), "intrinsics fit pictures of 1024x1536"),
    "half": (lambda m: m.__setitem__(slice(2), m[:2] / 2), "intrinsics fit pictures of 128x192"),
    "outside": (lambda m: m.__setitem__((0, 2), -40), r"principal point \(-40, 192\) outside its picture of 256x384"),
    "skew": (lambda m: m.__setitem__((0, 1), 5), "skew of 5 pixels; expected none"),
    "normalised": (
        lambda m: m.__setitem__((slice(2), slice(2)), np.diag([2.3, 2.3])),
        "focal lengths 2.3 and 2.3 in a picture of 256x384; expected 76.8 to 5760 pixels: are they normalised",
    ),
    "uneven": (lambda m: m.__setitem__((1, 1), 300), "focal lengths 880 and 300 pixels; expected two alike"),
}


@pytest.mark.parametrize("case", INTRINSICS)
def test_intrinsics_of_another_picture(cameras: list[Camera], case: str) -> None:
    change, message = INTRINSICS[case]
    second = stretched(cameras[1], change)
    with pytest.raises(DataError, match=f"^here: camera {second.name}: .*{message}"):
        check_rig([cameras[0], second, *cameras[2:]], metric=True, where="here")


def test_a_camera_that_looks_elsewhere_is_named(cameras: list[Camera]) -> None:
    second = replace(cameras[1], camera_from_world=turned(cameras[1].camera_from_world))
    with pytest.raises(DataError, match=f"here: camera {second.name} does not have in its picture the point"):
        check_rig([cameras[0], second, *cameras[2:]], metric=True, where="here")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_cameras(cameras: list[Camera], count: int) -> None:
    with pytest.raises(DataError, match=f"here: {count} cameras; expected 3 at least"):
        check_rig(cameras[:count], metric=True, where="here")


@given(seed=st.integers(0, 2**32 - 1), astray=st.integers(0, 2))
def test_the_common_point_is_most_cameras(seed: int, astray: int) -> None:
    random = np.random.default_rng(seed)
    point, cameras = random.normal(size=3), []
    for index in range(9):
        away = point + (0.1 if index >= astray else 3) * random.normal(size=3) * (index < astray)
        centre = point + (direction := random.normal(size=3)) / np.linalg.norm(direction)
        forward = (away - centre) / np.linalg.norm(away - centre)
        right = np.linalg.qr(np.stack([forward, random.normal(size=3)], 1))[0][:, 1]
        rotation = np.stack([right, np.cross(forward, right), forward])
        pose = np.block([[rotation, -rotation @ centre[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
        cameras.append(Camera(str(index), 100, 100, np.diag([100.0, 100, 1]), pose, np.eye(3)))
    assert np.allclose(common_point(cameras), point, atol=0.01)
