"""Isolating the head: area-correct crops, which pixels belong to it, and the command line."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cameras.camera import Camera
from pipeline.cameras.resample import coverage, crop_weights, resample
from pipeline.cameras.rig import Rig, write_rig
from pipeline.errors import DataError
from pipeline.mesh.cut import Plane, clip, compact
from pipeline.mesh.mesh import Mesh
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.buffers import rasterize, write_buffers
from pipeline.store.chunk import Array, read_arrays, write_chunk
from pipeline.targets.isolate import Margin, head_weight, over_white, surely_face
from pipeline.targets.occlusion import Occluder, chromaticity, occluded
from tests import in_process

SOURCE = Camera("a", 96, 80, np.array([[200.0, 0, 48], [0, 200, 40], [0, 0, 1]]), np.diag([1, -1, -1, 1.0]), np.eye(3))
SOURCE.camera_from_world[2, 3] = 0.6  # looks down the world's z axis from 0.6 m
NECK = Plane(-0.2, 0.0)  # 0.05 m below the middle
MARGIN = Margin(skin=0.004, hair=0.012, low=0.04, high=0.06)


@settings(max_examples=100)
@given(st.floats(-9, 9), st.floats(0.2, 5), st.integers(1, 12), st.integers(1, 20))
def test_coverage_is_the_overlap(first, ratio, new, old):
    weights = coverage(first, ratio, new, old)
    assert weights.shape == (new, old)
    assert (weights >= 0).all()
    low = first + ratio * np.arange(new)
    inside = np.clip(np.minimum(low + ratio, old) - np.maximum(low, 0), 0, None) / ratio
    np.testing.assert_allclose(weights.sum(1), inside, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(-20, 40), st.floats(-20, 40), st.floats(0.6, 3))
def test_crop_averages_what_it_covers(left, top, ratio):
    picture = np.random.default_rng(0).random((80, 96, 2), np.float32)
    seen = resample(picture, *crop_weights(SOURCE, SOURCE.crop(left, top, ratio, 14, 11)))
    fine = 40  # samples along each side of a pixel
    x, y = (start + ratio * (np.arange(n * fine) + 0.5) / fine for start, n in ((left, 14), (top, 11)))
    padded = np.zeros((400, 400, 2), np.float32)
    padded[100:180, 100:196] = picture
    samples = padded[np.floor(y).astype(int) + 100][:, np.floor(x).astype(int) + 100]
    expected = samples.reshape(11, fine, 14, fine, 2).mean((1, 3))
    np.testing.assert_allclose(seen, expected, atol=0.06)


def test_whole_pixel_crop_is_a_slice():
    picture = np.random.default_rng(0).random((80, 96, 3), np.float32)
    seen = resample(picture, *crop_weights(SOURCE, SOURCE.crop(7, 5, 1, 30, 20)))
    np.testing.assert_allclose(seen, picture[5:25, 7:37], atol=1e-6)


def test_a_camera_that_is_no_crop_is_named():
    turned = replace(SOURCE.crop(0, 0, 2, 40, 40), camera_from_world=np.eye(4))
    with pytest.raises(DataError, match=r"camera a: .*not a crop"):
        crop_weights(SOURCE, turned)


def ball(displacement: float = 0.0) -> Mesh:
    """A head of 0.1 m radius, cut by NECK; its canonical space lies `displacement` metres lower than the posed one."""
    sphere = trimesh.creation.icosphere(4, radius=0.1)
    canonical = 4 * (sphere.vertices - [0, displacement, 0])
    vertices, faces = clip(np.concatenate([sphere.vertices, canonical], -1), sphere.faces, NECK.height(canonical))
    vertices, faces = compact(vertices, faces)
    x_can = np.concatenate([vertices[:, 3:], np.zeros((len(vertices), 2))], -1)
    return Mesh(vertices[:, :3].astype(np.float32), x_can.astype(np.float32), faces)


def weight_of(mesh: Mesh, camera: Camera = SOURCE) -> np.ndarray:
    """Head weight (h, w) of a mesh in a head space that is the world times 4."""
    rasterized = {name: values[0] for name, values in rasterize(EmbreeRasterizer(), mesh, [camera]).items()}
    return head_weight(rasterized, camera, np.diag([4.0, 4, 4, 1]), NECK, MARGIN)[0]


def rows_of(metres: float) -> float:
    """Row of a height above the middle, on the plane of the ball's outline."""
    return 40 - metres * 200 / 0.6


def test_weight_keeps_hair_and_drops_what_is_below_the_cut():
    weight = weight_of(ball())
    assert (weight >= 0).all()
    assert (weight <= 1).all()
    assert (weight[int(rows_of(-0.05)) + 4 :] == 0).all()  # below the cut
    column = weight[:, 48]
    top = np.flatnonzero(column > 0.5).min()
    assert rows_of(0.112) - 2.5 < top < rows_of(0.112) + 1.5  # the hair margin over the crown
    row = weight[int(rows_of(-0.03))]  # 2 cm above the cut: the skin margin
    beyond = 96 / 2 - np.flatnonzero(row > 0.5).min() - np.sqrt(0.1**2 - 0.03**2) * 200 / 0.6
    assert 0 < beyond < 3
    assert (weight[30:40, 40:56] == 1).all()


def test_weight_follows_the_cut_that_the_expression_moves():
    edge = [np.flatnonzero(weight_of(ball(shift))[:, 48] > 0.5).max() for shift in (0.0, -0.03)]
    assert edge[1] - edge[0] == pytest.approx(0.03 * 200 / 0.51, abs=2)  # the canonical cut lies 3 cm lower in the pose


def test_soft_edge_at_the_cut():
    column = weight_of(ball())[:, 48]
    edge = np.flatnonzero(column > 0.99).max()
    assert column[edge + 3] == 0
    assert 0 < column[edge + 1 : edge + 3].max() < 1


def test_only_what_lies_well_inside_the_face_is_sure():
    rasterized = {name: values[0] for name, values in rasterize(EmbreeRasterizer(), ball(), [SOURCE]).items()}
    sure = surely_face(rasterized, SOURCE)
    mask = rasterized["mask"] > 0
    assert sure[40, 48]
    assert not sure[~mask].any()
    assert (rasterized["x_can"][sure][:, 2] > 0.1).all()
    assert sure.sum() > 0.6 * mask.sum()
    row = np.flatnonzero(mask[40])
    assert not sure[40, [row[0], row[0] + 1, row[-1]]].any()


def test_no_head_no_weight():
    empty = {"mask": np.zeros((80, 96), bool), "depth": np.zeros((80, 96)), "x_can": np.zeros((80, 96, 5))}
    assert not surely_face(empty, SOURCE).any()
    assert not head_weight(empty, SOURCE, np.eye(4), NECK, MARGIN)[0].any()


def test_margin_needs_a_rise():
    assert MARGIN.at(np.array([-1, 0.04, 0.05, 0.06, 1])) == pytest.approx([0.004, 0.004, 0.008, 0.012, 0.012])


COLLAR = Occluder(height=0.03, cell=0.04, tolerance=16)
SKIN, SHIRT, HOLE = np.array([150.0, 110, 90]), np.array([60.0, 75, 115]), np.array([15.0, 15, 15])


@given(st.floats(0.5, 1.3))
def test_shadow_is_no_collar(light):
    shadow = np.abs(chromaticity(SKIN * light) - chromaticity(SKIN)).max()
    assert shadow < COLLAR.tolerance < np.abs(chromaticity(SHIRT) - chromaticity(SKIN)).max()
    assert COLLAR.tolerance < np.abs(chromaticity(HOLE) - chromaticity(SKIN)).max()


@given(st.floats(0.27, 1.3))
def test_shadow_on_dark_skin_is_no_collar(light):
    dark = np.array([105.0, 68, 52])  # 60 levels in all in the shadow of the chin, as 905's
    assert np.abs(chromaticity(dark * light) - chromaticity(dark)).max() < COLLAR.tolerance


def cameras_of_skin(level: float = 1.0) -> dict[str, np.ndarray]:
    """Four cameras' pictures of 20x20 pixels of skin, a pixel a centimetre, and below them two rows of body."""
    rng = np.random.default_rng(0)
    light = level * rng.uniform(0.6, 1.2, (4, 4, 4, 1)).repeat(5, 1).repeat(5, 2)  # shadows have a size
    colour = SKIN * light + rng.normal(0, 3, (4, 20, 20, 3))
    place = np.stack(np.broadcast_arrays(*np.meshgrid(np.arange(20), np.arange(20)), 0.0), -1) * 0.01
    asked = np.ones((4, 20, 20), bool)
    asked[:, 18:] = False
    return {
        "colour": colour,
        "place": np.repeat(place[None], 4, 0),
        "asked": asked,
        "face": np.zeros_like(asked),
        "body": ~asked,
    }


@pytest.mark.parametrize("on_the_face", [False, True])
@pytest.mark.parametrize("strange", [SHIRT, HOLE])
def test_collar_before_the_skin_of_one_camera(strange, on_the_face):
    seen = cameras_of_skin()
    seen["colour"][2, 14:] = strange
    seen["face"][:] = on_the_face
    hidden = occluded(**seen, occluder=COLLAR)
    expected = np.zeros((4, 20, 20), bool)
    expected[2, 13:18] = True  # and a rim
    np.testing.assert_array_equal(hidden, expected)
    nobody = seen | {"asked": np.zeros_like(seen["asked"])}
    assert not occluded(**nobody, occluder=COLLAR).any()


def test_what_hangs_together_with_no_body_is_no_collar():
    """A shirt's colour on the chin is stubble, a shadow or noise, unless the shirt itself reaches it."""
    seen = cameras_of_skin()
    seen["colour"][2, 8:13, 5:15] = SHIRT
    assert not occluded(**seen, occluder=COLLAR).any()
    seen["colour"][2, 12:, 9:12] = SHIRT
    hidden = occluded(**seen, occluder=COLLAR)
    assert hidden[2, 8:13, 5:15].all()
    assert not hidden[[0, 1, 3]].any()


def test_a_beard_that_most_cameras_see_stays_on_the_face():
    seen = cameras_of_skin()
    seen["face"][:, 10:] = True
    seen["colour"][:, 12:, 11:13] = HOLE
    assert not occluded(**seen, occluder=COLLAR).any()
    seen["face"][:] = False
    assert occluded(**seen, occluder=COLLAR)[:, 13:18, 11:13].all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 1.2), st.booleans(), st.integers(0, 99))
def test_noise_makes_no_holes(level, on_the_face, seed):
    """Of skin as dark as 905's in the shadow of its own chin: a tenth of the pixels is 8 levels off."""
    seen = cameras_of_skin(level)
    rng = np.random.default_rng(seed)
    seen["colour"] = np.clip(seen["colour"] + 8 * (rng.random((4, 20, 20, 3)) < 0.1), 0, 255)
    seen["face"][:] = on_the_face
    assert occluded(**seen, occluder=COLLAR).mean() < 0.01


def test_over_white():
    colour, alpha = np.full((1, 4, 3), 60.0), np.array([[1, 1, 0.5, 0]])
    colour = colour * alpha[..., None]  # premultiplied
    target, own = over_white(colour, alpha, np.array([[1, 0.5, 1, 1]]))
    np.testing.assert_array_equal(target[0, :, 0], [60, 158, 158, 255])
    np.testing.assert_array_equal(own, [[255, 128, 128, 0]])


@pytest.fixture
def files(tmp_path) -> Path:
    """Frames of two cameras and two steps: a red ball on a blue stump, with buffers, rig and track."""
    other = replace(SOURCE, name="b")
    crops = [camera.crop(20, 10, 1, 56, 64) for camera in (other, SOURCE)]  # another order than the capture's
    write_rig(tmp_path / "cameras.json", Rig((SOURCE, other)))
    write_rig(tmp_path / "rig.json", Rig(tuple(crops)))
    rasterized = [rasterize(EmbreeRasterizer(), ball(), crops)] * 2
    neck = {"offset": -0.2, "tilt_degrees": 0.0}
    write_buffers(tmp_path / "buffers.zarr.zip", rasterized, (2, 2, 64, 56), {"neck": neck})
    rgb, alpha = np.full((2, 2, 80, 96, 3), 128, np.uint8), np.zeros((2, 2, 80, 96), np.uint8)
    x, y = np.meshgrid(np.arange(96) - 47.5, np.arange(80) - 39.5)
    person = (np.hypot(x, y) < 36) | ((y > 0) & (abs(x) < 20))
    alpha[..., person] = 255
    rgb[..., person, :] = np.where((y < 20)[person][:, None], [200, 0, 0], [0, 0, 200])
    rgb[:, 1, ..., 1] = 50  # the second camera is greener
    picture = ("time", "camera", "row", "column")
    arrays = {"rgb": Array(rgb, (*picture, "channel"), "sRGB", ""), "alpha": Array(alpha, picture, "1/255", "")}
    write_chunk(tmp_path / "frames.zarr.zip", arrays, {})
    poses = np.repeat(np.diag([4.0, 4, 4, 1])[None], 5, 0)
    write_chunk(tmp_path / "track.zarr.zip", {"head_from_world": Array(poses, ("time", "row", "column"), "", "")}, {})
    return tmp_path


def run_isolate(files: Path, start: int, stop: int) -> subprocess.CompletedProcess:
    command = ["stages.isolate", "--subject", "x", "--sequence", "a"]
    for name in ("frames", "buffers", "track"):
        command += [f"--{name}", str(files / f"{name}.zarr.zip")]
    command += ["--cameras", str(files / "cameras.json"), "--rig", str(files / "rig.json")]
    command += ["--start", str(start), "--stop", str(stop), "--output", str(files / "out.zarr.zip")]
    return in_process.run(*command)


def test_stage(files):
    done = run_isolate(files, 3, 5)
    assert done.returncode == 0, done.stderr
    rgb, alpha = read_arrays(files / "out.zarr.zip", "rgb", "alpha")
    assert rgb.shape == (2, 2, 64, 56, 3)
    np.testing.assert_array_equal(rgb[0], rgb[1])
    np.testing.assert_array_equal(rgb[:, :, 30, 28], [[[200, 50, 0], [200, 0, 0]]] * 2)  # cameras by name
    assert (alpha[:, :, 30, 28] == 255).all()
    assert (rgb[alpha == 0] == 255).all()
    blue = (rgb[..., 2].astype(int) > rgb[..., 0].astype(int) + 30) & (alpha > 128)
    assert not blue[:, :, 50:].any()  # the stump is gone
    assert alpha[:, :, 60:].max() == 0


def test_a_faint_face_of_a_smaller_camera(files):
    """Frames are padded to the largest camera; a face whose alpha is low is taken from them as it is."""
    write_rig(files / "cameras.json", Rig((SOURCE, replace(SOURCE, name="b", width=88, height=76))))
    rgb, alpha = read_arrays(files / "frames.zarr.zip", "rgb", "alpha")
    axes = ("time", "camera", "row", "column")
    arrays = {"rgb": Array(rgb, (*axes, "channel"), "sRGB", ""), "alpha": Array(alpha // 255 * 240, axes, "1/255", "")}
    write_chunk(files / "frames.zarr.zip", arrays, {})
    done = run_isolate(files, 3, 5)
    assert done.returncode == 0, done.stderr
    rgb, alpha = read_arrays(files / "out.zarr.zip", "rgb", "alpha")
    np.testing.assert_array_equal(rgb[:, :, 30, 28], [[[200, 50, 0], [200, 0, 0]]] * 2)
    assert (alpha[:, :, 30, 28] == 255).all()


@pytest.mark.parametrize(("span", "message"), [((0, 1), "expected 1"), ((4, 6), "5 steps; the span goes to step 6")])
def test_stage_names_what_does_not_fit(files, span, message):
    done = run_isolate(files, *span)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert not (files / "out.zarr.zip").exists()
