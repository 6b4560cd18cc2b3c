"""Photo-consistency of one view with its neighbours: a plane sweep, and a refinement along curved surfaces.

Both compare square windows by zero-mean normalised cross-correlation (ZNCC). The sweep warps neighbours by
fronto-parallel planes (Collins 1996). The refinement warps them by the current depth map moved by a few offsets along
the rays, so that a window follows the surface however much it slants.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.stereo.views import View

NOISE_VARIANCE = (2 / 255) ** 2  # of the pictures' grey values: windows without texture score near 0
CENTRE = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # pixel coordinates (centre at +0.5) from array indices


class Window:
    """The windows round every pixel of a reference picture, restricted to its person."""

    def __init__(self, grey: np.ndarray, person: np.ndarray, size: int):
        """`grey` (h, w) float32, `person` (h, w) bool, `size` the window's edge in pixels (odd)."""
        self.size = size
        self.weight = person.astype(np.float32)
        self.grey = grey * self.weight
        self.share = 1 / np.maximum(self._sum(self.weight), 1)
        self.mean = self._sum(self.grey) * self.share
        variance = self._sum(self.grey * self.grey) * self.share - self.mean**2
        self.variance = np.maximum(variance, 0) + NOISE_VARIANCE

    def _sum(self, picture: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(picture, -1, (self.size, self.size), normalize=False, borderType=cv2.BORDER_CONSTANT)

    def score(self, warped: np.ndarray) -> np.ndarray:
        """ZNCC (h, w) float32 in [-1, 1] of the reference with a neighbour's picture warped onto it (h, w)."""
        warped = warped * self.weight
        mean = self._sum(warped) * self.share
        variance = np.maximum(self._sum(warped * warped) * self.share - mean**2, 0) + NOISE_VARIANCE
        covariance = self._sum(warped * self.grey) * self.share - mean * self.mean
        return covariance / np.sqrt(variance * self.variance)


def neighbour_from_reference(reference: Camera, neighbour: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Matrix A (3, 3) and vector b (3,): pixel p at depth z in the reference lies at z * A p + b in the neighbour."""
    between = neighbour.camera_from_world @ reference.world_from_camera
    matrix = neighbour.intrinsics @ between[:3, :3] @ np.linalg.inv(reference.intrinsics)
    return matrix, neighbour.intrinsics @ between[:3, 3]


def sweep(
    views: Sequence[View], i: int, others: Sequence[int], near: np.ndarray, far: np.ndarray, step: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of view `i` by a plane sweep between per-pixel bounds.

    `near`, `far` (h, w) float32 metres along z, near > far where nothing is sought; `step` metres between planes.
    A pixel's score on a plane is the mean of its better half of the neighbours, which leaves room for occlusion.
    Returns depth (h, w) float32 metres and score (h, w) float32, both 0 where nothing was sought.
    """
    wanted = near <= far
    depths = np.arange(near[wanted].min(), far[wanted].max() + step, step)
    volume = np.full((len(depths), *views[i].shape), -1, np.float32)
    for plane, depth in enumerate(depths):
        active = (near <= depth) & (depth <= far)
        if active.any():
            # Only the rectangle round the active pixels is warped: two to three times less work.
            box = _bounding_box(active, size // 2)
            window = Window(views[i].grey[box], views[i].person[box], size)
            scores = [window.score(_warp_plane(views[i].camera, views[j], depth, box)) for j in others]
            volume[plane][box] = np.where(active[box], _better_half(scores), -1)
    index, score = peak(volume)
    return np.where(wanted, depths[0] + index * step, 0).astype(np.float32), np.where(wanted, score, 0)


def _bounding_box(active: np.ndarray, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(active.any(1)), np.flatnonzero(active.any(0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin),
    )


def _warp_plane(reference: Camera, view: View, depth: float, box: tuple[slice, slice]) -> np.ndarray:
    matrix, vector = neighbour_from_reference(reference, view.camera)
    rows, columns = box
    corner = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1.0]])
    homography = np.linalg.inv(CENTRE) @ (matrix + np.outer(vector, [0, 0, 1 / depth])) @ CENTRE @ corner
    shape = (min(columns.stop, reference.width) - columns.start, min(rows.stop, reference.height) - rows.start)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(view.grey, homography, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _better_half(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the higher half of scores per pixel, by insertion: np.sort along axis 0 takes four times as long."""
    best = [np.full(scores[0].shape, -1, np.float32) for _ in range(-(-len(scores) // 2))]
    for score in scores:
        for rank, higher in enumerate(best):
            best[rank], score = np.maximum(higher, score), np.minimum(higher, score)
    return sum(best) / len(best)


def refine(
    views: Sequence[View], i: int, others: Sequence[int], depth: np.ndarray, step: float, reach: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Best depth of view `i` within `reach` steps of `step` metres either side of `depth` (h, w) float32.

    Returns depth (h, w) float32 metres and its score (h, w) float32; every pixel uses the half of its neighbours that
    match best at any offset.
    """
    view = views[i]
    box = _bounding_box(view.person, size // 2)
    window = Window(view.grey[box], view.person[box], size)
    inner = depth[box]
    rows, columns = np.mgrid[box[0].start : box[0].start + inner.shape[0], box[1].start : box[1].start + inner.shape[1]]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(inner.shape)])
    offsets = np.arange(-reach, reach + 1) * step
    scores = np.empty((len(others), len(offsets), *inner.shape), np.float32)
    for n, j in enumerate(others):
        matrix, vector = neighbour_from_reference(view.camera, views[j].camera)
        x, y, z = np.tensordot(matrix, pixels, 1).astype(np.float32)
        a, b, c = vector.astype(np.float32)
        for k, offset in enumerate(offsets.astype(np.float32)):
            there = inner + offset
            scale = 1 / (z * there + c)
            u, v = (x * there + a) * scale - np.float32(0.5), (y * there + b) * scale - np.float32(0.5)
            warped = cv2.remap(views[j].grey, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            scores[n, k] = window.score(warped)
    keep = np.argsort(-scores.max(1), axis=0, kind="stable")[: -(-len(others) // 2)]
    index, best = peak(np.take_along_axis(scores, keep[:, None], axis=0).mean(0))
    refined, score = depth.copy(), np.full(view.shape, -1, np.float32)
    refined[box] += (index - reach) * step
    score[box] = np.where(view.person[box], best, -1)
    return refined, score


def peak(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of the maximum along axis 0 of (n, h, w), as an index with sub-sample precision, and its value.

    A parabola through the maximum and its two neighbours gives the fraction; there is none at either end.
    """
    index = volume.argmax(0)
    middle = np.clip(index, 1, len(volume) - 2)
    left, centre, right = (np.take_along_axis(volume, (middle + k)[None], 0)[0] for k in (-1, 0, 1))
    curvature = np.minimum(left - 2 * centre + right, -1e-6)
    fraction = np.where(index == middle, np.clip((left - right) / (2 * curvature), -1, 1), 0)
    return (index + fraction).astype(np.float32), np.take_along_axis(volume, index[None], 0)[0]
