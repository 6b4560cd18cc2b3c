"""One time step's pictures to one clean point cloud with normals and colours."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import KDTree

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.evenly import evenly
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stereo import colmap
from pipeline.stereo.depth_maps.consistency import camera_normals
from pipeline.stereo.depth_maps.depth import HULL_VOXEL, Guide, Pictures, depth_maps, largest, shrinks
from pipeline.stereo.depth_maps.hull import carve, depth_bounds, footprint
from pipeline.stereo.depth_maps.views import View, demanded, make_views, neighbours
from pipeline.stereo.fusion import fuse

TIE_POINTS = 2000  # sparse points in COLMAP's model, enough for it to see which images overlap
LONE_DENIALS = 0.03  # share of the points that one silhouette may deny against all others, ...
THIN = 0.25  # a cloud with fewer points than this share of a silhouette's pixels is implausible: usual is 1 or more
OUTSTANDING = 4  # ... and how many times the median camera's share it must be to be doubted
NEIGHBOURS = 12  # of a point, to judge whether it stands alone


@dataclass(frozen=True)
class Cloud:
    """`points` (n, 3) float32 world metres, `normals` (n, 3) float32 outward unit, `colors` (n, 3) uint8 sRGB;
    `remarks`: what is odd about it, a line each.
    """

    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    remarks: tuple[str, ...] = ()

    def __getitem__(self, keep: np.ndarray) -> "Cloud":
        return Cloud(self.points[keep], self.normals[keep], self.colors[keep], self.remarks)


def point_cloud(
    rgb: np.ndarray,
    alpha: np.ndarray,
    cameras: Sequence[Camera],
    settings: PointcloudSettings,
    guide: Guide | None = None,
) -> Cloud:
    """Dense cloud of the person at one time step.

    `rgb` (C, H, W, 3) uint8 sRGB, `alpha` (C, H, W) uint8, both padded to the largest camera. The back-end of
    the settings finds the depth maps and fuses them; its own matching heeds a `guide`. Raises DataError when an alpha
    is empty or nothing can be fused.
    """
    cv2.setNumThreads(1)  # steps run in parallel as processes
    rgbs, covers = ([camera.own(p) for camera, p in zip(cameras, part, strict=True)] for part in (rgb, alpha))
    for cover, camera in zip(covers, cameras, strict=True):
        if not (cover > 127).any():
            raise DataError(f"camera {camera.name}: the alpha is empty; expected the person in it")
    if settings.backend == "cpu":
        cloud = matched_here(rgbs, covers, cameras, settings, guide)
    else:
        cloud = matched_by_colmap(rgbs, covers, cameras, settings)
    keep, doubted = inside_silhouettes(cloud.points, covers, cameras)
    cloud = cloud[keep]
    if len(cloud.points) <= NEIGHBOURS:
        raise DataError(f"only {len(cloud.points)} points could be fused; expected overlapping, sharp pictures")
    cloud = cloud[~stands_alone(cloud.points, settings.outlier_sigma)]
    return replace(cloud, remarks=(*doubts(doubted), *thinness(cloud, covers, settings.min_views)))


def doubts(doubted: dict[str, float]) -> list[str]:
    """A line for every camera whose silhouette is not believed."""
    return [
        f"camera {name}: its silhouette alone denies {100 * share:.1f} % of the points, expected at most "
        f"{100 * LONE_DENIALS:.0f} %; it was not asked, look at its alpha and its pose"
        for name, share in doubted.items()
    ]


def thinness(cloud: Cloud, alpha: Pictures, min_views: int) -> list[str]:
    """A line when there are far fewer points than a silhouette, of `alpha` (C) times (h, w), has pixels."""
    usual = int(np.median([(cover > 127).sum() for cover in alpha]))
    if len(cloud.points) >= THIN * usual:
        return []
    return [
        f"only {len(cloud.points)} points; expected about {usual}, as many as a silhouette has pixels: are the "
        f"pictures sharp, the cameras right, and the {len(alpha)} of them enough for min_views {min_views}?"
    ]


def matched_here(
    rgb: Pictures, alpha: Pictures, cameras: Sequence[Camera], settings: PointcloudSettings, guide: Guide | None
) -> Cloud:
    """The cloud of depth maps that are found on the CPU."""
    maps = depth_maps(rgb, alpha, cameras, settings.neighbours, settings.window, settings.min_score, guide)
    needed = demanded(cameras, settings.min_views)
    depths, confirmed = maps.depths, np.where(maps.confirmed(needed), maps.depths, 0)
    del maps  # who sees what is the largest array of all
    normals = (camera_normals(camera, camera.own(depth)) for camera, depth in zip(cameras, depths, strict=True))
    return Cloud(*fuse(confirmed, normals, rgb, cameras, needed, settings.depth_error))


def matched_by_colmap(rgb: Pictures, alpha: Pictures, cameras: Sequence[Camera], settings: PointcloudSettings) -> Cloud:
    """The cloud of COLMAP's own patch match and fusion; the visual hull alone bounds the depths."""
    points, seen_by, (near, far) = hull_points(make_views(rgb, alpha, cameras, shrinks(largest(cameras))[0]))
    chosen = evenly(len(points), TIE_POINTS)
    with tempfile.TemporaryDirectory(prefix="pointcloud-") as name:
        folder = Path(name)
        colmap.write_workspace(folder, rgb, cameras, points[chosen], seen_by[chosen])
        colmap.name_sources(folder, cameras, neighbours(cameras, settings.neighbours))
        colmap.patch_match(folder, near, far)
        return Cloud(*colmap.fuse(folder, settings.min_views, settings.depth_error))


def hull_points(views: Sequence[View]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Points of the visual hull that at least two views see from outside.

    (n, 3) float64 world metres; who sees them, (n, C) bool; the least and the greatest depth of the hull in any view.
    """
    voxel = HULL_VOXEL * footprint(views)
    voxels = carve(views, voxel)
    seen_by, depths = [], []
    for view in views:
        near, far = depth_bounds(voxels, voxel, view)
        seen, row, column, depth = view.camera.hits(voxels)
        seen[seen] = (depth <= near[row, column] + 2 * voxel) & (near <= far)[row, column]
        seen_by.append(seen)
        depths += [near[near <= far].min(), far.max()]
    seen = np.stack(seen_by, -1)
    several = seen.sum(-1) >= 2
    if not several.any():
        raise DataError("no two cameras see the same part of the visual hull; expected overlapping pictures")
    return voxels[several], seen[several], (float(min(depths)), float(max(depths)))


def inside_silhouettes(
    points: np.ndarray, alpha: Sequence[np.ndarray], cameras: Sequence[Camera]
) -> tuple[np.ndarray, dict[str, float]]:
    """Which points (n, 3) lie inside the silhouettes, (n,) bool, with one pixel of tolerance; and the cameras whose
    silhouettes are not believed, with the share of points that each of them alone denies.

    Fused points were seen by several cameras, so a silhouette that many of them contradict is off itself, as a matte or
    a pose that is a few pixels out. Those are few: two of three cameras' or more must be believed.
    """
    denied = np.zeros((len(cameras), len(points)), bool)
    for i, (camera, cover) in enumerate(zip(cameras, alpha, strict=True)):
        person = cv2.dilate((cover > 127).astype(np.uint8), np.ones((3, 3), np.uint8))
        inside, row, column, _ = camera.hits(points.astype(float))
        denied[i, inside] = person[row, column] == 0
    alone = (denied & (denied.sum(0) == 1)).mean(1)
    doubted = (alone > LONE_DENIALS) & (alone > OUTSTANDING * np.median(alone))
    if 3 * doubted.sum() > len(cameras):
        doubted[:] = False
    keep = denied[~doubted].sum(0) == 0
    return keep, {camera.name: float(alone[row]) for row, camera in enumerate(cameras) if doubted[row]}


def stands_alone(points: np.ndarray, sigma: float) -> np.ndarray:
    """Which points (n, 3) lie farther from their neighbours than others, (n,) bool.

    Statistical outlier removal (Rusu 2008): mean distance to the nearest twelve over the cloud's mean by more than
    `sigma` standard deviations.
    """
    distance = KDTree(points).query(points, k=NEIGHBOURS + 1)[0][:, 1:].mean(1)
    return distance > distance.mean() + sigma * distance.std()
