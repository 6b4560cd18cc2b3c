"""How long a capture's unit is, from the size of a head in it: an estimate, since heads differ."""

from collections.abc import Sequence

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.cameras.triangulation import triangulate
from pipeline.detect.look import Seen, Watcher
from pipeline.errors import DataError
from pipeline.head.fit.beside import BESIDE
from pipeline.head.model.prior import HeadPrior, numbers
from pipeline.settings.prior_config import WITHOUT_LANDMARKS

# Points that no expression moves far, of MediaPipe's 468 and of iBUG's 17 to 67: brows' ends, bridge and tip of the
# nose, nostrils and below, corners of the eyes, corners of the mouth
FACE = (70, 107, 336, 300, 168, 4, 98, 2, 327, 33, 133, 362, 263, 61, 291)
IBUG = np.array([17, 21, 22, 26, 27, 30, 31, 33, 35, 36, 39, 42, 45, 48, 54]) - 17
AGREE = 0.008  # cameras agree on a point that lies no farther from their rays than this share of their distance
ENOUGH = 8  # points; fewer make no head


def metres_per_unit(
    prior: HeadPrior, rig: Rig, pictures: Sequence[Sequence[np.ndarray]], iris_mm: float | None
) -> float:
    """Metres in one unit of a rig's world, from faces in `pictures` (T, C) of (H, W, 3) uint8 sRGB.

    From the prior's mean head, or, with `iris_mm`, from the width of the irises. Raises DataError where too few
    cameras see a face, or the prior knows no landmarks to compare it with.
    """
    if iris_mm is None and not prior.config.landmarks:
        raise DataError(f"{WITHOUT_LANDMARKS}; expected one that does, or calibrate.metres_per_unit or iris_mm")
    aim = common_point(rig)
    distance = float(np.median([np.linalg.norm(camera.centre - aim) for camera in rig.cameras]))
    watchers = [Watcher(camera.project(aim)[0]) for camera in rig.cameras]
    seen = [[watcher.look(picture) for watcher, picture in zip(watchers, step, strict=True)] for step in pictures]
    if iris_mm is not None:
        return _by_irises(rig, aim, seen, iris_mm)
    points = np.array([[one.points[list(FACE)] for one in step] for step in seen])
    weight = np.repeat([[one.score for one in step] for step in seen], len(FACE), -1).reshape(*points.shape[:-1], 1)
    found, _ = triangulate(rig, np.concatenate([np.nan_to_num(points), weight], -1), AGREE * distance)
    mean = prior.landmarks_from(prior.identity.mean.new_zeros(prior.config.identity_modes))
    # without BESIDE every unit of nine sequences came out 1 to 6 % too small; with the mean of the other three heads'
    # they lay between 2.3 % too small and 3.0 % too large
    rest = numbers(mean)[IBUG] / prior.config.units_per_metre + BESIDE[IBUG] / 1e3
    scales = [_ratio(rest[known], step[known]) for step in found if (known := np.isfinite(step[:, 0])).sum() >= ENOUGH]
    if not scales:
        raise DataError("no time step has a face that enough cameras see; expected one, or calibrate.metres_per_unit")
    return float(np.median(scales))


def _by_irises(rig: Rig, aim: np.ndarray, seen: Sequence[Sequence[Seen]], iris_mm: float) -> float:
    """Metres in one unit from how wide irises are, in the cameras that see each widest: half of them, the median."""
    widths = []
    for step in seen:
        for eye in range(2):
            rim = np.array([one.irises[eye, 1:] for one in step])  # (C, 4, 2): the centre comes first
            across = np.linalg.norm(rim - np.roll(rim, 2, axis=1), axis=-1).max(-1)  # pixels, the longer diameter
            units = [w * c.project(aim)[1] / c.intrinsics[0, 0] for w, c in zip(across, rig.cameras, strict=True)]
            known = np.sort([width for width in units if np.isfinite(width)])
            widths += list(known[len(known) // 2 :])
    if not widths:
        raise DataError("no camera sees an eye; expected faces, or calibrate.metres_per_unit")
    return iris_mm / 1e3 / float(np.median(widths))


def common_point(rig: Rig) -> np.ndarray:
    """The point (3,) that is nearest to all optical axes."""
    matrix, right = np.zeros((3, 3)), np.zeros(3)
    for camera in rig.cameras:
        axis = camera.camera_from_world[2, :3]
        across = np.eye(3) - np.outer(axis, axis)
        matrix += across
        right += across @ camera.centre
    return np.linalg.lstsq(matrix, right, rcond=1e-6)[0]


def _ratio(to: np.ndarray, points: np.ndarray) -> float:
    """Length in `to` (L, 3) per length in `points` (L, 3): the median over all pairs, which no rotation changes."""
    first, second = np.triu_indices(len(to), 1)
    return float(
        np.median(
            np.linalg.norm(to[first] - to[second], axis=-1) / np.linalg.norm(points[first] - points[second], axis=-1)
        )
    )
