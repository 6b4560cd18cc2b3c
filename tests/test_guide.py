"""A fitted head that guides the matching: found at its landmarks or not at all, heeded where it is near, and of use."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from pipeline.cameras.rig import Rig, write_rig
from pipeline.head.fit.alignment import rough_head
from pipeline.head.fit.least_squares.residuals import Heads
from pipeline.head.model import pose
from pipeline.head.model.face import HAIRLINE, on_face
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.stereo.depth_maps import depth
from pipeline.stereo.depth_maps.consistency import unproject
from pipeline.store.chunk import Array, read_arrays, write_chunk
from tests import in_process
from tests.fit_capture import head_mesh, write_landmarks
from tests.fit_data import SCALE, WEIGHTS, cloud, facing_pose, posed_landmarks, rig_in_front

pytestmark = pytest.mark.usefixtures("one_thread")
WAVES = np.random.default_rng(5).normal(size=(3, 40)) * 150  # per metre
FAINT = 1.2  # levels of a wave: the texture hardly stands out of the noise
COVERED = 2e-3  # metres


@pytest.fixture(scope="module")
def prior() -> HeadPrior:
    return load_prior(WEIGHTS)


@pytest.fixture(scope="module")
def truth(prior) -> Heads:
    rng = np.random.default_rng(3)
    identity = 0.8 * rng.normal(size=prior.config.identity_modes)
    return Heads(identity, 0.5 * rng.normal(size=(1, prior.config.expression_modes)), facing_pose()[None])


@pytest.fixture(scope="module")
def rig() -> Rig:
    """Five cameras in each of three rows, 23 degrees apart."""
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("y", -0.4).as_matrix()
    between = [camera for number, camera in enumerate(rig_in_front(turned).cameras) if number % 3]
    cameras = (*rig_in_front(np.eye(4)).cameras, *between)
    return Rig(tuple(replace(camera, name=f"c{number}") for number, camera in enumerate(cameras)))


def off_mm(prior: HeadPrior, heads: Heads, points: np.ndarray) -> float:
    """Median distance of points (N, 3), world, to the surface of a head."""
    with torch.no_grad():
        z_id, z_exp = prior.z_id_from(prior.tensor(heads.identity)), prior.z_exp_from(prior.tensor(heads.expression))
        x = prior.tensor(pose.apply(heads.head_from_world[0], points))
        distance = prior.sdf(prior.warp(x, z_id, z_exp[0]), z_id)
    return float(distance.abs().median()) * 1e3 / SCALE


def test_a_noisy_cloud_and_landmarks_give_the_head(prior, truth):
    rng = np.random.default_rng(0)
    exact = cloud(prior, truth.identity, truth.expression[0], facing_pose(), 2000, 0)[0]
    noisy = cloud(prior, truth.identity, truth.expression[0], facing_pose(), 4000, 1, noise_mm=1.5, clutter=0.2)
    landmarks = posed_landmarks(prior, truth)[0] + rng.normal(0, 2e-3, (51, 3))
    found = rough_head(prior, *noisy, landmarks)
    assert found is not None
    assert off_mm(prior, found, exact) < 1.0
    mean = Heads(np.zeros_like(truth.identity), np.zeros_like(truth.expression), truth.head_from_world)
    assert off_mm(prior, mean, exact) > 1.5  # it is no average head


def test_no_head_where_landmarks_are_few_or_elsewhere(prior, truth):
    points, normals = cloud(prior, truth.identity, truth.expression[0], facing_pose(), 2000, 0)
    landmarks = posed_landmarks(prior, truth)[0]
    few = landmarks.copy()
    few[8:] = np.nan
    assert rough_head(prior, points, normals, few) is None
    assert rough_head(prior, points, normals, landmarks + np.array([0, 0, 5.0])) is None
    assert rough_head(prior, points, normals, landmarks @ np.diag([1.0, -1, -1]) + np.array([0.1, 0, 0])) is None


def photograph(rig: Rig, prior: HeadPrior, truth: Heads) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (C, h, w, 3) and alpha (C, h, w), uint8, of a head with a faint texture painted in space."""
    mesh = head_mesh(prior, truth, 0, 4)
    rgb, alpha = [], []
    for number, (camera, seen) in enumerate(
        zip(rig.cameras, EmbreeRasterizer().rasterize(mesh.vertices, mesh.faces, rig.cameras), strict=True)
    ):
        waves = np.sin(unproject(camera, np.where(seen.hit, seen.depth, 1)) @ WAVES + np.arange(40)).sum(-1)
        color = 120 + FAINT * waves[..., None] * [1.0, 0.8, 0.6]
        noise = np.random.default_rng(number).normal(0, 2.5, color.shape)
        rgb.append(np.where(seen.hit[..., None], color + noise, 200).clip(0, 255).astype(np.uint8))
        alpha.append(255 * seen.hit.astype(np.uint8))
    return np.stack(rgb), np.stack(alpha)


@pytest.fixture(scope="module")
def capture(tmp_path_factory, prior, truth, rig) -> Path:
    """A folder with frames of one step, cameras, and landmarks, known and unknown."""
    folder = tmp_path_factory.mktemp("guide")
    rgb, alpha = photograph(rig, prior, truth)
    axes = ("time", "camera", "row", "column", "channel")
    arrays = {"rgb": Array(rgb[None], axes, "sRGB", ""), "alpha": Array(alpha[None], axes[:4], "1/255", "")}
    write_chunk(folder / "frames.zarr.zip", arrays, {})
    write_rig(folder / "cameras.json", rig)
    landmarks = posed_landmarks(prior, truth)
    write_landmarks(folder / "known.zarr.zip", "SMILE", landmarks)
    points, views = read_arrays(folder / "known.zarr.zip", "points", "views")
    unknown = {
        "points": Array(0 * points, ("time", "landmark", "xyz"), "m", "world"),
        "views": Array(0 * views, ("time", "landmark"), "1", "cameras that agree"),
    }
    write_chunk(folder / "unknown.zarr.zip", unknown, {"sequence": "SMILE"})
    return folder


def stage_cloud(folder: Path, name: str, *more: str) -> np.ndarray:
    """The points that the stage writes with the options `more`."""
    output = folder / f"{name}.zarr.zip"
    command = ["stages.pointcloud", "--subject", "x", "--sequence", "SMILE", "--start", "0", "--stop", "1"]
    files = ["--cameras", folder / "cameras.json", "--frames", folder / "frames.zarr.zip", "--output", output]
    done = in_process.run(*command, *files, "--prior", WEIGHTS, *more)
    assert done.returncode == 0, done.stderr
    return read_arrays(output, "points")[0]


def test_a_guided_cloud_covers_more_of_a_face_without_texture(capture, prior, truth):
    mesh = head_mesh(prior, truth, 0, 4)
    face = mesh.vertices[on_face(mesh.x_can, HAIRLINE) & (mesh.x_can[:, 1] > -0.3)]
    plain = stage_cloud(capture, "plain")
    guided = stage_cloud(capture, "guided", "--landmarks", str(capture / "known.zarr.zip"))
    covered = [float((KDTree(points).query(face)[0] < COVERED).mean()) for points in (plain, guided)]
    assert covered[1] > covered[0] + 0.05
    off = stage_cloud(capture, "off", "--settings", '{"guided": false}', "--landmarks", str(capture / "known.zarr.zip"))
    np.testing.assert_array_equal(off, plain)
    unknown = stage_cloud(capture, "unknown_", "--landmarks", str(capture / "unknown.zarr.zip"))
    np.testing.assert_array_equal(unknown, plain)


def test_a_guide_is_asked_once_and_heeded_where_it_is_near(capture, rig):
    rgb, alpha = (part[0] for part in read_arrays(capture / "frames.zarr.zip", "rgb", "alpha"))
    asked = []

    def far(points, normals, cameras):
        asked.append((points, normals, cameras))
        return [np.full((camera.height, camera.width), 0.3, np.float32) for camera in cameras]

    maps = depth.depth_maps(rgb, alpha, rig.cameras, 6, 5, 0.0)
    same = depth.depth_maps(rgb, alpha, rig.cameras, 6, 5, 0.0, far)
    np.testing.assert_array_equal(maps.depths, same.depths)
    ((points, normals, cameras),) = asked
    assert [camera.name for camera in cameras] == [camera.name for camera in rig.cameras]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    assert len(points) > 5000
