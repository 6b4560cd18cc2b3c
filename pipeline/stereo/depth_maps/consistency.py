"""What several depth maps agree on, and how a view's depth is guessed from what the other views saw."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.stereo.compiled import compiled
from pipeline.stereo.depth_maps.views import View, neighbour_from_reference

SLOWEST = 0.3  # cosine between two cameras' directions: others tell too little of each other's depths
LAYER = 8.0  # splat: points within this many pixel footprints behind the nearest one belong to the same surface


def unproject(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """World points (h, w, 3) float64, metres, of a depth map (h, w) along z."""
    return camera.centre + camera.rays() * depth[..., None]


def camera_normals(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """Unit normals (h, w, 3) float32 in the camera's frame, towards the camera, of a depth map (h, w) in metres.

    The cross product of the surface's Sobel derivatives, taken over 5x5 pixels.
    """
    pixels = np.ones((*depth.shape, 3), np.float32)
    pixels[..., 0], pixels[..., 1] = np.arange(camera.width) + 0.5, np.arange(camera.height)[:, None] + 0.5
    rays = pixels @ np.linalg.inv(camera.intrinsics).T.astype(np.float32)
    points = rays * depth[..., None].astype(np.float32)
    (ax, ay, az), (bx, by, bz) = (cv2.split(cv2.Sobel(points, -1, *order, ksize=5)) for order in ((0, 1), (1, 0)))
    normal = cv2.merge([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    towards = -np.sign(np.einsum("hwi,hwi->hw", normal, rays))
    length = np.sqrt(np.einsum("hwi,hwi->hw", normal, normal))
    return normal * (towards / np.maximum(length, 1e-20))[..., None]


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
    depths = [np.ascontiguousarray(depth, np.float32) for depth in depths]
    for i, view in enumerate(views):
        result[i, i, : view.shape[0], : view.shape[1]] = trusted[i]
        for j, other in enumerate(views):
            if j != i:
                matrix, vector = neighbour_from_reference(view.camera, other.camera)
                _confirm(depths[i], trusted[i], matrix, vector, depths[j], trusted[j], tolerance, result[i, j])
    return result


@compiled
def _confirm(depth, trusted, matrix, vector, other, other_trusted, tolerance, result):
    """Set `result` (h, w) where the `other` depth map confirms `depth`; maps are read bilinearly, masks at the nearest
    pixel. The third of the neighbour's coordinates is the depth there."""
    height, width = depth.shape
    last_v, last_u = other.shape[0] - 1, other.shape[1] - 1
    for y in range(height):
        for x in range(width):
            if trusted[y, x]:
                column, row, z = x + 0.5, y + 0.5, depth[y, x]
                w = z * (matrix[2, 0] * column + matrix[2, 1] * row + matrix[2, 2]) + vector[2]
                u = (z * (matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]) + vector[0]) / w - 0.5
                v = (z * (matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]) + vector[1]) / w - 0.5
                if w > 0 and 0 <= u <= last_u and 0 <= v <= last_v and other_trusted[int(v + 0.5), int(u + 0.5)]:
                    left, top = min(int(u), last_u - 1), min(int(v), last_v - 1)
                    right, down = u - left, v - top
                    above = other[top, left] * (1 - right) + other[top, left + 1] * right
                    below = other[top + 1, left] * (1 - right) + other[top + 1, left + 1] * right
                    result[y, x] = abs(above * (1 - down) + below * down - w) < tolerance


def agreed(
    views: Sequence[View], depths: Sequence[np.ndarray], precisions: Sequence[np.ndarray], tolerance: float
) -> list[np.ndarray]:
    """The depth maps (h, w) float32 metres, each moved to the mean of what all views found there.

    `precisions` (h, w) float32 are inverse variances, 0 where nothing is known. Views count whose own depth lies within
    `tolerance` metres of the point that a view claims; two others must.
    """
    depths = [np.ascontiguousarray(depth, np.float32) for depth in depths]
    result = []
    for i, view in enumerate(views):
        moves, weights = np.zeros((2, *view.shape), np.float32)
        count = np.zeros(view.shape, np.uint8)
        for j, other in enumerate(views):
            if j != i:
                way = neighbour_from_reference(view.camera, other.camera)
                _lean(depths[i], precisions[i], *way, depths[j], precisions[j], tolerance, moves, weights, count)
        mean = moves / np.maximum(weights + precisions[i], 1e-6)
        result.append(np.where(count >= 2, depths[i] + mean, depths[i]))
    return result


@compiled
def _lean(depth, precision, matrix, vector, other, other_precision, tolerance, moves, weights, count):
    """Add to `moves` and `weights` (h, w) how far the `other` depth map is from `depth`, along its rays, weighted.

    How fast the depth there grows with the depth here is taken from the cameras alone, as if the surface faced the
    other one: a view that sees it at a grazing angle is hardly precise.
    """
    height, width = depth.shape
    last_v, last_u = other.shape[0] - 1, other.shape[1] - 1
    for y in range(height):
        for x in range(width):
            if precision[y, x] > 0:
                column, row, z = x + 0.5, y + 0.5, depth[y, x]
                pace = matrix[2, 0] * column + matrix[2, 1] * row + matrix[2, 2]
                w = z * pace + vector[2]
                u = (z * (matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]) + vector[0]) / w - 0.5
                v = (z * (matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]) + vector[1]) / w - 0.5
                if w > 0 and pace > SLOWEST and 0 <= u <= last_u and 0 <= v <= last_v:
                    weight = other_precision[int(v + 0.5), int(u + 0.5)]
                    left, top = min(int(u), last_u - 1), min(int(v), last_v - 1)
                    right, down = u - left, v - top
                    above = other[top, left] * (1 - right) + other[top, left + 1] * right
                    below = other[top + 1, left] * (1 - right) + other[top + 1, left + 1] * right
                    off = above * (1 - down) + below * down - w
                    if weight > 0 and abs(off) < tolerance:
                        moves[y, x] += weight * off / pace
                        weights[y, x] += weight
                        count[y, x] += 1


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
