"""Rasterising: Embree against a z-buffer and against geometry, the buffers, and the command line."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import look_at
from pipeline.cameras.rig import Rig, write_rig
from pipeline.errors import DataError
from pipeline.mesh.mesh import Mesh, write_meshes
from pipeline.raster.backends.clip import clip_positions
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.backends.reference import ReferenceRasterizer
from pipeline.raster.backends.shade import shade
from pipeline.raster.buffers import rasterize, rasterize_coded
from pipeline.raster.coding import DEPTH_STEP, decode, encode, encode_all
from pipeline.raster.encode import encoded
from pipeline.raster.fragments import interpolate, resolve
from pipeline.store.chunk import read_arrays, read_attributes
from tests import in_process


def camera_at(eye, width=72, height=56, focal=150.0) -> Camera:
    """A camera that looks at the origin, its principal point off the middle."""
    intrinsics = np.array([[focal, 0, width / 2 + 1.3], [0, focal * 1.1, height / 2 - 2.1], [0, 0, 1]])
    pose = look_at(np.array(eye, float), np.zeros(3), np.array([0.1, 1, 0.2]))
    return Camera("camera", width, height, intrinsics, pose, np.eye(3))


def bumpy(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A ball of 0.1 m with bumps that hide one another."""
    ball = trimesh.creation.icosphere(3)
    rng = np.random.default_rng(seed)
    waves = np.sin(ball.vertices @ rng.normal(0, 6, (3, 4))).mean(1)
    return ball.vertices * (0.1 + 0.03 * waves[:, None]), ball.faces.astype(np.int32)


def assert_same_pixels(one, other, share: float) -> None:
    """Equal triangles but for `share` of the hits; equal weights and depths where equal."""
    different = one.triangle != other.triangle
    assert different.sum() <= share * other.hit.sum()
    same = ~different & other.hit
    np.testing.assert_allclose(one.barycentric[same], other.barycentric[same], atol=2e-3)
    error = np.abs(one.depth[same] - other.depth[same])
    assert np.median(error) < 1e-6
    assert error.max() < 1e-4  # metres; float32 weights on triangles seen edge-on
    assert (one.depth[~one.hit] == 0).all()
    assert (one.barycentric[~one.hit] == 0).all()


@settings(max_examples=8, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.3), st.integers(0, 99))
def test_embree_sees_what_the_reference_sees(direction, seed):
    camera = camera_at(0.6 * np.array(direction) / np.linalg.norm(direction))
    vertices, faces = bumpy(seed)
    embree, reference = (r.rasterize(vertices, faces, [camera])[0] for r in (EmbreeRasterizer(), ReferenceRasterizer()))
    assert reference.hit.sum() > 300
    assert_same_pixels(embree, reference, 0.01)


def test_interpolation_is_perspective_correct():
    vertices, faces = bumpy()
    camera = camera_at([0.2, 0.1, 0.3])
    (fragments,) = EmbreeRasterizer().rasterize(vertices, faces, [camera])
    world = interpolate(fragments, faces, vertices)
    expected = camera.centre + camera.rays() * fragments.depth[..., None]
    np.testing.assert_allclose(world[fragments.hit], expected[fragments.hit], atol=1e-6)
    assert (world[~fragments.hit] == 0).all()


def test_no_ray_slips_between_triangles():
    ball = trimesh.creation.icosphere(5)  # as many triangles as pixels
    camera = camera_at([0, 0, 3], 160, 160, 200.0)
    (fragments,) = EmbreeRasterizer().rasterize(np.asarray(ball.vertices), ball.faces, [camera])
    x, y = np.argwhere(fragments.hit).T
    filled = np.zeros_like(fragments.hit)
    for row in np.unique(x):
        filled[row, y[x == row].min() : y[x == row].max() + 1] = True
    np.testing.assert_array_equal(fragments.hit, filled)


def test_inside_of_an_open_surface_is_background():
    ball = trimesh.creation.icosphere(3)
    bowl = ball.faces[ball.triangles_center[:, 2] < 0.2].astype(np.int32)
    for rasterizer in (EmbreeRasterizer(), ReferenceRasterizer()):
        into, onto = rasterizer.rasterize(
            np.asarray(ball.vertices), bowl, [camera_at([0, 0, 4]), camera_at([0, 0, -4])]
        )
        assert not into.hit.any()
        assert onto.hit.any()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 30), st.integers(0, 20))
def test_a_crop_shows_the_same_pixels(left, top):
    vertices, faces = bumpy()
    camera = camera_at([0.1, -0.2, 0.5])
    crop = camera.crop(left, top, 1, 40, 30)
    whole, part = EmbreeRasterizer().rasterize(vertices, faces, [camera, crop])
    window = np.s_[top : top + 30, left : left + 40]
    assert (whole.triangle[window] != part.triangle).sum() <= 3  # float32 rays along shared edges


def test_clip_space_is_nvdiffrasts():
    vertices, _ = bumpy()
    camera = camera_at([0.1, -0.2, 0.5])
    turned = camera_at([-0.4, 0.2, 0.3])
    found = clip_positions(torch.from_numpy(vertices), [turned, camera], 64, 80)
    clip, in_camera = (part[1].numpy().astype(float) for part in found)
    device = clip[:, :3] / clip[:, 3:]
    pixels, depth = camera.project(vertices)
    # nvdiffrast puts the centre of pixel (column, row) at ((2 column + 1) / width - 1, (2 row + 1) / height - 1)
    np.testing.assert_allclose((device[:, :2] + 1) * np.array([80, 64]) / 2, pixels, atol=1e-3)
    assert (np.abs(device) < 1).all(where=[False, False, True])
    assert (np.argsort(device[:, 2]) == np.argsort(depth)).mean() > 0.98  # nearer is smaller
    np.testing.assert_allclose(clip[:, 3], depth, rtol=1e-6)
    np.testing.assert_allclose(in_camera[:, 2], depth, rtol=1e-6)
    np.testing.assert_allclose(
        in_camera @ camera.intrinsics.T / depth[:, None], np.c_[pixels, 0 * depth + 1], atol=1e-3
    )


def test_pictures_shaded_on_a_gpu_are_those_of_the_cpu():
    """`shade`, of what nvdiffrast would have seen of an open mesh, against `resolve` and `interpolate` in numpy."""
    vertices, faces = bumpy()
    faces = faces[len(faces) // 3 :]  # open: some rays first meet its inside
    cameras = [camera_at([0.1, -0.2, 0.5]), camera_at([-0.4, 0.2, 0.3])]
    attributes = np.concatenate([vertices, vertices**2], -1).astype(np.float32)
    closest = [nearest(vertices, faces, camera) for camera in cameras]  # inside or outside, as nvdiffrast
    raw = np.stack([np.dstack([weights[..., :2], 0 * triangle, triangle + 1]) for triangle, weights in closest])
    in_camera = [vertices @ c.camera_from_world[:3, :3].T + c.camera_from_world[:3, 3] for c in cameras]
    given = (np.asarray(raw, np.float32), np.asarray(in_camera, np.float32), faces, attributes)
    triangle, barycentric, depth, values = (part.numpy() for part in shade(*map(torch.from_numpy, given)))
    assert any((triangle[k] != closest[k][0]).any() for k in range(2))
    for place, camera in enumerate(cameras):
        expected = resolve(*closest[place], vertices, faces, camera)
        np.testing.assert_array_equal(triangle[place], expected.triangle)
        np.testing.assert_allclose(barycentric[place], expected.barycentric, atol=1e-6)
        np.testing.assert_allclose(depth[place], expected.depth, atol=1e-6)
        np.testing.assert_allclose(values[place], interpolate(expected, faces, attributes), atol=1e-6)


def nearest(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (h, w), -1 for none, and weights (h, w, 3) of what each ray meets first from either side, by Embree."""
    scene = EmbreeScene(robust=True)
    TriangleMesh(scene, vertices.astype(np.float32), np.ascontiguousarray(faces, np.int32))
    directions = camera.rays().reshape(-1, 3).astype(np.float32)
    origins = np.broadcast_to(camera.centre.astype(np.float32), directions.shape).copy()
    hits = scene.run(origins, directions, query="INTERSECT", output=1)
    size = (camera.height, camera.width)
    second, third = hits["u"].reshape(size), hits["v"].reshape(size)
    return hits["primID"].reshape(size), np.stack([1 - second - third, second, third], -1)


@pytest.mark.gpu
def test_nvdiffrast_is_there_for_the_gpu():
    assert find_spec("nvdiffrast"), "a GPU but no nvdiffrast: run envs/nvdiffrast.sh"


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA")
def test_the_recipe_of_nvdiffrast_says_what_it_misses():
    script = Path(__file__).parents[1] / "envs/nvdiffrast.sh"
    said = subprocess.run([script, sys.executable], capture_output=True, text=True)
    assert said.returncode == 1
    assert "a torch without CUDA; expected one with it" in said.stderr


@pytest.mark.gpu
def test_cuda_sees_what_embree_sees():
    pytest.importorskip("nvdiffrast", reason="envs/nvdiffrast.sh builds it")
    from pipeline.raster.backends.cuda import CudaRasterizer

    vertices, faces = bumpy()
    cameras = [camera_at([0.1, -0.2, 0.5]), camera_at([-0.4, 0.2, 0.3], 67, 53)]
    for gpu, cpu in zip(
        *(r.rasterize(vertices, faces, cameras) for r in (CudaRasterizer(), EmbreeRasterizer())), strict=True
    ):
        assert_same_pixels(gpu, cpu, 0.03)  # corners lie on sixteenths of a pixel there: 47 of 2772 on an H200


@pytest.mark.gpu
def test_pictures_coded_on_the_gpu_are_those_coded_on_the_cpu():
    pytest.importorskip("nvdiffrast", reason="envs/nvdiffrast.sh builds it")
    from pipeline.raster.backends.cuda import CudaRasterizer

    rasterizer, mesh = CudaRasterizer(), ball_mesh()
    cameras = [camera_at([0.1, -0.2, 0.5], 67, 53), camera_at([-0.4, 0.2, 0.3], 67, 53)]
    rasterized, coded = rasterize(rasterizer, mesh, cameras), rasterize_coded(rasterizer, mesh, cameras)
    expected = encode_all(rasterized["depth"], rasterized["normals"], rasterized["x_can"])
    for name, pictures in coded.items():  # lengths of normals may be rounded another way
        assert pictures.dtype == expected[name].dtype
        assert np.abs(pictures.astype(int) - expected[name]).max() <= (name == "surface"), name


def ball_mesh() -> Mesh:
    """A ball of 0.1 m whose canonical coordinates are its places in head units."""
    ball = trimesh.creation.icosphere(3, radius=0.1)
    vertices = ball.vertices.astype(np.float32)
    hyper = np.full((len(vertices), 2), 0.05, np.float32)
    return Mesh(vertices, np.concatenate([4 * vertices, hyper], -1), ball.faces.astype(np.int32))


def test_buffers_of_a_ball():
    cameras = [camera_at([0, 0, 0.5]), camera_at([0.4, 0.2, 0.3])]
    rasterized = rasterize(EmbreeRasterizer(), ball_mesh(), cameras)
    hit = rasterized["mask"]
    assert hit.dtype == bool
    for name in ("depth", "normals", "x_can"):
        assert (rasterized[name][~hit] == 0).all()
    normals = rasterized["normals"][hit].astype(float)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-3)
    world = rasterized["x_can"][hit][:, :3] / 4
    np.testing.assert_allclose(normals, world / np.linalg.norm(world, axis=-1, keepdims=True), atol=0.02)
    np.testing.assert_allclose(rasterized["x_can"][hit][:, 3:], 0.05, atol=1e-6)
    for index, camera in enumerate(cameras):
        expected = camera.centre + camera.rays() * rasterized["depth"][index][..., None]
        np.testing.assert_allclose(rasterized["x_can"][index][..., :3][hit[index]] / 4, expected[hit[index]], atol=1e-5)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.001, 0.2, 1.5]))
def test_what_is_stored_is_near_what_was_rasterised(seed: int, spread: float) -> None:
    """At most a tenth of a texel (512 over the bounds; hyper: over the least spread), 0.1 degree, 0.05 mm."""
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((9, 7, 3)) * rng.choice([1, 1e-6], 3)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    x_can = rng.uniform(-1, 1, (9, 7, 5)) * [1, 1, 1.5, spread, spread]
    depth = np.where(rng.random((9, 7)) < 0.7, rng.uniform(0.2, 3, (9, 7)), 0)
    stored = encode(depth, normals, x_can)
    found = decode(stored.__getitem__)
    hit = depth > 0
    np.testing.assert_array_equal(found["mask"], hit)
    assert all((found[name][~hit] == 0).all() for name in ("depth", "normals", "x_can"))
    assert np.abs(found["depth"] - depth).max() < 0.51e-4
    off = np.abs(found["x_can"] - x_can)[hit]
    assert off[:, :3].max(initial=0) < 0.1 * 2 / 512
    assert off[:, 3:].max(initial=0) < 0.1 * (2e-3 / 512) + 1e-7 * spread  # and what float32 itself is off
    there = encoded(*(torch.from_numpy(np.stack([part, part[::-1]])) for part in (depth, normals, x_can)))
    for name, coded in stored.items():
        assert there[name].dtype == coded.dtype
        np.testing.assert_array_equal(there[name][0], coded, err_msg=name)
        np.testing.assert_array_equal(there[name][1], coded[..., ::-1, :], err_msg=name)
    apart = np.linalg.norm(np.cross(found["normals"], normals), axis=-1)[hit]
    assert np.degrees(apart.max(initial=0)) < 0.1
    assert ((found["normals"] * normals).sum(-1)[hit] > 0).all()


def test_what_does_not_fit_the_coding_is_refused():
    x_can = np.zeros((2, 2, 5))
    with pytest.raises(DataError, match=r"depth of 7 in the buffers; expected 0 to 6\.5535"):
        encode(np.full((2, 2), 7.0), x_can[..., :3], x_can)
    with pytest.raises(DataError, match=r"hyper of -5000 in the buffers; expected -1024 to 1024"):
        encoded(
            *(
                torch.from_numpy(part)[None]
                for part in (x_can[..., 0], x_can[..., :3], np.concatenate([x_can[..., :3], x_can[..., 3:] - 5000], -1))
            )
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with meshes of three steps, a still rig and a moving one."""
    folder, ball = tmp_path_factory.mktemp("raster"), ball_mesh()
    meshes = [Mesh(ball.vertices * (1 - 0.1 * t), ball.x_can, ball.faces) for t in range(3)]
    for name, chosen in (("all", meshes), ("last", meshes[2:])):
        write_meshes(folder / f"{name}.zarr.zip", chosen, {"neck": {"offset": -0.3, "tilt_degrees": 9.0}})
    cameras = [camera_at([0, 0, 0.5 + 0.1 * i], 32, 48) for i in range(3)]
    write_rig(folder / "still.json", Rig(tuple(cameras[:2])))
    write_rig(folder / "moving.json", Rig(tuple(cameras), moving=True))
    return folder


def run_rasterize(
    files: Path, meshes: str, rig: str, start: int, stop: int, output: Path, *more: str
) -> subprocess.CompletedProcess:
    command = ["stages.rasterize", *more, "--meshes", str(files / meshes)]
    command += ["--rig", str(files / rig), "--subject", "x", "--sequence", "a"]
    command += ["--start", str(start), "--stop", str(stop), "--output", str(output)]
    return in_process.run(*command)


@pytest.mark.parametrize(("rig", "cameras"), [("still.json", 2), ("moving.json", 1)])
def test_stage_whatever_the_span(files, tmp_path, rig, cameras):
    whole, part = tmp_path / "whole.zarr.zip", tmp_path / "part.zarr.zip"
    for meshes, span, output in (("all.zarr.zip", (0, 3), whole), ("last.zarr.zip", (2, 3), part)):
        done = run_rasterize(files, meshes, rig, *span, output)
        assert done.returncode == 0, done.stderr
    for name, channels in (("depth", ()), ("surface", (5,)), ("hyper", (2,))):
        (of_whole,), (of_part,) = read_arrays(whole, name), read_arrays(part, name)
        assert of_whole.shape == (3, cameras, *channels, 48, 32)
        np.testing.assert_array_equal(of_whole[2:], of_part)
    if rig == "moving.json":  # a camera that moves back sees the nearest point farther away
        nearest = read_arrays(whole, "depth")[0].max((1, 2, 3)).astype(int)
        assert (np.diff(nearest) > 0.05 / DEPTH_STEP).all()
    assert read_attributes(whole)["neck"]["offset"] == -0.3


@pytest.mark.parametrize(
    ("rig", "span", "message"),
    [("still.json", (0, 2), "3 meshes; expected 2"), ("moving.json", (1, 4), "3 cameras; the span goes to step 4")],
)
def test_stage_names_what_does_not_fit(files, tmp_path, rig, span, message):
    done = run_rasterize(files, "all.zarr.zip", rig, *span, tmp_path / "out.zarr.zip")
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("nvdiffrast") is not None, reason="nvdiffrast is installed")
def test_a_missing_backend_is_named_and_never_replaced(files, tmp_path):
    more = ["--settings", '{"backend": "nvdiffrast"}']
    done = run_rasterize(files, "all.zarr.zip", "still.json", 0, 3, tmp_path / "out.zarr.zip", *more)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "rasterize.backend is nvdiffrast, which is not installed; envs/nvdiffrast.sh builds it" in line
