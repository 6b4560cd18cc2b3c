"""Rigs: crops that see the same rays, an orbit that looks at the head, and the command line."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Frame, Picture, crop_round, look_at, orbit
from pipeline.cameras.path import shake
from pipeline.cameras.rig import Rig, read_rig, write_rig
from pipeline.errors import DataError
from pipeline.head.model import pose
from pipeline.head.model.identity import Identity, write_identity
from pipeline.store.chunk import Array, read_arrays, write_chunk
from tests import in_process

HEAD = Frame.upright(np.array([0.3, -0.15, 0.6]), np.array([0.1, 1.0, 0.0]), np.array([0.5, 0.2, 0.9]))
PICTURE = Picture(144, 192, 0.35)


def arc(count: int = 5) -> tuple[Camera, ...]:
    """Cameras on an arc a metre before the head, looking a little past it."""
    right = np.cross(HEAD.front, HEAD.up)
    cameras = []
    for number, yaw in enumerate(np.radians(np.linspace(-50, 50, count))):
        eye = HEAD.centre + np.cos(yaw) * HEAD.front + np.sin(yaw) * right + 0.1 * HEAD.up
        pose = look_at(eye, HEAD.centre + 0.02 * right, HEAD.up)
        cameras.append(
            Camera(str(number), 256, 384, np.array([[880.0, 0, 128], [0, 880, 192], [0, 0, 1]]), pose, np.eye(3))
        )
    return tuple(cameras)


def test_crops_see_the_head_in_the_middle():
    for camera in crop_round(arc(), HEAD.centre, PICTURE).cameras:
        pixel, depth = camera.project(HEAD.centre)
        np.testing.assert_allclose(pixel, [72, 96], atol=1e-9)
        seen = 192 / camera.intrinsics[1, 1] * depth  # metres over the height
        assert seen == pytest.approx(0.35)


@settings(max_examples=50)
@given(st.tuples(*[st.floats(-0.15, 0.15)] * 3))
def test_crops_project_to_cropped_pixels(offset):
    point = HEAD.centre + np.array(offset)
    for camera, crop in zip(arc(), crop_round(arc(), HEAD.centre, PICTURE).cameras, strict=True):
        (there, depth), (here, same_depth) = camera.project(point), crop.project(point)
        middle, _ = camera.project(HEAD.centre)
        ratio = camera.intrinsics[0, 0] / crop.intrinsics[0, 0]
        np.testing.assert_allclose((here - [72, 96]) * ratio, there - middle, atol=1e-6)
        assert depth == same_depth


def test_camera_that_looks_away_is_named():
    away = Camera("7", 256, 384, arc()[0].intrinsics, look_at(np.zeros(3), -HEAD.centre, HEAD.up), np.eye(3))
    with pytest.raises(DataError, match="camera 7 does not see the head"):
        crop_round([*arc(), away], HEAD.centre, PICTURE)


@settings(max_examples=20)
@given(st.integers(1, 60), st.floats(0, 60), st.floats(0, 20))
def test_orbit_looks_at_the_head(steps, sway, nod):
    rig = orbit(arc(), HEAD, PICTURE, steps, sway, nod)
    assert rig.moving
    assert len(rig.cameras) == steps
    for camera in rig.cameras:
        rotation = camera.camera_from_world[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
        pixel, depth = camera.project(HEAD.centre)
        np.testing.assert_allclose(pixel, [72, 96], atol=1e-6)
        assert depth == pytest.approx(np.mean([np.linalg.norm(c.centre - HEAD.centre) for c in arc()]))
        above, _ = camera.project(HEAD.centre + 0.1 * HEAD.up)
        assert above[1] < 96  # upright
        assert camera.project(HEAD.centre + 0.1 * HEAD.front)[1] < depth  # before the face


def test_orbit_is_a_loop_of_small_steps():
    centres = np.array([camera.centre for camera in orbit(arc(), HEAD, PICTURE, 48, 35, 6).cameras])
    hops = np.linalg.norm(np.roll(centres, -1, 0) - centres, axis=1)
    assert hops.max() < 0.12
    offsets = centres - HEAD.centre
    yaw = np.degrees(np.arctan2(offsets @ np.cross(HEAD.front, HEAD.up), offsets @ HEAD.front))
    assert np.abs(yaw).max() == pytest.approx(35, abs=0.5)


def test_same_orbit_whatever_the_world():
    turn = look_at(np.array([3.0, 1, 2]), np.zeros(3), np.array([0, 0, 1.0]))  # world_2 from world
    moved = Frame(turn[:3] @ np.append(HEAD.centre, 1), turn[:3, :3] @ HEAD.up, turn[:3, :3] @ HEAD.front)
    cameras = [
        Camera(c.name, c.width, c.height, c.intrinsics, c.camera_from_world @ np.linalg.inv(turn), c.color)
        for c in arc()
    ]
    for one, other in zip(
        orbit(arc(), HEAD, PICTURE, 9, 35, 6).cameras, orbit(cameras, moved, PICTURE, 9, 35, 6).cameras, strict=True
    ):
        np.testing.assert_allclose(other.camera_from_world @ turn, one.camera_from_world, atol=1e-9)


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with cameras.json and identity.safetensors."""
    write_rig(tmp_path / "cameras.json", Rig(arc()))
    place = [part.astype(np.float32) for part in (HEAD.centre, HEAD.up, HEAD.front)]
    identity = Identity(np.zeros(4), np.zeros(2), np.array([4.0]), *place, "", ("a:0",), (1.0,))
    write_identity(tmp_path / "identity.safetensors", identity)
    rest = pose.similarity(HEAD.centre, HEAD.up, HEAD.front, 4)
    poses = pose.moved(np.stack([rest] * 7), np.linspace(0, 0.2, 42).reshape(6, 7).T)
    poses[0] = rest
    track = {"head_from_world": Array(poses, ("time", "row", "column"), "head unit / m", "poses")}
    write_chunk(tmp_path / "track.zarr.zip", track, {"subject": "1", "sequence": "A", "start": 0, "stop": 7})
    return tmp_path


def run_rig(files: Path, *more: str) -> subprocess.CompletedProcess:
    command = ["stages.rig", "--cameras", str(files / "cameras.json"), *more]
    command += ["--identity", str(files / "identity.safetensors"), "--output", str(files / "rig.json")]
    return in_process.run(*command)


def test_stage(files):
    assert run_rig(files, "--rig", "capture", "--settings", '{"width": 96}').returncode == 0
    rig = read_rig(files / "rig.json")
    assert not rig.moving
    assert rig.names == ["0", "1", "2", "3", "4"]
    assert {(c.width, c.height) for c in rig.cameras} == {(96, 192)}
    for rig, more in (("orbit", ()), ("shake", ()), ("camera", ("--camera", "2"))):
        done = run_rig(files, "--rig", rig, "--track", str(files / "track.zarr.zip"), *more)
        assert done.returncode == 0, done.stderr
        rig = read_rig(files / "rig.json")
        assert len(rig.cameras) == (7 if rig.moving else 1)
        assert rig.moving != bool(more)


def test_an_orbit_goes_round_where_the_head_is_on_the_way(files):
    (poses,) = read_arrays(files / "track.zarr.zip", "head_from_world")
    centre, up, front = pose.centre_up_front(poses)
    places = [Frame.upright(*one).shifted(0.028, -0.03).centre for one in zip(centre, up, front, strict=True)]
    for name, middle in (("orbit", np.mean(places, 0)), ("orbit@head", places[0])):
        stabilised = ("--stabilised", "head") if name.endswith("@head") else ()
        assert run_rig(files, "--rig", "orbit", "--track", str(files / "track.zarr.zip"), *stabilised).returncode == 0
        first = read_rig(files / "rig.json").cameras[0]
        np.testing.assert_allclose(first.project(middle)[0], [72, 96], atol=1e-3)


def test_stage_along_views_and_held_to_the_head(files):
    views = [{"seconds": 0, "eye": [0, 0, 1]}, {"seconds": 0.25, "eye": [0.5, 0.1, 0.8], "zoom": 2, "easing": "linear"}]
    (files / "path.json").write_text(json.dumps({"views": views}))
    options = ("--rig", "path", "--path", str(files / "path.json"), "--track", str(files / "track.zarr.zip"))
    seen = {}
    for stabilised in ("world", "head"):
        done = run_rig(files, *options, "--stabilised", stabilised)
        assert done.returncode == 0, done.stderr
        seen[stabilised] = read_rig(files / "rig.json").cameras
    (poses,) = read_arrays(files / "track.zarr.zip", "head_from_world")
    centre, up, front = pose.centre_up_front(poses)
    frame = Frame.upright(centre[0], up[0], front[0]).shifted(0.028, -0.03)
    np.testing.assert_allclose(seen["world"][0].centre, frame.centre + frame.front, atol=1e-5)
    assert seen["world"][6].intrinsics[0, 0] == pytest.approx(2 * seen["world"][0].intrinsics[0, 0])
    nose = np.array([0.0, 0.0, 0.4])  # head space
    places = [
        camera.project(pose.apply(np.linalg.inv(now), nose[None])[0])[0]
        for camera, now in zip(seen["head"], poses, strict=True)
    ]
    still = [camera.project(pose.apply(np.linalg.inv(poses[0]), nose[None])[0])[0] for camera in seen["world"]]
    np.testing.assert_allclose(places, still, atol=1e-3)  # the head stands still


def test_shake_is_the_release_s_path():
    rig = shake(HEAD, PICTURE, 41)
    axes = np.stack([np.cross(HEAD.up, HEAD.front), HEAD.up, HEAD.front])
    places = np.array([axes @ (camera.centre - HEAD.centre) for camera in rig.cameras])
    np.testing.assert_allclose(places[[0, 10, 40]], [[0, 0.02, 1.02], [0.3, 0.02, 0.98], [0, 0.02, 1.02]], atol=1e-9)
    for camera in rig.cameras:
        np.testing.assert_allclose(camera.project(HEAD.centre + 0.02 * HEAD.up)[0], [72, 96], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rig", "orbit"), "--track is needed for --rig orbit"),
        (("--rig", "camera", "--track", "track.zarr.zip"), "--camera is needed"),
        (("--rig", "shake", "--track", "track.zarr.zip", "--camera", "2"), "--camera does not go with"),
        (("--rig", "camera", "--track", "track.zarr.zip", "--camera", "9"), "no camera 9"),
        (("--rig", "path", "--track", "track.zarr.zip", "--path", "cameras.json"), "cameras.json: views"),
    ],
)
def test_stage_names_what_does_not_fit(files, options, message):
    known = [str(files / word) if word.endswith((".zip", ".json")) else word for word in options]
    done = run_rig(files, *known)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (files / "rig.json").exists()
