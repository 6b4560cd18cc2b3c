"""Cameras whose pictures come some frames late or early, found by how a face moves in them and in all the others."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.cameras.triangulation import triangulate
from pipeline.capture.plausible import common_point
from pipeline.detect.look import Watcher

# Of MediaPipe's 468 points: lips, inner and outer, chin, brows, nose: what moves, and what shows the head's own motion.
MOVING = (
    61,
    39,
    0,
    269,
    291,
    405,
    17,
    181,
    78,
    81,
    13,
    311,
    308,
    402,
    14,
    178,
    152,
    148,
    377,
    70,
    107,
    336,
    300,
    1,
    168,
)
MOST = 6  # frames that are tried
FEWEST = 8  # frames that must be left to compare, whatever is tried
# A camera is late when what it sees fits another frame's motion better by this factor: 1 for cameras in time.
BETTER = 1.3
AGREE = 0.01  # cameras agree on a point that lies no farther from their rays than this share of their distance


def watch(rig: Rig, aim: np.ndarray, pictures: Callable[[str], Iterable[np.ndarray]]) -> np.ndarray:
    """Points of the face (T, C, L, 3) as x, y and a weight, 0 where it is not seen, in the cameras' `pictures` by name.

    `aim` (3,), world: where the person is.
    """
    columns = []
    for camera in rig.cameras:
        watcher = Watcher(camera.project(aim)[0])
        found = [watcher.look(picture) for picture in pictures(camera.name)]
        points = np.stack([one.points[list(MOVING)] for one in found])
        weight = np.broadcast_to(np.array([one.score for one in found])[:, None, None], (*points.shape[:2], 1))
        columns.append(np.concatenate([np.nan_to_num(points), weight], -1))
    return np.stack(columns, 1)


def late_cameras(rig: Rig, seen: np.ndarray) -> dict[int, int]:
    """Numbers of the cameras that lag behind the others, with the frames they are late by (early below 0).

    `seen` (T, C, L, 3) of successive frames: x, y in pixels and a weight. Constant errors of a camera's detections do
    not count: compared is how points move. Where nobody moves, nothing is found.
    """
    if len(seen) < FEWEST + 1 or len(rig.cameras) < 3:
        return {}
    aim = common_point(rig.cameras)
    distance = float(np.median([np.linalg.norm(camera.centre - aim) for camera in rig.cameras]))
    result = {}
    for i, camera in enumerate(rig.cameras):
        others = [j for j in range(len(rig.cameras)) if j != i]
        rest = replace(rig, cameras=tuple(rig.cameras[j] for j in others))
        points, _ = triangulate(rest, seen[:, others], AGREE * distance)
        expected, _ = camera.project(points)
        off = misfits(expected, np.where(seen[:, i, :, 2:] > 0, seen[:, i, :, :2], np.nan))
        if off and off[best := min(off, key=lambda lag: (off[lag], abs(lag)))] * BETTER < off.get(0, 0.0):
            result[i] = best
    return result


def misfits(expected: np.ndarray, found: np.ndarray) -> dict[int, float]:
    """By the frames that `found` (T, L, 2) is taken to be late: how its motion differs from the `expected` one, pixels
    (root mean square over frames, median over points); NaN is unknown."""
    result = {}
    for lag in range(-MOST, MOST + 1):
        late = found[max(lag, 0) : len(found) + min(lag, 0)]
        off = late - expected[max(-lag, 0) : len(expected) - max(lag, 0)]
        known = np.isfinite(off.sum(-1))
        enough = known.sum(0) >= FEWEST
        if enough.any():
            off = np.where(known[..., None], off, np.nan)[:, enough]
            off = off - np.nanmean(off, axis=0)
            result[lag] = float(np.median(np.sqrt(np.nanmean((off**2).sum(-1), axis=0))))
    return result
