"""Depth maps of all cameras of one time step on the CPU: sweep, let the views correct each other, refine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.stereo.depth_maps.consistency import (
    agreed,
    agreement,
    camera_normals,
    fill,
    padded,
    smooth,
    splat,
    unproject,
)
from pipeline.stereo.depth_maps.hull import carve, depth_bounds, footprint
from pipeline.stereo.depth_maps.matching import Found, Spreads, explained, refine, sweep
from pipeline.stereo.depth_maps.views import View, make_views, neighbours

SWEPT_PIXELS = 200  # the sweep works on pictures with no side longer than this
HULL_VOXEL = 3.6  # all lengths from here on in footprints: what one pixel covers at the rig's target
PLANE_STEP = 3.2  # between planes of the sweep: about one pixel of disparity at 20 degrees
COARSE_PASSES = ((1.8, 3), (0.7, 2))  # step, and how many either side
# Depths agreed on between the passes are the next one's guess: with a single first pass lips of 905 stayed flatter
# (0.65 of the mouth covered within 2 mm, 0.81 with two; SEN-02-seven_five:4)
FINE_PASSES = ((1.1, 3), (1.1, 3), (0.55, 2))
COARSE_SPREADS = ((9, 0.5), (5, 0.25))  # pixels of a square's edge, and how far depths in it stray from their mean
FINE_SPREADS = ((21, 0.5), (9, 0.25))
LAST_SPREADS = ((21, 0.35), (9, 0.18))  # of the last pass, whose guess is better
EDGE = 4.0  # depth steps of this height survive the smoothing of guesses
AGREEMENT = 2.7  # two views agree when their depths differ by less
SWEEP_SCORE = 0.05  # correlations of the sweep and the coarse passes below it are noise; 0.1 costs 0.016 on dark skin
ROUNDS = 2  # of guesses from other views at the coarsest level; one round costs 0.012 of completeness

# A guide counts where it is so near to what was found, and explains the windows of a square at least by such a share as
# well: where skin has hardly any texture, but not where a beard or glasses stand before it
GUIDED, EXPLAINED = 9e-3, 0.8  # metres; of the nats
COMPARED = 9  # pixels of a square's edge

# Makes depth maps (h, w) float32, 0 where it knows nothing, for some cameras, of a surface that it finds in the points
# and normals (n, 3), world metres, of a first cloud; None where it finds none
Guide = Callable[[np.ndarray, np.ndarray, Sequence[Camera]], Sequence[np.ndarray] | None]
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

    def confirmed(self, counts: int | np.ndarray) -> np.ndarray:
        """Pixels (C, H, W) bool whose depth at least `counts` views, one number or (C,), agree on, the view itself
        included."""
        needed = np.broadcast_to(counts, len(self.depths))[:, None, None]
        return np.einsum("iihw->ihw", self.seen_by) & (self.seen_by.sum(1, dtype=np.uint8) >= needed)


def depth_maps(
    rgb: Pictures,
    alpha: Pictures,
    cameras: Sequence[Camera],
    others: int,
    window: int,
    min_score: float,
    guide: Guide | None = None,
) -> DepthMaps:
    """Depth maps of one time step, coarse to fine.

    `rgb` (h, w, 3) uint8 and `alpha` (h, w) uint8 of each camera, of its size. Each view is matched with `others`
    neighbours in windows of `window` pixels; matches that score under `min_score` (ZNCC) are not trusted. What the
    first fine pass found is moved to the surface that the `guide` finds in it, if one is given. Raises DataError when
    the silhouettes have no common volume.
    """
    levels = shrinks(largest(cameras))
    pairs = neighbours(cameras, others)
    views = make_views(rgb, alpha, cameras, levels[0])
    pixel = footprint(views)
    voxels = carve(views, HULL_VOXEL * pixel)
    bounds = [depth_bounds(voxels, HULL_VOXEL * pixel, view) for view in views]
    found = [sweep(views, i, pairs[i], *bounds[i], PLANE_STEP * pixel, window) for i in range(len(views))]
    found = [replace(one, depth=cv2.medianBlur(one.depth, 5)) for one in found]
    guides = _guess(views, found, bounds)
    for _ in range(ROUNDS):
        found = _refine(views, pairs, guides, COARSE_PASSES, COARSE_SPREADS, window)
        guides = _guess(views, found, bounds)
    for shrink in levels[1:] or levels:
        views = make_views(rgb, alpha, cameras, shrink)
        guides = [cv2.resize(guide, view.shape[::-1]) for guide, view in zip(guides, views, strict=True)]
        for wide in FINE_PASSES[:-1]:
            found = _refine(views, pairs, guides, (wide,), FINE_SPREADS, window)
            guides = _agreed(views, found)
            if guide:  # once: what it moves, the passes that follow correct
                guides, guide = _guided(guide, views, pairs, found, guides, window), None
            del found  # a tenth of the memory
        found = _refine(views, pairs, guides, FINE_PASSES[-1:], LAST_SPREADS, window)
        guides = depths = [one.depth for one in found]
    trusted = [(one.score > min_score) & view.person for one, view in zip(found, views, strict=True)]
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


def _guess(views: Sequence[View], found: Sequence[Found], bounds: Sequence[Bounds]) -> list[np.ndarray]:
    """A dense depth map (h, w) float32 for every view from all points that at least three views agree on.

    A surface that one view sees at a grazing angle, where its own windows fail, another sees from the front.
    """
    pixel, confirmed = footprint(views), _confirmed(views, found)
    cloud = np.concatenate(
        [unproject(view.camera, one.depth)[seen] for view, one, seen in zip(views, found, confirmed, strict=True)]
    )
    guesses = []
    for view, (near, far) in zip(views, bounds, strict=True):
        depth = fill(*splat(cloud, view.camera))
        depth = np.where(near <= far, np.clip(depth, near, far), depth)
        guesses.append(smooth(depth, EDGE * pixel))
    return guesses


def _confirmed(views: Sequence[View], found: Sequence[Found]) -> list[np.ndarray]:
    """Pixels (h, w) bool of each view whose depth three views agree on. Raises DataError when there is none."""
    depths = [one.depth for one in found]
    trusted = [(one.score > SWEEP_SCORE) & (one.depth > 0) for one in found]
    maps = DepthMaps(padded(depths), agreement(views, depths, trusted, AGREEMENT * footprint(views)))
    confirmed = [view.camera.own(seen) for view, seen in zip(views, maps.confirmed(3), strict=True)]
    if not any(seen.any() for seen in confirmed):
        raise DataError("no three cameras agree on any point; expected overlapping, sharp pictures and right cameras")
    return confirmed


def _guided(
    guide: Guide,
    views: Sequence[View],
    pairs: list[list[int]],
    found: Sequence[Found],
    guesses: list[np.ndarray],
    window: int,
) -> list[np.ndarray]:
    """The guesses (h, w), moved to the guide's surface where that is near and explains the pictures."""
    points, normals, edge = [], [], EDGE * footprint(views)
    for view, one, seen in zip(views, found, _confirmed(views, found), strict=True):
        points.append(unproject(view.camera, one.depth)[seen])
        own = camera_normals(view.camera, cv2.bilateralFilter(one.depth, 5, edge, 2))
        normals.append((own @ view.camera.camera_from_world[:3, :3].astype(np.float32))[seen])
    surface = guide(np.concatenate(points), np.concatenate(normals), [view.camera for view in views])
    if surface is None:
        return guesses
    result = []
    for i, (guess, near) in enumerate(zip(guesses, surface, strict=True)):
        moved = np.where((near > 0) & (np.abs(near - guess) < GUIDED), near, guess)
        nats = explained(views, i, pairs[i], (guess, moved), window)
        before, after = (cv2.boxFilter(one, -1, (COMPARED, COMPARED)) for one in nats)
        result.append(np.where(after >= EXPLAINED * before, moved, guess))
    return result


def _agreed(views: Sequence[View], found: Sequence[Found]) -> list[np.ndarray]:
    """What all views found, in each view; 905's median is 0.03 mm less for it, its completeness 0.013."""
    depths, precisions = [one.depth for one in found], [one.precision for one in found]
    return agreed(views, depths, precisions, AGREEMENT * footprint(views))


def _refine(
    views: Sequence[View],
    pairs: list[list[int]],
    guides: Sequence[np.ndarray],
    passes: Passes,
    spreads: Spreads,
    window: int,
) -> list[Found]:
    pixel = footprint(views)
    lengths = tuple((edge, off * pixel) for edge, off in spreads)
    results = []
    for i, depth in enumerate(guides):
        for step, reach in passes:
            one = refine(views, i, pairs[i], depth, step * pixel, reach, window, lengths)
            depth = one.depth
        results.append(one)
    return results
