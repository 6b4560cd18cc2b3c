"""Photo-consistency of one view with its neighbours: a plane sweep, and a refinement along curved surfaces.

Both compare square windows by zero-mean normalised cross-correlation (ZNCC, `correlation.py`). The sweep warps
neighbours by fronto-parallel planes (Collins 1996). The refinement warps them by the current depth map moved by a few
offsets along the rays, so that a window follows the surface however much it slants. Where a pixel's own windows hardly
tell one offset from another, as on dark skin, those of the pixels round it decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.stereo.depth_maps.correlation import BEND, Way, Windows, peak
from pipeline.stereo.depth_maps.views import View, neighbour_from_reference

SHARED = 0.5  # of the nats count: neighbours share the reference's noise
LOOSE = 1e-2  # the least precision of a peak, per step^2
BOUND = 3.0  # nats that a prior weighs at most: lips and nose stand out of the square they lie in
Spreads = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Found:
    """What one view's matching found: `depth` (h, w) float32 metres along z, `score` (h, w) float32, a correlation up
    to 1, and `precision` (h, w) float32, the depth's inverse variance up to a factor. Score and precision are 0 beside
    the person."""

    depth: np.ndarray
    score: np.ndarray
    precision: np.ndarray


def sweep(
    views: Sequence[View], i: int, others: Sequence[int], near: np.ndarray, far: np.ndarray, step: float, size: int
) -> Found:
    """Depth of view `i` by a plane sweep between per-pixel bounds.

    `near`, `far` (h, w) float32 metres along z, near > far where nothing is sought; `step` metres between planes.
    A pixel's score on a plane is the mean of its better half of the neighbours, which leaves room for occlusion.
    All is 0 where nothing was sought, and all that was found is held equally precise.
    """
    sought = near <= far
    depths = np.arange(near[sought].min(), far[sought].max() + step, step)
    windows, start = Windows(views[i].grey, views[i].person, size), np.zeros(views[i].shape, np.float32)
    volume = _better_half(windows.scores(*_neighbours(views, i, others), start, depths))
    planes = depths[:, None, None]
    volume[(planes < near) | (planes > far)] = -1
    unknown = np.zeros(start.shape, np.float32)
    index, _ = peak(volume, unknown, unknown, windows.spans, BOUND)
    depth = np.where(sought, depths[0] + index * step, 0).astype(np.float32)
    return Found(depth, np.where(sought, volume.max(0), 0), sought.astype(np.float32))


def refine(
    views: Sequence[View],
    i: int,
    others: Sequence[int],
    depth: np.ndarray,
    step: float,
    reach: int,
    size: int,
    spreads: Spreads,
) -> Found:
    """Best depth of view `i` within `reach` steps of `step` metres either side of `depth` (h, w) float32.

    `spreads` are those of `settle`, in pixels and metres. The score is the root mean square of the neighbours' ZNCC.
    """
    view = views[i]
    windows, offsets = Windows(view.grey, view.person, size), np.arange(-reach, reach + 1) * step
    nats = windows.nats(*_neighbours(views, i, others), depth, offsets) * view.person
    loose = [(edge, off / step) for edge, off in spreads]
    index, precision = settle(nats, windows.spans, size, loose)
    nearest = np.clip(np.round(index), 0, 2 * reach).astype(np.int64)
    score = mean_correlation(np.take_along_axis(nats, nearest[None], 0)[0] / max(len(others), 1))
    moved = np.where(view.person, depth + (index - reach) * np.float32(step), depth)
    return Found(moved, score * view.person, precision * view.person / np.float32(step**2))


def explained(
    views: Sequence[View], i: int, others: Sequence[int], depths: Sequence[np.ndarray], size: int
) -> list[np.ndarray]:
    """Nats per pixel (h, w) float32 by which the neighbours match view `i` on each of the surfaces `depths`, (h, w)
    float32; 0 beside the person."""
    view, here = views[i], np.zeros(1, np.float32)
    windows, beside = Windows(view.grey, view.person, size), _neighbours(views, i, others)
    return [windows.nats(*beside, depth, here)[0] * view.person for depth in depths]


def settle(nats: np.ndarray, spans: np.ndarray, size: int, spreads: Spreads) -> tuple[np.ndarray, np.ndarray]:
    """Most likely offset of every pixel, an index with a fraction, and its inverse variance, (h, w) float32 each.

    `nats` (k, h, w) per pixel, from windows of `size` pixels. `spreads` are squares, widest first: edge in pixels, and
    by how many steps a pixel's offset differs from the mean of its square, a standard deviation. What a square of
    pixels says together is the prior of the next smaller one, the last one's that of the pixel. So texture that stands
    out of the noise decides by itself, and without it a pixel follows those around it.
    """
    place, precision = np.zeros((2, *nats.shape[1:]), np.float32)
    sums = np.empty_like(nats)
    for edge, off in spreads:
        for one, total in zip(nats, sums, strict=True):
            cv2.boxFilter(SHARED * one, -1, (edge, edge), total, normalize=False, borderType=cv2.BORDER_CONSTANT)
        place, precision = peak(sums, place, precision, spans, BOUND)
        precision = 1 / (1 / np.maximum(precision, LOOSE) + np.float32(off**2))
    return peak(nats * np.float32(SHARED * size**2), place, precision, spans, BOUND)


def mean_correlation(nats: np.ndarray) -> np.ndarray:
    """The correlation in [0, 1] that is worth so many nats per pixel, as `evidence` counts them for one neighbour."""
    return np.sqrt(2 * nats / (1 + 2 * BEND * nats))


def _neighbours(views: Sequence[View], i: int, others: Sequence[int]) -> tuple[list[np.ndarray], list[Way]]:
    """The pictures of view `i`'s neighbours, and the ways there, as `Windows` asks for them."""
    return [views[j].grey for j in others], [neighbour_from_reference(views[i].camera, views[j].camera) for j in others]


def _better_half(scores: np.ndarray) -> np.ndarray:
    """Mean of the higher half of scores per pixel, by insertion: np.sort along axis 0 takes four times as long."""
    best = [np.full(scores[0].shape, -1, np.float32) for _ in range(-(-len(scores) // 2))]
    for score in scores:
        for rank, higher in enumerate(best):
            best[rank], score = np.maximum(higher, score), np.minimum(higher, score)
    return sum(best[1:], best[0]) / len(best)
