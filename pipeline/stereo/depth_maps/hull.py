"""The visual hull of the person: a coarse voxel carving that bounds every pixel's depth before any matching."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.cameras.aim import aim_of
from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.stereo.depth_maps.views import View


def rig_target(cameras: Sequence[Camera]) -> tuple[np.ndarray, float]:
    """The point all optical axes pass closest to, (3,) world metres, and the radius in metres of what is seen there.

    The radius is half the diagonal of the widest picture at the point's depth. Raises DataError for a camera that looks
    elsewhere.
    """
    target = aim_of(Rig(tuple(cameras)))
    for camera in cameras:
        if camera.project(target)[1] <= 0:
            raise DataError(
                f"camera {camera.name} has the point that the optical axes pass closest to behind it; expected cameras "
                "that look at one person"
            )
    radii = [
        camera.project(target)[1] * np.hypot(camera.width, camera.height) / (camera.intrinsics[0, 0] * 2)
        for camera in cameras
    ]
    return target, float(max(radii))


def footprint(views: Sequence[View]) -> float:
    """Metres that one pixel covers at the point all cameras look at."""
    target, _ = rig_target([view.camera for view in views])
    return float(np.median([view.camera.project(target)[1] / view.camera.intrinsics[0, 0] for view in views]))


def carve(views: Sequence[View], voxel: float) -> np.ndarray:
    """Centres (n, 3) float64, world metres, of the voxels of edge `voxel` metres that no view sees as background.

    A camera whose picture a voxel misses has no say; at least three must see it. The silhouettes are dilated by the
    voxel's own size, so that the hull is never too small. Raises DataError when nothing is left.
    """
    target, radius = rig_target([view.camera for view in views])
    steps = np.arange(-radius, radius + voxel, voxel)
    centres = target + np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    seen = np.zeros(len(centres), np.int32)
    for view in views:
        camera = view.camera
        pixels, depth = camera.project(centres)
        person = cv2.dilate(view.person.astype(np.uint8), _square(camera, voxel, depth, 1))
        inside = camera.inside(pixels, depth)
        column, row = np.floor(pixels[inside]).astype(np.int64).T
        keep = ~inside
        keep[inside] = person[row, column] > 0
        seen[inside] += 1
        centres, seen = centres[keep], seen[keep]
    if not (seen >= 3).any():
        raise DataError("the silhouettes of the cameras have no common volume; expected the person in every alpha")
    return centres[seen >= 3]


def depth_bounds(voxels: np.ndarray, voxel: float, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Nearest and farthest hull depth at every pixel, two (h, w) float32 arrays in metres along z.

    Where the hull or the person is absent near is +inf and far is 0. Found on blocks of 2x2 pixels.
    """
    block, camera = 2, view.camera
    pixels, depth = camera.project(voxels)
    rows, columns = -(-camera.height // block), -(-camera.width // block)
    near, far = np.full((rows, columns), np.inf, np.float32), np.zeros((rows, columns), np.float32)
    column, row = np.floor(pixels / block).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
    flat, depth = row[inside] * columns + column[inside], depth[inside].astype(np.float32)
    np.minimum.at(near.reshape(-1), flat, depth - np.float32(voxel))
    np.maximum.at(far.reshape(-1), flat, depth + np.float32(voxel))
    kernel = _square(camera, voxel, depth, block)
    near, far = (
        np.kron(bound, np.ones((block, block), np.float32))[: camera.height, : camera.width]
        for bound in (cv2.erode(near, kernel), cv2.dilate(far, kernel))
    )
    return np.where(view.person, near, np.inf).astype(np.float32), np.where(view.person, far, 0).astype(np.float32)


def _square(camera: Camera, voxel: float, depth: np.ndarray, block: int) -> np.ndarray:
    """A structuring element that reaches as many blocks of pixels as a voxel does at the median depth."""
    reach = int(np.ceil(camera.intrinsics[0, 0] * voxel / np.median(depth) / block))
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
