"""Cameras: projection, rays, crops and the rig file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig, read_rig, write_rig
from pipeline.errors import DataError
from pipeline.evenly import evenly

ANGLES = st.tuples(*[st.floats(-3, 3)] * 3)
SHIFTS = st.tuples(*[st.floats(-1, 1)] * 3)


def make_camera(angles=(0, 0, 0), shift=(0, 0, 0), name="a") -> Camera:
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = Rotation.from_rotvec(angles).as_matrix()
    camera_from_world[:3, 3] = shift
    intrinsics = np.array([[90.0, 0, 20.5], [0, 80.0, 31.0], [0, 0, 1]])
    return Camera(name, 40, 60, intrinsics, camera_from_world, np.eye(3))


@given(angles=ANGLES, shift=SHIFTS, depth=st.floats(0.1, 5))
def test_rays_meet_their_pixels(angles, shift, depth) -> None:
    camera = make_camera(angles, shift)
    points = camera.centre + depth * camera.rays()
    pixels, z = camera.project(points)
    np.testing.assert_allclose(z, depth, atol=1e-9)
    np.testing.assert_allclose(pixels[7, 11], (11.5, 7.5), atol=1e-6)


@given(angles=ANGLES, shift=SHIFTS, seed=st.integers(0, 99))
def test_hits_are_the_pixels_that_points_fall_on(angles, shift, seed) -> None:
    camera = make_camera(angles, shift)
    points = np.random.default_rng(seed).normal(0, 2, (200, 3))  # before, behind and beside the camera
    inside, row, column, depth = camera.hits(points)
    found = iter(zip(row, column, depth, strict=True))
    for point, hit in zip(points, inside, strict=True):  # one by one, in the words of a pinhole camera
        x, y, z = camera.camera_from_world[:3, :3] @ point + camera.camera_from_world[:3, 3]
        u, v = 90 * x / z + 20.5, 80 * y / z + 31
        assert hit == (z > 0 and 0 <= u < 40 and 0 <= v < 60)
        if hit:
            assert next(found) == (int(v), int(u), pytest.approx(z))


@given(total=st.integers(0, 500), count=st.integers(0, 60))
def test_even_picks_reach_from_end_to_end(total, count) -> None:
    picks = evenly(total, count)
    assert len(picks) == min(total, count)
    assert (np.diff(picks) >= 1).all()
    if min(total, count) > 1:
        assert (picks[0], picks[-1]) == (0, total - 1)
        assert np.ptp(np.diff(picks)) <= 1


@given(left=st.floats(-5, 30), top=st.floats(-5, 30), scale=st.floats(0.25, 4))
def test_crop_moves_pixels(left, top, scale) -> None:
    camera = make_camera((0.1, 0.2, 0.3), (0, 0, 1))
    points = np.random.default_rng(0).normal(0, 0.1, (50, 3))
    whole, depth = camera.project(points)
    cropped, cropped_depth = camera.crop(left, top, scale, 30, 20).project(points)
    np.testing.assert_allclose(cropped, (whole - (left, top)) / scale, atol=1e-9)
    np.testing.assert_array_equal(depth, cropped_depth)


def test_rig_file_round_trip(tmp_path: Path) -> None:
    rig = Rig((make_camera((0.1, 0, 0), (0, 0, 1), "left"), make_camera(name="right")), moving=True)
    write_rig(tmp_path / "rig.json", rig)
    read = read_rig(tmp_path / "rig.json")
    assert read.moving
    assert read.names == ["left", "right"]
    for ours, theirs in zip(rig.cameras, read.cameras, strict=True):
        np.testing.assert_array_equal(ours.camera_from_world, theirs.camera_from_world)
        np.testing.assert_array_equal(ours.intrinsics, theirs.intrinsics)
        assert (ours.width, ours.height) == (theirs.width, theirs.height)


def test_errors_name_the_camera_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no camera 7; the rig has a"):
        Rig((make_camera(),)).index("7")
    (tmp_path / "rig.json").write_text('{"cameras": [{}]}')
    with pytest.raises(DataError, match=r"rig\.json: not a rig file"):
        read_rig(tmp_path / "rig.json")
