"""One time step's pictures to one clean point cloud with normals and colours."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from scipy.spatial import cKDTree

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.stereo import colmap
from pipeline.stereo.consistency import unproject
from pipeline.stereo.depth import DepthMaps, depth_maps

TIE_POINTS = 2000  # sparse points in COLMAP's model, enough for it to see which images overlap
NEIGHBOURS = 12  # of a point, to judge whether it stands alone


@dataclass(frozen=True)
class Cloud:
    """`points` (n, 3) float32 world metres, `normals` (n, 3) float32 outward unit, `colors` (n, 3) uint8 sRGB."""

    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> "Cloud":
        return Cloud(self.points[keep], self.normals[keep], self.colors[keep])


def point_cloud(
    rgb: np.ndarray,
    alpha: np.ndarray,
    cameras: Sequence[Camera],
    *,
    neighbours: int,
    window: int,
    min_score: float,
    min_views: int,
    depth_error: float,
    outlier_sigma: float,
) -> Cloud:
    """Dense cloud of the person at one time step.

    `rgb` (C, H, W, 3) uint8 sRGB, `alpha` (C, H, W) uint8. Depth maps come from COLMAP's patch match where pycolmap has
    CUDA and from `depth_maps` elsewhere; COLMAP fuses them (`colmap.fuse`). Raises DataError when an alpha is empty or
    nothing can be fused.
    """
    cv2.setNumThreads(1)  # steps run in parallel as processes
    maps = depth_maps(rgb, alpha, cameras, neighbours, window, min_score)
    confirmed = maps.confirmed(min_views)
    points, seen_by = tie_points(maps, confirmed, cameras)
    with tempfile.TemporaryDirectory(prefix="pointcloud-") as name:
        folder = Path(name)
        colmap.write_workspace(folder, rgb, cameras, points, seen_by)
        if pycolmap.has_cuda:
            known = maps.depths[confirmed]
            colmap.patch_match(folder, 0.9 * float(known.min()), 1.1 * float(known.max()))
        else:
            normals = np.stack([camera_normals(camera, d) for camera, d in zip(cameras, maps.depths, strict=True)])
            colmap.write_maps(folder, cameras, np.where(confirmed, maps.depths, 0), normals)
        cloud = Cloud(*colmap.fuse(folder, min_views, depth_error))
    cloud = cloud[inside_silhouettes(cloud.points, alpha, cameras)]
    if len(cloud.points) <= NEIGHBOURS:
        raise DataError(f"only {len(cloud.points)} points could be fused; expected overlapping, sharp pictures")
    return cloud[~stands_alone(cloud.points, outlier_sigma)]


def tie_points(maps: DepthMaps, confirmed: np.ndarray, cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Evenly picked confirmed pixels as points (n, 3) float64 world metres, and who sees them, (n, C) bool."""
    view, row, column = np.nonzero(confirmed)
    if len(view) == 0:
        raise DataError("no pixel's depth is confirmed by enough cameras; expected overlapping, sharp pictures")
    pick = np.linspace(0, len(view) - 1, min(TIE_POINTS, len(view))).astype(int)
    view, row, column = view[pick], row[pick], column[pick]
    points = np.stack([unproject(camera, d) for camera, d in zip(cameras, maps.depths, strict=True)])
    return points[view, row, column], maps.seen_by[view, :, row, column]


def camera_normals(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """Unit normals (h, w, 3) float32 in the camera's frame, towards the camera, of a depth map (h, w) in metres.

    The cross product of the surface's Sobel derivatives, taken over 5x5 pixels.
    """
    points = (unproject(camera, depth) @ camera.camera_from_world[:3, :3].T).astype(np.float32)
    along_x, along_y = (cv2.Sobel(points, -1, *order, ksize=5) for order in ((1, 0), (0, 1)))
    normal = np.cross(along_y, along_x)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-20)
    ray = camera.rays() @ camera.camera_from_world[:3, :3].T
    facing = np.einsum("hwi,hwi->hw", normal, ray) > 0
    return np.where(facing[..., None], -normal, normal).astype(np.float32)


def inside_silhouettes(points: np.ndarray, alpha: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Which points (n, 3) no picture shows as background, (n,) bool; one pixel of tolerance."""
    keep = np.ones(len(points), bool)
    for camera, cover in zip(cameras, alpha, strict=True):
        person = cv2.dilate((cover > 127).astype(np.uint8), np.ones((3, 3), np.uint8))
        pixels, depth = camera.project(points.astype(float))
        column, row = np.floor(pixels).astype(np.int64).T
        inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height) & (depth > 0)
        keep[inside] &= person[row[inside], column[inside]] > 0
    return keep


def stands_alone(points: np.ndarray, sigma: float) -> np.ndarray:
    """Which points (n, 3) lie farther from their neighbours than others, (n,) bool.

    Statistical outlier removal (Rusu 2008): mean distance to the nearest twelve over the cloud's mean by more than
    `sigma` standard deviations.
    """
    distance = cKDTree(points).query(points, k=NEIGHBOURS + 1)[0][:, 1:].mean(1)
    return distance > distance.mean() + sigma * distance.std()
