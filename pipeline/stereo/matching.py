"""Photo-consistency of one view with its neighbours: a plane sweep, and a refinement along curved surfaces.

Both compare square windows by zero-mean normalised cross-correlation (ZNCC, `correlation.py`). The sweep warps
neighbours by fronto-parallel planes (Collins 1996). The refinement warps them by the current depth map moved by a few
offsets along the rays, so that a window follows the surface however much it slants.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.stereo.correlation import Windows, best_neighbours, peak
from pipeline.stereo.views import View, neighbour_from_reference


def sweep(
    views: Sequence[View], i: int, others: Sequence[int], near: np.ndarray, far: np.ndarray, step: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of view `i` by a plane sweep between per-pixel bounds.

    `near`, `far` (h, w) float32 metres along z, near > far where nothing is sought; `step` metres between planes.
    A pixel's score on a plane is the mean of its better half of the neighbours, which leaves room for occlusion.
    Returns depth (h, w) float32 metres and score (h, w) float32, both 0 where nothing was sought.
    """
    sought = near <= far
    depths = np.arange(near[sought].min(), far[sought].max() + step, step)
    windows, start = Windows(views[i].grey, views[i].person, size), np.zeros(views[i].shape, np.float32)
    volume = _better_half(_scores(windows, views, i, others, start, depths))
    planes = depths[:, None, None]
    volume[(planes < near) | (planes > far)] = -1
    index, score = peak(volume, windows.spans)
    return np.where(sought, depths[0] + index * step, 0).astype(np.float32), np.where(sought, score, 0)


def refine(
    views: Sequence[View], i: int, others: Sequence[int], depth: np.ndarray, step: float, reach: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Best depth of view `i` within `reach` steps of `step` metres either side of `depth` (h, w) float32.

    Returns depth (h, w) float32 metres and its score (h, w) float32, -1 beside the person; every pixel uses the half of
    its neighbours that match best at any offset.
    """
    view = views[i]
    windows, offsets = Windows(view.grey, view.person, size), np.arange(-reach, reach + 1) * step
    scores = _scores(windows, views, i, others, depth, offsets)
    index, score = peak(best_neighbours(scores, windows.spans), windows.spans)
    return np.where(view.person, depth + (index - reach) * np.float32(step), depth), np.where(view.person, score, -1)


def _scores(
    windows: Windows, views: Sequence[View], i: int, others: Sequence[int], depth: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """Scores (n, k, h, w) float32 of view `i` with `others` on the surface `depth` moved by each of `offsets`."""
    ways = [neighbour_from_reference(views[i].camera, views[j].camera) for j in others]
    return windows.scores([views[j].grey for j in others], ways, depth, offsets)


def _better_half(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the higher half of scores per pixel, by insertion: np.sort along axis 0 takes four times as long."""
    best = [np.full(scores[0].shape, -1, np.float32) for _ in range(-(-len(scores) // 2))]
    for score in scores:
        for rank, higher in enumerate(best):
            best[rank], score = np.maximum(higher, score), np.minimum(higher, score)
    return sum(best) / len(best)
