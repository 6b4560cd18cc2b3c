"""Cameras that do not fit, posed anew by what they see together with the ones that do: those stay as they are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm.adjust import adjust
from pipeline.capture.sfm.matching.epipolar import distances
from pipeline.capture.sfm.matching.matches import FEWEST, Pairs, Seen
from pipeline.errors import DataError


def repose(seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Pairs, off: Sequence[int]) -> list[Camera]:
    """The cameras, those numbered in `off` with new poses: found from points that others see, then refined with them.

    Raises DataError naming a camera that shares too few such points with the others.
    """
    good = [i for i in range(len(cameras)) if i not in off]
    points = known_points(seen, cameras, pairs, good)
    result = list(cameras)
    for number in off:
        result[number] = _resected(seen, cameras[number], pairs, points, number)
    return list(adjust(seen, result, focal=False, shared=False, fixed=good).cameras)


def known_points(
    seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Pairs, good: Sequence[int]
) -> dict[tuple[int, int], np.ndarray]:
    """Points (3,) by camera and feature: those that a pair of good cameras agrees on."""
    found = {}
    for (a, b), index in pairs.items():
        if a in good and b in good:
            in_a, in_b = seen[a].pixels[index[:, 0]], seen[b].pixels[index[:, 1]]
            near = distances(cameras[a], cameras[b], in_a, in_b) < seen[a].view.tolerance
            for (i, j), point in zip(index[near], between(cameras[a], cameras[b], in_a[near], in_b[near]), strict=True):
                found[a, int(i)] = found[b, int(j)] = point
    return found


def known_to(
    seen: Sequence[Seen], pairs: Pairs, points: dict[tuple[int, int], np.ndarray], number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where a camera sees points that others know, (n, 2) pixels and (n, 3)."""
    pixels, known = [], []
    for (a, b), index in pairs.items():
        if number in (a, b):
            own, other = (0, 1) if a == number else (1, 0)
            for match in index:
                point = points.get(((a, b)[other], int(match[other])))
                if point is not None:
                    pixels.append(seen[number].pixels[match[own]])
                    known.append(point)
    return np.array(pixels).reshape(-1, 2), np.array(known).reshape(-1, 3)


def between(a: Camera, b: Camera, in_a: np.ndarray, in_b: np.ndarray) -> np.ndarray:
    """Points (m, 3) that two cameras see at pixels (m, 2) each: least squares of the projections' linear form."""
    rows = []
    for camera, pixels in ((a, in_a), (b, in_b)):
        matrix = camera.intrinsics @ camera.camera_from_world[:3]
        rows += [pixels[:, k, None] * matrix[2] - matrix[k] for k in range(2)]
    homogeneous = np.linalg.svd(np.stack(rows, 1))[2][:, -1]  # (m, 4): the null vectors of (m, 4, 4)
    return homogeneous[:, :3] / homogeneous[:, 3:]


def _resected(
    seen: Sequence[Seen], camera: Camera, pairs: Pairs, points: dict[tuple[int, int], np.ndarray], number: int
) -> Camera:
    """A camera at the pose that most of the points it shares with others agree with."""
    pixels, known = known_to(seen, pairs, points, number)
    found = None
    if len(known) >= FEWEST:
        matrix = camera.intrinsics
        lens = pycolmap.Camera(
            model="PINHOLE",
            width=camera.width,
            height=camera.height,
            params=[matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]],
        )
        options = pycolmap.AbsolutePoseEstimationOptions()
        options.ransac.max_error, options.ransac.random_seed = 2 * seen[number].view.tolerance, 1
        found = pycolmap.estimate_and_refine_absolute_pose(pixels, known, lens, options)
    if found is None or found["num_inliers"] < FEWEST:
        raise DataError(
            f"camera {camera.name}: only {len(known)} points that other cameras agree on are seen by it too; expected "
            f"{FEWEST} that fit one pose: leave it out (off_cameras: drop)"
        )
    return replace(camera, camera_from_world=np.vstack([found["cam_from_world"].matrix(), [0, 0, 0, 1]]))
