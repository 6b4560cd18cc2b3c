"""Point clouds: matching against references, COLMAP's cameras, files and fusion, a textured ball from end to end."""

import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig, write_rig
from pipeline.errors import DataError
from pipeline.evenly import evenly
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stereo import cloud as clouds
from pipeline.stereo import colmap, fusion
from pipeline.stereo.depth_maps import consistency, correlation, hull, matching
from pipeline.stereo.depth_maps.depth import DepthMaps, _guided, depth_maps
from pipeline.stereo.depth_maps.views import GREY, demanded, make_views, matte, neighbour_from_reference, neighbours
from pipeline.store.chunk import Array, read_arrays, write_chunk
from tests import in_process
from tests.fit_data import WEIGHTS

CENTRE, RADIUS = np.array([0.3, -0.2, 0.5]), 0.09
WIDTH, HEIGHT, FOCAL = 128, 144, 480.0
FOOTPRINT = 1 / FOCAL  # metres that a pixel covers at the ball
WAVES = np.random.default_rng(5).normal(size=(3, 60)) * 160  # per metre


def look_at(centre: np.ndarray, target: np.ndarray, name: str = "a") -> Camera:
    """A camera at `centre` that looks at `target`, both (3,) world metres."""
    front = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(front, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(front, right), front])
    pose[:3, 3] = -pose[:3, :3] @ centre
    intrinsics = np.array([[FOCAL, 0, WIDTH / 2 + 1.3], [0, FOCAL, HEIGHT / 2 - 0.7], [0, 0, 1]])
    return Camera(name, WIDTH, HEIGHT, intrinsics, pose, np.eye(3))


def ring() -> tuple[Camera, ...]:
    """Seven cameras a metre from the ball, 15 degrees apart, on alternating heights."""
    found = []
    for number, degrees in enumerate(range(-45, 46, 15)):
        angle, lift = np.radians(degrees), 0.12 * (-1) ** number
        found.append(look_at(CENTRE + np.array([np.sin(angle), lift, np.cos(angle)]), CENTRE, f"c{number}"))
    return tuple(found)


def ball_depth(camera: Camera) -> np.ndarray:
    """Exact depth (h, w) along z of the ball, NaN beside it."""
    rays, offset = camera.rays(), camera.centre - CENTRE
    a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - RADIUS**2
    with np.errstate(invalid="ignore"):
        return (-b - np.sqrt(b**2 - a * c)) / a


def photograph(camera: Camera, moved: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Picture (h, w, 3) and alpha (h, w), uint8, of the ball with a texture painted in space."""
    depth = ball_depth(camera)
    points = consistency.unproject(camera, np.nan_to_num(depth)) - CENTRE
    waves = np.sin((points + moved) @ WAVES + np.arange(60)).sum(-1) * 9
    color = np.clip(120 + waves[..., None] * [1.0, 0.8, 0.6], 0, 255)
    noise = np.random.default_rng(len(camera.name)).normal(0, 1.5, color.shape)
    person = np.isfinite(depth)
    return np.where(person[..., None], color + noise, 200).clip(0, 255).astype(np.uint8), person.astype(np.uint8) * 255


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, tuple[Camera, ...]]:
    """Pictures (C, h, w, 3), alpha (C, h, w) and cameras of the ball."""
    cameras = ring()
    rgb, alpha = zip(*(photograph(camera) for camera in cameras), strict=True)
    return np.stack(rgb), np.stack(alpha), cameras


@pytest.fixture(scope="module")
def cloud(scene) -> clouds.Cloud:
    return clouds.point_cloud(*scene, PointcloudSettings())


def reference_score(reference, warped, person, size):
    """ZNCC of every window by loops, with the noise term of the library."""
    half, (h, w) = size // 2, reference.shape
    result = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            window = np.s_[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
            inside = person[window]
            if not inside.any():
                continue
            a, b = reference[window][inside], warped[window][inside]
            covariance = ((a - a.mean()) * (b - b.mean())).mean()
            result[y, x] = covariance / np.sqrt(
                (a.var() + correlation.NOISE_VARIANCE) * (b.var() + correlation.NOISE_VARIANCE)
            )
    return result


@pytest.mark.parametrize("size", [3, 7])
def test_score_is_that_of_the_reference(size):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 15, 18)).astype(np.float32)
    person = rng.random((15, 18)) > 0.3
    fast = score_in_place(a, b, person, size)
    np.testing.assert_allclose(fast[person], reference_score(a, b, person, size)[person], atol=5e-4)  # sums in float32
    assert (fast[:, :-1][~person[:, :-1]] >= -1).all()


def score_in_place(reference, other, person, size):
    """Scores (h, w) with a neighbour's picture that is not warped."""
    nowhere = np.eye(3), np.zeros(3)
    windows = correlation.Windows(reference, person, size)
    return windows.scores([other], [nowhere], np.ones(reference.shape, np.float32), np.zeros(1))[0, 0]


def reference_warp(picture, way, depth):
    """A neighbour's picture as the reference sees it, pixel by pixel, edges repeated."""
    result = np.zeros(depth.shape, np.float32)
    for (y, x), z in np.ndenumerate(depth):
        u, v, w = z * way[0] @ [x + 0.5, y + 0.5, 1] + way[1]
        u, v = (np.clip(place / w - 0.5, 0, size - 1) for place, size in zip((u, v), picture.shape[::-1], strict=True))
        left, top = min(int(u), picture.shape[1] - 2), min(int(v), picture.shape[0] - 2)
        across = [1 - (u - left), u - left]
        result[y, x] = [1 - (v - top), v - top] @ picture[top : top + 2, left : left + 2] @ across
    return result


def test_scores_along_the_rays_are_those_of_a_warped_picture():
    rng = np.random.default_rng(1)
    cameras = [camera.crop(48, 56, 1, width, 20) for camera, width in zip(ring()[2:4], (24, 30), strict=True)]
    a, b = (rng.random((camera.height, camera.width)).astype(np.float32) for camera in cameras)
    person = np.zeros(a.shape, bool)
    person[3:, 2:-5] = rng.random((17, 17)) > 0.2
    person[9] = False
    depth = (0.9 + 0.05 * rng.random(a.shape)).astype(np.float32)
    offsets, way = np.array([-0.02, 0.0, 0.3]), neighbour_from_reference(*cameras)
    fast = correlation.Windows(a, person, 5).scores([b], [way], depth, offsets)[0]
    for found, offset in zip(fast, offsets, strict=True):
        expected = reference_score(a, reference_warp(b, way, depth + offset), person, 5)
        np.testing.assert_allclose(found[person], expected[person], atol=2e-3)  # places in float32


@given(gain=st.floats(0.3, 2), offset=st.floats(-0.3, 0.3), seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_score_ignores_brightness_and_contrast(gain, offset, seed):
    a = np.random.default_rng(seed).random((20, 20)).astype(np.float32)
    score = score_in_place(a, np.float32(gain) * a + np.float32(offset), np.ones(a.shape, bool), 7)
    assert score.min() > 0.97


@given(top=st.floats(1.05, 6.95), width=st.floats(0.05, 1))
@settings(max_examples=50, deadline=None)
def test_peak_of_a_parabola_is_exact(top, width):
    volume = (-width * (np.arange(9)[:, None, None] - top) ** 2).astype(np.float32)
    nothing = np.zeros((1, 1), np.float32)
    index, precision = correlation.peak(volume, nothing, nothing, correlation.spans(np.ones((1, 1), bool)), 3.0)
    assert index[0, 0] == pytest.approx(top, abs=0.02)
    assert precision[0, 0] == pytest.approx(2 * width, rel=1e-3)


@given(st.integers(1, 7), st.integers(3, 6), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_evidence_and_its_peak_are_those_of_loops(count, offsets, seed):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-1, 1, (count, offsets, 4, 9)).astype(np.float32)
    person = rng.random((4, 9)) > 0.4
    prior, precision = rng.uniform(0, offsets, (4, 9)).astype(np.float32), rng.random((4, 9)).astype(np.float32)
    spans = correlation.spans(person)
    nats = np.zeros(scores.shape[1:], np.float32)
    for one in scores:
        correlation.evidence(one, spans, nats)
    places, _ = correlation.peak(nats, prior, precision, spans, 2.0)
    for y, x in zip(*np.nonzero(person), strict=True):
        square = np.maximum(scores[:, :, y, x].astype(float), 0) ** 2
        expected = (0.5 * square / (1 - 0.6 * square)).sum(0)
        np.testing.assert_allclose(nats[:, y, x], expected, rtol=1e-5, atol=1e-6)
        cost = 0.5 * precision[y, x] * (np.arange(offsets) - prior[y, x]) ** 2
        highest = np.argmax(expected - 2 * cost / (cost + 2))
        assert abs(places[y, x] - highest) <= 1
        if highest in (0, offsets - 1):
            assert places[y, x] == highest


def test_evidence_is_nearly_a_logarithm():
    scores = np.linspace(0, 0.95, 30, dtype=np.float32)[None, :, None, None]
    nats = np.zeros(scores.shape[1:], np.float32)
    correlation.evidence(scores[0], correlation.spans(np.ones((1, 1), bool)), nats)
    nats = nats[:, 0, 0]
    np.testing.assert_allclose(nats, -np.log(1 - scores[0, :, 0, 0] ** 2) / 2, rtol=1 / 6)
    np.testing.assert_allclose(matching.mean_correlation(nats), scores[0, :, 0, 0], atol=1e-6)


def test_what_a_pixel_cannot_tell_those_around_it_do():
    """Noise of little evidence round one offset, and amid it one pixel that is sure of another."""
    rng, offsets = np.random.default_rng(0), np.arange(7)[:, None, None]
    nats = (rng.random((7, 31, 31)) * 0.01).astype(np.float32)
    nats += np.float32(0.003) * np.exp(-0.5 * (offsets - 4.0) ** 2).astype(np.float32)
    nats[:, 15, 15] = 1.5 * np.exp(-0.5 * (offsets[:, 0, 0] - 2.0) ** 2)
    spans = correlation.spans(np.ones((31, 31), bool))
    alone, _ = matching.settle(nats, spans, 5, ())
    together, precision = matching.settle(nats, spans, 5, ((21, 0.5), (9, 0.3)))
    around = np.ones((31, 31), bool)
    around[11:20, 11:20] = False
    assert np.median(np.abs(alone[around] - 4)) > 0.8
    assert np.median(np.abs(together[around] - 4)) < 0.25
    assert together[15, 15] == pytest.approx(2, abs=0.15)
    assert precision[15, 15] > 3 * np.median(precision)


@pytest.mark.parametrize("skin", [(52, 34, 26), (200, 150, 125)])
def test_a_highlight_on_skin_changes_nothing(skin):
    """White light added to linear colours, dark and light; and a blue shirt beside it stays as it is."""
    rows, columns = np.mgrid[:60, :60]
    texture = 1 + 0.2 * np.sin(rows / 3) * np.cos(columns / 2)
    linear = (np.array(skin) / 255) ** 2.2 * texture[..., None]
    linear[:, 40:] = np.array([0.03, 0.08, 0.3])
    white = 0.05 * np.exp(-((rows - 30) ** 2 + (columns - 20) ** 2) / (2 * 8**2))
    plain, shining = (
        np.round(255 * part ** (1 / 2.2)).astype(np.uint8) for part in (linear, linear + white[..., None])
    )
    person = np.ones((60, 60), bool)
    with_and_without = [matte(part, person) for part in (shining, plain)]
    seen = np.abs((shining.astype(float) - plain) @ GREY / 255)[:, :36]
    left = np.abs(with_and_without[0] - with_and_without[1])[:, :36]
    assert left.max() < 0.3 * seen.max()
    assert left.mean() < 0.2 * seen.mean()
    np.testing.assert_allclose(with_and_without[1][:, 45:], plain[:, 45:] @ GREY / 255, atol=1e-3)


def test_strong_highlights_leave_no_edges_and_weak_shine_takes_no_texture():
    """A highlight as narrow as those on 905's chin, as a video's half-size colours show it; and skin that hardly shines
    keeps its texture, of which the colours of a video know nothing."""
    rows, columns = np.mgrid[:64, :64]
    skin = (np.array((90, 60, 45)) / 255) ** 2.2
    white = np.exp(-((rows - 32) ** 2 + (columns - 32) ** 2) / (2 * 2.5**2))[..., None]
    person = np.ones((64, 64), bool)

    def as_video(linear):
        planes = cv2.split(cv2.cvtColor(np.round(255 * linear ** (1 / 2.2)).astype(np.uint8), cv2.COLOR_RGB2YCrCb))
        luma, *colours = planes
        colours = [cv2.resize(cv2.resize(c, (32, 32), interpolation=cv2.INTER_AREA), (64, 64)) for c in colours]
        return cv2.cvtColor(cv2.merge([luma, *colours]), cv2.COLOR_YCrCb2RGB)

    plain, shining = (as_video(np.broadcast_to(skin, (64, 64, 3)) + part * white) for part in (0, 0.1))
    seen = (shining.astype(float) - plain) @ GREY / 255
    left = matte(shining, person) - matte(plain, person)
    assert np.abs(left).max() < 0.22 * seen.max()
    textured = as_video(skin * (1 + 0.15 * np.sin(1.5 * rows) * np.sin(1.5 * columns))[..., None])
    kept, luma = matte(textured, person)[8:-8, 8:-8], (textured @ GREY / 255)[8:-8, 8:-8]
    assert kept.std() > 0.97 * luma.std()


@given(st.integers(2, 7), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_better_half_is_the_mean_of_the_highest(count, seed):
    scores = np.random.default_rng(seed).uniform(-1, 1, (count, 3, 4)).astype(np.float32)
    expected = np.sort(scores, axis=0)[count // 2 :].mean(0)
    np.testing.assert_allclose(matching._better_half(scores), expected, atol=1e-6)


@given(st.tuples(*[st.floats(-1, 1)] * 6), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_colmap_projects_as_we_do(numbers, seed):
    offset = np.array(numbers[:3])
    camera = look_at(CENTRE + offset + [0, 0, 3], CENTRE + np.array(numbers[3:]) * 0.1)
    image = colmap.reconstruction([camera]).image(1)
    for point in CENTRE + np.random.default_rng(seed).uniform(-0.2, 0.2, (5, 3)):
        np.testing.assert_allclose(image.project_point(point), camera.project(point)[0], atol=1e-6)


def test_cameras_and_tracks_survive_colmap_files(tmp_path):
    cameras = ring()
    points = CENTRE + np.random.default_rng(0).normal(0, 0.05, (30, 3))
    seen_by = np.random.default_rng(1).random((30, len(cameras))) > 0.4
    model = colmap.reconstruction(cameras)
    colmap.add_points(model, cameras, points, seen_by)
    model.write(tmp_path)
    read = pycolmap.Reconstruction(tmp_path)
    for number, camera in enumerate(cameras, start=1):
        image = read.image(number)
        assert image.name == f"{camera.name}.png"
        np.testing.assert_allclose(image.cam_from_world().matrix(), camera.camera_from_world[:3], atol=1e-12)
        np.testing.assert_allclose(read.camera(number).calibration_matrix(), camera.intrinsics, atol=1e-12)
        assert image.num_points3D == seen_by[:, number - 1].sum()
    assert sorted(point.track.length() for point in read.points3D.values()) == sorted(seen_by.sum(1))


def test_the_hull_alone_is_enough_for_colmap_to_fuse(tmp_path, scene, cloud):
    """As for COLMAP's patch match, which needs a GPU: here the depth maps are put in its place."""
    rgb, alpha, cameras = scene
    points, seen_by, (near, far) = clouds.hull_points(make_views(rgb, alpha, cameras, 1))
    exact = np.stack([ball_depth(camera) for camera in cameras])
    assert np.nanmin(exact) - 4 * RADIUS < near < np.nanmin(exact)
    assert np.nanmax(exact) < far < np.nanmax(exact) + 4 * RADIUS
    some = evenly(len(points), clouds.TIE_POINTS)
    colmap.write_workspace(tmp_path, rgb, cameras, points[some], seen_by[some])
    colmap.name_sources(tmp_path, cameras, neighbours(cameras, 4))
    sources = (tmp_path / "stereo/patch-match.cfg").read_text().splitlines()
    assert sources[:2] == ["c0.png", "c1.png, c2.png, c3.png"]
    assert len(sources) == 2 * len(cameras)
    maps = depth_maps(*scene, 4, 7, 0.1)
    normals = np.stack([clouds.camera_normals(camera, d) for camera, d in zip(cameras, maps.depths, strict=True)])
    write_maps(tmp_path, cameras, np.where(maps.confirmed(3), maps.depths, 0), normals)
    fused, _, _ = colmap.fuse(tmp_path, 3, 0.004)
    assert len(fused) > 0.95 * len(cloud.points)


def test_fusion_is_that_of_colmap(tmp_path, scene):
    """On depth maps with noise: as many points, as near to the ball, the same normals and colours."""
    rgb, alpha, cameras = scene
    rng = np.random.default_rng(3)
    exact = np.stack([ball_depth(camera) for camera in cameras])
    depths = np.nan_to_num(exact + rng.normal(0, 0.3 * FOOTPRINT, exact.shape)).astype(np.float32)
    depths[rng.random(depths.shape) < 0.1] = 0
    normals = np.stack(
        [clouds.camera_normals(camera, np.nan_to_num(d, nan=1)) for camera, d in zip(cameras, exact, strict=True)]
    )
    points, seen_by, _ = clouds.hull_points(make_views(rgb, alpha, cameras, 1))
    some = evenly(len(points), clouds.TIE_POINTS)
    colmap.write_workspace(tmp_path, rgb, cameras, points[some], seen_by[some])
    write_maps(tmp_path, cameras, depths, normals)
    expected, found = colmap.fuse(tmp_path, 3, 0.004), fusion.fuse(depths, normals, rgb, cameras, 3, 0.004)
    assert len(found[0]) == pytest.approx(len(expected[0]), rel=0.05)
    errors = [np.abs(np.linalg.norm(points - CENTRE, axis=1) - RADIUS) for points, _, _ in (expected, found)]
    assert np.median(errors[1]) < 1.05 * np.median(errors[0])
    assert np.percentile(errors[1], 95) < 1.05 * np.percentile(errors[0], 95)
    near, nearest = KDTree(expected[0]).query(found[0])
    assert np.median(near) < FOOTPRINT
    assert np.median((found[1] * expected[1][nearest]).sum(1)) > np.cos(np.radians(3))
    assert np.abs(found[2].astype(float) - expected[2][nearest]).mean() < 6


def write_maps(folder: Path, cameras: tuple[Camera, ...], depths: np.ndarray, normals: np.ndarray) -> None:
    """Write each camera's depths (H, W), 0 where unknown, and camera-frame normals (H, W, 3) as COLMAP's dense maps."""
    for camera, depth, normal in zip(cameras, depths, normals, strict=True):
        name = f"{camera.name}.png.geometric.bin"
        near, far = float(depth[depth > 0].min(initial=np.inf)), float(depth.max())
        depth_map = pycolmap.DepthMap.from_array(np.ascontiguousarray(depth, np.float32), min(near, far), far)
        depth_map.write(folder / "stereo" / "depth_maps" / name)
        # COLMAP stores channel after channel; pycolmap 4.2.1's NormalMap.from_array copies pixel after pixel instead.
        planes = np.moveaxis(normal, -1, 0).astype("<f4")
        header = f"{camera.width}&{camera.height}&3&".encode()
        (folder / "stereo" / "normal_maps" / name).write_bytes(header + planes.tobytes())


@pytest.mark.skipif(pycolmap.has_cuda, reason="this pycolmap has CUDA")
def test_a_colmap_without_cuda_is_named_and_never_replaced(tmp_path, scene):
    write_frames(tmp_path / "frames.zarr.zip", scene[2], (0.0,))
    write_rig(tmp_path / "cameras.json", Rig(scene[2]))
    more = ["--settings", '{"backend": "colmap_cuda"}']
    done = run_stage(tmp_path / "frames.zarr.zip", tmp_path / "cameras.json", tmp_path / "cloud.zarr.zip", 0, 1, *more)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pointcloud.backend is colmap_cuda, but pycolmap" in line


def test_skewed_intrinsics_are_refused():
    camera = ring()[0]
    camera.intrinsics[0, 1] = 3
    with pytest.raises(DataError, match=r"camera c0: skew 3"):
        colmap.reconstruction([camera])


def test_fusion_finds_a_plane_without_half_pixel_shift(tmp_path, scene):
    rgb, alpha, cameras = scene
    normal = np.array([0.2, 0.1, 1.0]) / np.linalg.norm([0.2, 0.1, 1.0])
    depths, normals = [], []
    for camera in cameras:
        rays = camera.rays()
        depths.append(((CENTRE - camera.centre) @ normal) / (rays @ normal))
        normals.append(np.broadcast_to(camera.camera_from_world[:3, :3] @ normal, rays.shape))
    ties = np.stack([consistency.unproject(cameras[3], depths[3])[y, x] for y in (50, 70, 90) for x in (50, 60, 70)])
    colmap.write_workspace(tmp_path, rgb, cameras, ties, np.ones((9, len(cameras)), bool))
    write_maps(tmp_path, cameras, np.where(alpha > 0, depths, 0), np.stack(normals))
    points, found, _ = colmap.fuse(tmp_path, 3, 0.004)
    assert len(points) > 1000
    assert np.abs((points - CENTRE) @ normal).mean() < 0.02 * FOOTPRINT
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=1e-3)


def test_hull_holds_the_ball_and_bounds_its_depth(scene):
    rgb, alpha, cameras = scene
    views = make_views(rgb, alpha, cameras, 1)
    voxels = hull.carve(views, 0.006)
    assert np.linalg.norm(voxels - CENTRE, axis=1).max() < 4 * RADIUS
    for view in views:
        near, far = hull.depth_bounds(voxels, 0.006, view)
        depth = ball_depth(view.camera)
        assert (near[view.person] <= depth[view.person]).all()
        assert (far[view.person] >= depth[view.person]).all()
        assert (near[~view.person] > far[~view.person]).all()


@given(st.integers(0, 999), st.floats(0.5, 2))
@settings(max_examples=20, deadline=None)
def test_fill_keeps_samples_and_stays_in_their_range(seed, level):
    rng = np.random.default_rng(seed)
    number = (rng.random((33, 26)) < 0.2).astype(np.float32)
    number[3, 4] = 1
    depth = (level + 0.1 * rng.random(number.shape)).astype(np.float32)
    filled = consistency.fill(depth * number, number)
    np.testing.assert_allclose(filled[number > 0], depth[number > 0], rtol=1e-5)
    assert filled.min() > level - 1e-3
    assert filled.max() < level + 0.1 + 1e-3


def test_splat_shows_the_nearest_surface():
    camera = ring()[3]
    x, y = np.meshgrid(np.arange(10, 60) + 0.5, np.arange(10, 60) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ np.linalg.inv(camera.intrinsics).T
    world = [camera.centre + (rays * depth) @ camera.camera_from_world[:3, :3] for depth in (0.9, 1.2)]
    total, number = consistency.splat(np.concatenate(world)[:-1], camera)
    np.testing.assert_allclose(total[15:55, 15:55] / number[15:55, 15:55], 0.9, rtol=1e-5)


def test_agreement_needs_the_same_depth(scene):
    rgb, alpha, cameras = scene
    views = make_views(rgb, alpha, cameras, 1)
    exact = [np.nan_to_num(ball_depth(camera)).astype(np.float32) for camera in cameras]
    wrong = [depth + np.float32(0.02) * (i == 3) for i, depth in enumerate(exact)]
    trusted = [view.person for view in views]
    good = DepthMaps(np.stack(exact), consistency.agreement(views, exact, trusted, FOOTPRINT))
    bad = DepthMaps(np.stack(wrong), consistency.agreement(views, wrong, trusted, FOOTPRINT))
    assert good.confirmed(3)[3].sum() > 0.8 * trusted[3].sum()
    assert bad.confirmed(2)[3].sum() < 0.1 * trusted[3].sum()


def test_agreement_is_that_of_the_reference(scene):
    """Pixel by pixel, by the cameras' own projection."""
    rng, views = np.random.default_rng(2), make_views(*scene, 4)[1:4]
    depths = [np.nan_to_num(ball_depth(view.camera), nan=1).astype(np.float32) for view in views]
    depths = [depth + rng.normal(0, FOOTPRINT, depth.shape).astype(np.float32) for depth in depths]
    trusted = [view.person & (rng.random(view.shape) > 0.2) for view in views]
    found = consistency.agreement(views, depths, trusted, 2 * FOOTPRINT)
    for i, j in np.ndindex(3, 3):
        expected = trusted[i].copy()
        points = consistency.unproject(views[i].camera, depths[i])
        for y, x in zip(*np.nonzero(trusted[i] & (i != j)), strict=True):
            (u, v), z = views[j].camera.project(points[y, x])
            there = reference_warp(depths[j], (np.eye(3), np.array([u - 0.5, v - 0.5, 0])), np.ones((1, 1)))[0, 0]
            expected[y, x] = trusted[j][int(v), int(u)] and abs(there - z) < 2 * FOOTPRINT
        assert (found[i, j] != expected).mean() < 0.003  # a difference may equal the tolerance in float32
        assert found[i, j].sum() > 100


def test_agreed_depths_are_those_of_the_reference_and_have_less_noise(scene):
    """Pixel by pixel, by the cameras' own projection; on the ball seven views know more than one."""
    rng, views = np.random.default_rng(4), make_views(*scene, 4)
    exact = [np.nan_to_num(ball_depth(view.camera), nan=1).astype(np.float32) for view in views]
    depths = [depth + rng.normal(0, FOOTPRINT, depth.shape).astype(np.float32) for depth in exact]
    precisions = [(view.person * rng.uniform(0.5, 2, view.shape)).astype(np.float32) for view in views]
    found = consistency.agreed(views, depths, precisions, 8 * FOOTPRINT)
    view, others = views[3], [j for j in range(len(views)) if j != 3]
    points = consistency.unproject(view.camera, depths[3])
    axis = view.camera.camera_from_world[2, :3]
    for y, x in zip(*np.nonzero(view.person), strict=True):
        move, weight, count = 0.0, precisions[3][y, x], 0
        for j in others:
            (u, v), z = views[j].camera.project(points[y, x])
            if not (0.5 <= u <= view.shape[1] - 0.5 and 0.5 <= v <= view.shape[0] - 0.5):
                continue
            there = reference_warp(depths[j], (np.eye(3), np.array([u - 0.5, v - 0.5, 0])), np.ones((1, 1)))[0, 0]
            if precisions[j][int(v), int(u)] > 0 and abs(there - z) < 8 * FOOTPRINT:
                pace = (points[y, x] - view.camera.centre) @ views[j].camera.camera_from_world[2, :3]
                pace /= (points[y, x] - view.camera.centre) @ axis
                move += precisions[j][int(v), int(u)] * (there - z) / pace
                weight += precisions[j][int(v), int(u)]
                count += 1
        expected = depths[3][y, x] + (move / weight if count >= 2 else 0)
        assert found[3][y, x] == pytest.approx(expected, abs=1e-5)
    inner = view.person & (np.abs(exact[3] - exact[3].min()) < 0.3 * RADIUS)
    assert np.abs(found[3] - exact[3])[inner].mean() < 0.7 * np.abs(depths[3] - exact[3])[inner].mean()


def test_neighbours_are_the_nearest_in_angle():
    found = neighbours(ring(), 4, widest=50)
    assert set(found[3]) == {1, 2, 4, 5}
    assert found[0] == [1, 2, 3]  # the next one stands 60 degrees away


def test_neighbours_stand_apart_where_pictures_were_taken_every_few_degrees():
    """The nearest of a camera carried round see the same and tell nothing of a depth."""
    around = np.radians(np.arange(0, 93, 3))
    cameras = [look_at(CENTRE + np.array([np.sin(a), 0, np.cos(a)]), CENTRE, f"{a}") for a in around]
    found = neighbours(cameras, 6)
    for i, row in enumerate(found):
        assert len(row) == 6
        assert all(abs(j - i) <= 16 for j in row)
    assert set(found[15]) == {0, 5, 10, 20, 25, 30}  # 15 degrees from each other
    assert set(found[0]) == {2, 5, 7, 10, 12, 15}  # none on the other side: between those, no nearer than a third


def test_more_cameras_must_agree_where_more_look():
    assert set(demanded(ring(), 3)) == {3}
    assert set(demanded([*ring()] * 10, 3)) == {7, 9, 11, 13}


def test_points_that_too_few_of_their_cameras_confirm_are_not_fused(scene):
    rgb, _, cameras = scene
    exact = np.nan_to_num(np.stack([ball_depth(camera) for camera in cameras])).astype(np.float32)
    normals = [clouds.camera_normals(camera, np.where(d > 0, d, 1)) for camera, d in zip(cameras, exact, strict=True)]
    some = fusion.fuse(exact, normals, rgb, cameras, np.array([3, 3, 3, 9, 9, 9, 9]), 0.004)[0]
    few, most = (fusion.fuse(exact, normals, rgb, cameras, count, 0.004)[0] for count in (9, 3))
    assert len(few) < len(some) < len(most)


def test_normals_of_exact_depth_point_outward():
    camera = ring()[2]
    depth = ball_depth(camera)
    inner = np.isfinite(depth) & (np.abs(np.nan_to_num(depth) - np.nanmin(depth)) < 0.5 * RADIUS)
    normals = clouds.camera_normals(camera, np.nan_to_num(depth, nan=1)) @ camera.camera_from_world[:3, :3]
    truth = (consistency.unproject(camera, np.nan_to_num(depth)) - CENTRE) / RADIUS
    assert (normals * truth).sum(-1)[inner].min() > np.cos(np.radians(3))


def test_depth_of_the_ball_is_found(scene):
    maps = depth_maps(*scene, 4, 7, 0.1)
    confirmed = maps.confirmed(3)
    exact = np.stack([ball_depth(camera) for camera in scene[2]])
    error = np.abs(maps.depths - exact)[confirmed & np.isfinite(exact)]
    assert confirmed.sum() > 0.6 * np.isfinite(exact).sum()
    assert np.median(error) < 0.4 * FOOTPRINT
    assert np.percentile(error, 95) < 3 * FOOTPRINT


def test_a_guide_is_not_heeded_where_the_pictures_show_another_surface(scene):
    views, pairs = make_views(*scene, 1), neighbours(scene[2], 4)
    exact = [np.nan_to_num(ball_depth(camera)).astype(np.float32) for camera in scene[2]]
    full = [np.ones(one.shape, np.float32) for one in exact]
    seen = [matching.Found(one, score, score) for one, score in zip(exact, full, strict=True)]

    def moved(guesses: list[np.ndarray], beside: float) -> float:
        """Share of the ball that the guide moves onto its surface."""
        surface = [one + beside for one in exact]
        result = _guided(lambda *_: surface, views, pairs, seen, guesses, 7)
        hits = [(np.abs(a - b) < 1e-6)[view.person] for a, b, view in zip(result, surface, views, strict=True)]
        return float(np.concatenate(hits).mean())

    assert moved(exact, 6e-3) < 0.2  # the pictures show the ball where it was found
    assert moved([one + 6e-3 for one in exact], 0.0) > 0.95
    assert moved([one + 12e-3 for one in exact], 0.0) == 0  # too far away


def test_cloud_lies_on_the_ball(cloud, scene):
    offset = cloud.points - CENTRE
    distance = np.linalg.norm(offset, axis=1)
    assert len(cloud.points) > 3000
    assert np.median(np.abs(distance - RADIUS)) < 0.3 * FOOTPRINT
    assert (np.abs(distance - RADIUS) > 5e-3).mean() < 0.02
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-3)
    assert np.median((cloud.normals * offset).sum(1) / distance) > np.cos(np.radians(8))
    waves = np.sin(offset @ WAVES + np.arange(60)).sum(-1) * 9
    assert np.corrcoef(waves, cloud.colors[:, 0])[0, 1] > 0.9


def test_points_outside_a_silhouette_and_lone_points_are_dropped(scene):
    _, alpha, cameras = scene
    points = CENTRE + np.array([[0, 0, RADIUS], [0, RADIUS + 0.02, 0], [0, 0, RADIUS - 0.001]])
    keep, doubted = clouds.inside_silhouettes(points, alpha, cameras)
    assert keep.tolist() == [True, False, True]
    assert not doubted
    crowd = np.concatenate([np.random.default_rng(0).random((500, 3)), [[3, 3, 3]]])
    assert np.flatnonzero(clouds.stands_alone(crowd, 6.0)).tolist() == [500]


def test_one_silhouette_that_is_off_takes_no_surface_and_is_named(scene, cloud):
    rgb, alpha, cameras = scene
    shifted = alpha.copy()
    shifted[3] = np.roll(alpha[3], 6, axis=1)
    found = clouds.point_cloud(rgb, shifted, cameras, PointcloudSettings())
    assert len(found.points) > 0.95 * len(cloud.points)
    (remark,) = found.remarks
    assert remark.startswith("camera c3: its silhouette alone denies")
    assert not cloud.remarks


def test_a_thin_cloud_is_said_with_what_is_usual(scene, cloud):
    _, alpha, _ = scene
    (line,) = clouds.thinness(cloud[:300], alpha, 3)
    assert line.startswith("only 300 points; expected about ")


def write_frames(path: Path, cameras, moves) -> None:
    """A chunk of frames as ingest writes it, one step per texture shift."""
    shots = [[photograph(camera, moved) for camera in cameras] for moved in moves]
    rgb = np.stack([[rgb for rgb, _ in step] for step in shots])
    alpha = np.stack([[alpha for _, alpha in step] for step in shots])
    axes = ("time", "camera", "row", "column", "channel")
    write_chunk(path, {"rgb": Array(rgb, axes, "sRGB", ""), "alpha": Array(alpha, axes[:4], "1/255", "")}, {})


def run_stage(
    frames: Path, cameras: Path, output: Path, start: int, stop: int, *more: object
) -> subprocess.CompletedProcess:
    command = ["stages.pointcloud", *more, "--subject", "ball", "--sequence", "TURN", "--start", start, "--stop", stop]
    return in_process.run(*command, "--cameras", cameras, "--frames", frames, "--prior", WEIGHTS, "--output", output)


def test_stage_gives_the_same_for_any_span_length_and_with_workers(tmp_path, cloud):
    cameras = ring()
    write_rig(tmp_path / "cameras.json", Rig(cameras))
    outputs = {}
    for start, stop in ((0, 2), (1, 2)):
        frames, outputs[start] = tmp_path / f"frames{start}.zarr.zip", tmp_path / f"cloud{start}.zarr.zip"
        write_frames(frames, cameras, (0.0, 0.01)[start:stop])
        more = ("--threads", stop - start)  # one thread in this process, two as workers
        done = run_stage(frames, tmp_path / "cameras.json", outputs[start], start, stop, *more)
        assert done.returncode == 0, done.stderr
    names = ("points", "normals", "colors", "offsets")
    both, second = read_arrays(outputs[0], *names), read_arrays(outputs[1], *names)
    offsets = both[3]
    np.testing.assert_array_equal(both[0][: offsets[1]], cloud.points)
    for whole, part in zip(both[:3], second[:3], strict=True):
        np.testing.assert_array_equal(whole[offsets[1] :], part)
    assert offsets.tolist()[-1] == len(both[0])


def test_stage_names_the_step_and_camera_of_an_empty_alpha(tmp_path, scene):
    rgb, alpha, cameras = scene
    alpha = alpha.copy()
    alpha[2] = 0
    axes = ("time", "camera", "row", "column", "channel")
    arrays = {"rgb": Array(rgb[None], axes, "sRGB", ""), "alpha": Array(alpha[None], axes[:4], "1/255", "")}
    write_chunk(tmp_path / "frames.zarr.zip", arrays, {})
    write_rig(tmp_path / "cameras.json", Rig(cameras))
    done = run_stage(tmp_path / "frames.zarr.zip", tmp_path / "cameras.json", tmp_path / "cloud.zarr.zip", 4, 5)
    assert done.returncode == 1
    assert "time step 4: camera c2: the alpha is empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cameras.json", "frames.zarr.zip"]


def test_silhouettes_without_common_volume_are_refused(scene):
    rgb, alpha, cameras = scene
    alpha = np.zeros_like(alpha)
    alpha[::2, :20, :20] = 255
    alpha[1::2, -20:, -20:] = 255
    with pytest.raises(DataError, match="no common volume"):
        depth_maps(rgb, alpha, cameras, 4, 7, 0.1)


def test_cameras_side_by_side_have_a_target_or_are_refused():
    """Parallel optical axes meet nowhere: no traceback of a singular matrix."""
    cameras = [replace(ring()[0], name=str(x), camera_from_world=shifted(x)) for x in (-0.1, 0.0, 0.1)]
    target, radius = hull.rig_target(cameras)
    assert np.isfinite(target).all()
    assert radius > 0
    turned = np.diag([-1.0, 1, -1, 1])
    turned[2, 3] = -1
    with pytest.raises(DataError, match=r"camera away has the point .* behind it"):
        hull.rig_target([*cameras, replace(cameras[0], name="away", camera_from_world=turned)])


def shifted(x: float) -> np.ndarray:
    """camera_from_world (4, 4) of a camera at (x, 0, -1) that looks along z."""
    pose = np.eye(4)
    pose[:3, 3] = [-x, 0, 1]
    return pose
