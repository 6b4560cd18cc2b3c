"""What several depth maps agree on, and how a view's depth is guessed from what the other views saw."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.stereo.views import View

LAYER = 8.0  # splat: points within this many pixel footprints behind the nearest one belong to the same surface


def unproject(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """World points (h, w, 3) float64, metres, of a depth map (h, w) along z."""
    return camera.centre + camera.rays() * depth[..., None]


def padded(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Maps (h, w) of any sizes as one array (C, H, W), zero beyond each one's own."""
    result = np.zeros((len(maps), *np.max([one.shape for one in maps], 0)), maps[0].dtype)
    for whole, one in zip(result, maps, strict=True):
        whole[: one.shape[0], : one.shape[1]] = one
    return result


def agreement(
    views: Sequence[View], depths: Sequence[np.ndarray], trusted: Sequence[np.ndarray], tolerance: float
) -> np.ndarray:
    """Which views see the same surface point, (C, C, H, W) bool: [i, j] at the pixels of view i, padded to
    the largest view.

    True where view j's own depth (h, w) lies within `tolerance` metres of the point that view i claims, at a pixel
    that is `trusted` (h, w) bool in both; so [i, i] is `trusted[i]`.
    """
    count = len(views)
    result = np.zeros((count, count, *np.max([view.shape for view in views], 0)), bool)
    known = [mask.astype(np.uint8) for mask in trusted]
    for i, view in enumerate(views):
        rows, columns = np.nonzero(trusted[i])
        points = unproject(view.camera, depths[i])[rows, columns]
        result[i, i, rows, columns] = True
        for j, other in enumerate(views):
            if j != i and len(points):
                pixels, depth = other.camera.project(points)
                places = (pixels - 0.5).astype(np.float32)
                near = np.abs(_at(depths[j], places, cv2.INTER_LINEAR) - depth) < tolerance
                result[i, j, rows, columns] = near & (_at(known[j], places, cv2.INTER_NEAREST) > 0)
    return result


def _at(picture: np.ndarray, places: np.ndarray, interpolation: int) -> np.ndarray:
    """A picture (h, w) at `places` (n, 2), columns and rows as array indices; 0 beyond its edges.

    OpenCV takes maps of less than 32768 rows and columns, so the places are laid out as a picture of their own.
    """
    width = min(len(places), 1024)
    maps = np.pad(places, ((0, -len(places) % width), (0, 0))).reshape(-1, width, 2)
    return cv2.remap(picture, maps, None, interpolation, borderValue=0).ravel()[: len(places)]


def splat(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Sum of depths and number, both (h, w) float32, of the nearest surface of a cloud (n, 3) in each pixel."""
    shape = (camera.height, camera.width)
    _, row, column, depth = camera.hits(points)
    flat, depth = row * camera.width + column, depth.astype(np.float32)
    nearest = np.full(shape, np.inf, np.float32)
    np.minimum.at(nearest.reshape(-1), flat, depth)
    # A pixel also heeds the pixels beside it: points of a hidden surface shine through gaps of the one before it.
    nearest = cv2.erode(nearest, np.ones((3, 3), np.uint8)).reshape(-1)
    front = depth < nearest[flat] + LAYER * depth / camera.intrinsics[0, 0]
    total = np.bincount(flat[front], depth[front], nearest.size).reshape(shape)
    number = np.bincount(flat[front], minlength=nearest.size).reshape(shape)
    return total.astype(np.float32), number.astype(np.float32)


def fill(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    """A dense map (h, w) float32 from sparse sums and counts (h, w): means, gaps filled from coarser and coarser means.

    Pull-push interpolation (Gortler et al. 1996). Zeros where there are no samples at all.
    """
    if min(total.shape) <= 1 or number.min() >= 1:
        return total / np.maximum(number, 1e-6)
    coarse = fill(4 * cv2.pyrDown(total), 4 * cv2.pyrDown(number))
    behind = cv2.pyrUp(coarse, dstsize=total.shape[::-1])
    weight = np.minimum(number, 1)
    return weight * (total / np.maximum(number, 1e-6)) + (1 - weight) * behind


def smooth(depth: np.ndarray, edge: float) -> np.ndarray:
    """A depth map (h, w) float32 without specks and with less noise; steps much higher than `edge` metres stay."""
    return cv2.bilateralFilter(cv2.medianBlur(depth, 5), 7, edge, 2)
