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

LEAST = 1e-9  # of a homogeneous coordinate: a ray that runs across the neighbour's axis
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
        self.precision = 1 / np.sqrt(np.maximum(variance, 0) + NOISE_VARIANCE)

    def _sum(self, picture: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(picture, -1, (self.size, self.size), normalize=False, borderType=cv2.BORDER_CONSTANT)

    def score(self, warped: np.ndarray) -> np.ndarray:
        """ZNCC (h, w) float32 in [-1, 1] of the reference with a neighbour's picture warped onto it (h, w).

        Computed in place: it runs thousands of times, and half of what it took was new memory.
        """
        warped = warped * self.weight
        product = warped * self.grey
        mean = self._sum(warped)
        mean *= self.share
        covariance = self._sum(product)
        covariance *= self.share
        covariance -= np.multiply(mean, self.mean, out=product)
        variance = self._sum(np.multiply(warped, warped, out=warped))
        variance *= self.share
        variance -= np.multiply(mean, mean, out=mean)
        np.maximum(variance, 0, out=variance)
        variance += NOISE_VARIANCE
        covariance *= self.precision
        covariance /= np.sqrt(variance, out=variance)
        return covariance


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
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(inner.shape)]).astype(np.float32)
    offsets = np.arange(-reach, reach + 1) * step
    scores = np.empty((len(others), len(offsets), *inner.shape), np.float32)
    for n, j in enumerate(others):
        path = RayPath(*neighbour_from_reference(view.camera, views[j].camera), pixels)
        for k, offset in enumerate(offsets.astype(np.float32)):
            u, v = path.places(inner + offset)
            warped = cv2.remap(views[j].grey, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            scores[n, k] = window.score(warped)
    index, best = peak(_best_neighbours(scores))
    refined, score = depth.copy(), np.full(view.shape, -1, np.float32)
    refined[box] += (index - reach) * step
    score[box] = np.where(view.person[box], best, -1)
    return refined, score


class RayPath:
    """Where the points along the rays of a reference's pixels lie in a neighbour's picture."""

    def __init__(self, matrix: np.ndarray, vector: np.ndarray, pixels: np.ndarray):
        """`matrix` (3, 3) and `vector` (3,) as of `neighbour_from_reference`, `pixels` (3, h, w) float32,
        homogeneous.

        (x z + a) / (w z + c) at depth z is x / w, where the ray ends, plus (a - c x / w) / (w z + c).
        """
        along = np.tensordot(matrix.astype(np.float32), pixels, 1)
        self.w, (a, b, self.c) = along[2], vector.astype(np.float32)
        self.w[np.abs(self.w) < LEAST] = LEAST
        self.ends = along[:2]
        self.ends /= self.w
        self.ways = np.array([a, b])[:, None, None] - self.c * self.ends
        self.ends -= np.float32(0.5)

    def places(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows (h, w) float32, as array indices, at a depth (h, w) float32 in metres; overwrites it."""
        depth *= self.w
        depth += self.c
        np.reciprocal(depth, out=depth)
        u, v = self.ways[0] * depth, np.multiply(self.ways[1], depth, out=depth)
        u += self.ends[0]
        v += self.ends[1]
        return u, v


def _best_neighbours(scores: np.ndarray) -> np.ndarray:
    """Mean (k, h, w) over the half of the neighbours whose best score along the ray is highest, of (n, k, h, w).

    Counted by comparing pairs: sorting and gathering took a fifth of all the time of a cloud.
    """
    best = scores.max(1)
    half = -(-len(scores) // 2)
    total = np.zeros(scores.shape[1:], np.float32)
    for n, own in enumerate(best):
        better = sum(
            (own < other if m > n else own <= other).astype(np.uint8) for m, other in enumerate(best) if m != n
        )
        total += scores[n] * (better < half)
    total /= half
    return total


def peak(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of the maximum along axis 0 of (n, h, w), as an index with sub-sample precision, and its value.

    A parabola through the maximum and its two neighbours gives the fraction; there is none at either end.
    """
    index = volume.argmax(0)
    middle = np.clip(index, 1, len(volume) - 2)
    size = index.size
    place = middle.ravel() * size + np.arange(size)
    left, centre, right = (volume.reshape(-1).take(place + k * size).reshape(index.shape) for k in (-1, 0, 1))
    curvature = np.minimum(left - 2 * centre + right, -1e-6)
    fraction = np.where(index == middle, np.clip((left - right) / (2 * curvature), -1, 1), 0)
    best = np.where(index < middle, left, np.where(index > middle, right, centre))
    return (index + fraction).astype(np.float32), best
