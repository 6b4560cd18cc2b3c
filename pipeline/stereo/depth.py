"""Depth maps of all cameras of one time step on the CPU: sweep, let the views correct each other, refine."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.stereo.consistency import agreement, fill, padded, smooth, splat, unproject
from pipeline.stereo.hull import carve, depth_bounds, footprint
from pipeline.stereo.matching import refine, sweep
from pipeline.stereo.views import View, make_views, neighbours

SWEPT_PIXELS = 200  # the sweep works on pictures with no side longer than this
HULL_VOXEL = 3.6  # all lengths from here on in footprints: what one pixel covers at the rig's target
PLANE_STEP = 3.2  # between planes of the sweep: about one pixel of disparity at 20 degrees
COARSE_PASSES = ((1.8, 3), (0.7, 2))  # step, and how many either side
FINE_PASSES = ((1.1, 3), (0.55, 2))
EDGE = 4.0  # depth steps of this height survive smoothing; 2.7 costs 0.008 of completeness
AGREEMENT = 2.7  # two views agree when their depths differ by less
SWEEP_SCORE = 0.2  # matches of the sweep below it are noise
ROUNDS = 2  # of guesses from other views at the coarsest level; one round costs 0.012 of completeness

Pictures = Sequence[np.ndarray]
Passes = tuple[tuple[float, int], ...]
Bounds = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DepthMaps:
    """What the views of one time step see, padded to the largest.

    `depths` (C, H, W) float32 metres along z; `seen_by` (C, C, H, W) bool: [i, j] where view j confirms the depth of
    view i at view i's pixels, [i, i] where view i's own match is trusted.
    """

    depths: np.ndarray
    seen_by: np.ndarray

    def confirmed(self, count: int) -> np.ndarray:
        """Pixels (C, H, W) bool whose depth at least `count` views agree on, the view itself included."""
        return np.einsum("iihw->ihw", self.seen_by) & (self.seen_by.sum(1, dtype=np.uint8) >= count)


def depth_maps(
    rgb: Pictures, alpha: Pictures, cameras: Sequence[Camera], others: int, window: int, min_score: float
) -> DepthMaps:
    """Depth maps of one time step, coarse to fine.

    `rgb` (h, w, 3) uint8 and `alpha` (h, w) uint8 of each camera, of its size. Each view is matched with `others`
    neighbours in windows of `window` pixels; matches that score under `min_score` (ZNCC) are not trusted. Raises
    DataError when the silhouettes have no common volume.
    """
    levels = shrinks(largest(cameras))
    pairs = neighbours(cameras, others)
    views = make_views(rgb, alpha, cameras, levels[0])
    pixel = footprint(views)
    voxels = carve(views, HULL_VOXEL * pixel)
    bounds = [depth_bounds(voxels, HULL_VOXEL * pixel, view) for view in views]
    swept = [sweep(views, i, pairs[i], *bounds[i], PLANE_STEP * pixel, window) for i in range(len(views))]
    depths = [cv2.medianBlur(depth, 5) for depth, _ in swept]
    trusted = [(score > SWEEP_SCORE) & (depth > 0) for depth, (_, score) in zip(depths, swept, strict=True)]
    guides = _guess(views, depths, trusted, bounds)
    for _ in range(ROUNDS):
        depths, scores = _refine(views, pairs, guides, COARSE_PASSES, window)
        guides = _guess(views, depths, [score > SWEEP_SCORE for score in scores], bounds)
    for shrink in levels[1:] or levels:
        views = make_views(rgb, alpha, cameras, shrink)
        guides = [cv2.resize(guide, view.shape[::-1]) for guide, view in zip(guides, views, strict=True)]
        depths, scores = _refine(views, pairs, guides, FINE_PASSES, window)
        guides = depths
    trusted = [(score > min_score) & view.person for score, view in zip(scores, views, strict=True)]
    return DepthMaps(padded(depths), agreement(views, depths, trusted, AGREEMENT * footprint(views)))


def largest(cameras: Sequence[Camera]) -> Camera:
    """The camera with the most pixels."""
    return max(cameras, key=lambda camera: camera.width * camera.height)


def shrinks(camera: Camera) -> list[int]:
    """Powers of two from the sweep's resolution to the full one, e.g. [4, 2, 1]."""
    largest = 1
    while max(camera.width, camera.height) / largest > SWEPT_PIXELS:
        largest *= 2
    return [largest >> level for level in range(largest.bit_length())]


def _guess(
    views: Sequence[View], depths: Sequence[np.ndarray], trusted: Sequence[np.ndarray], bounds: Sequence[Bounds]
) -> list[np.ndarray]:
    """A dense depth map (h, w) float32 for every view from all points that at least three views agree on.

    A surface that one view sees at a grazing angle, where its own windows fail, another sees from the front.
    """
    pixel = footprint(views)
    found = DepthMaps(padded(depths), agreement(views, depths, trusted, AGREEMENT * pixel))
    confirmed = found.confirmed(3)
    if not confirmed.any():
        raise DataError("no three cameras agree on any point; expected overlapping, sharp pictures and right cameras")
    cloud = np.concatenate(
        [unproject(view.camera, d)[view.camera.own(c)] for view, d, c in zip(views, depths, confirmed, strict=True)]
    )
    guesses = []
    for view, (near, far) in zip(views, bounds, strict=True):
        depth = fill(*splat(cloud, view.camera))
        depth = np.where(near <= far, np.clip(depth, near, far), depth)
        guesses.append(smooth(depth, EDGE * pixel))
    return guesses


def _refine(
    views: Sequence[View], pairs: list[list[int]], guides: Sequence[np.ndarray], passes: Passes, window: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pixel = footprint(views)
    depths, scores = [], []
    for i, depth in enumerate(guides):
        for step, reach in passes:
            depth, score = refine(views, i, pairs[i], depth, step * pixel, reach, window)
            depth = smooth(depth, EDGE * pixel)
        depths.append(depth)
        scores.append(score)
    return depths, scores
