"""Cameras held against tracks: points followed from picture to picture, farther than any two neighbours see in common.

Errors that grow slowly round a person are small between neighbours and show where one point must fit many views.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm.matching.matches import Pairs, Seen

LONG = 4  # views that see a point at least: what two or three share, nearly any cameras fit
ROUNDS = 3  # of linear triangulation weighed by depth, which then minimises pixels


@dataclass(frozen=True)
class Tracks:
    """`count` points and the sights of them: `point` (s,) and `view` (s,) int64, `pixels` (s, 2) float64."""

    count: int
    point: np.ndarray
    view: np.ndarray
    pixels: np.ndarray


def tracks_of(seen: Sequence[Seen], pairs: Pairs, views: Sequence[int]) -> Tracks:
    """Points that LONG or more of the given views see, by chained matches; `views` are numbered as they are given.

    Chains that come back to a view at another place hold a wrong match and do not count.
    """
    starts = np.cumsum([0, *(len(view.pixels) for view in seen)])
    used = [np.zeros((0, 2), int), *(i + starts[list(p)] for p, i in pairs.items() if set(p) <= set(views))]
    first, second = np.concatenate(used).T
    links = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(starts[-1], starts[-1]))
    _, chain = connected_components(links, directed=False)
    view = np.repeat(np.arange(len(seen)), np.diff(starts))
    length = np.bincount(chain)
    differing = np.bincount(np.unique(chain * len(seen) + view) // len(seen), minlength=len(length))
    good = (length >= LONG) & (length == differing)
    sights = np.flatnonzero(good[chain])
    number = np.full(len(seen), -1)
    number[list(views)] = np.arange(len(views))
    pixels = np.concatenate([v.pixels for v in seen])[sights]
    return Tracks(int(good.sum()), (np.cumsum(good) - 1)[chain[sights]], number[view[sights]], pixels)


def off_tracks(cameras: Sequence[Camera], tracks: Tracks) -> float:
    """Pixels that the points which fit the cameras best lie off the sights of them (median); infinite without any."""
    if not tracks.count:
        return np.inf
    views = np.stack([camera.intrinsics @ camera.camera_from_world[:3] for camera in cameras])[tracks.view]
    rows = tracks.pixels[..., None] * views[:, 2:] - views[:, :2]  # (s, 2, 4), times a point: pixels off times depth
    weight = np.ones(len(rows))
    for _ in range(ROUNDS):
        weighed = rows * weight[:, None, None]
        squares = np.zeros((tracks.count, 3, 4))
        np.add.at(squares, tracks.point, np.einsum("ski,skj->sij", weighed[..., :3], weighed))
        # parallel rays leave depth open
        least = 1e-12 * np.trace(squares[..., :3], axis1=1, axis2=2)[:, None, None]
        points = np.linalg.solve(squares[..., :3] + least * np.eye(3), -squares[..., 3:])[:, :, 0]
        depth = np.einsum("sj,sj->s", views[:, 2, :3], points[tracks.point]) + views[:, 2, 3]
        weight = 1 / np.maximum(np.abs(depth), 1e-9)
    off = np.einsum("skj,sj->sk", rows[..., :3], points[tracks.point]) + rows[..., 3]
    return float(np.median(np.linalg.norm(off, axis=1) / np.maximum(depth, 1e-9)))
