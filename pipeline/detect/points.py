"""Points of the face in space from what the cameras of a rig saw of it: iBUG's landmarks and the irises' centres."""

from dataclasses import dataclass

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.cameras.triangulation import triangulate
from pipeline.detect.irises import INNER, OUTER

# The points of MediaPipe's 468 that lie nearest to iBUG's 17 to 67, in that order
IBUG = (
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows, from the subject's right to the left
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),  # bridge and tip of the nose, below the nostrils
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # right eye, left eye
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer rim of the lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner rim
)
# Pairs of upper and lower lid above each other, right eye and left eye: among the above, and in the eye's own contour
LIDS = (((20, 24), (21, 23)), ((26, 30), (27, 29)))
CONTOUR_LIDS = (((13, 5), (11, 3)), ((11, 3), (13, 5)))
LID_LANDMARKS = tuple(sorted(index for pairs in LIDS for pair in pairs for index in pair))  # not the corners
# The networks see lids move less than they do. How much less does not depend on the head: over the 102 frames of
# captures 901, 904 and 905 the mean of both gaps, so enlarged, is 0.42 to 0.65 mm off (rms) once a subject's own
# constant is taken off, and either network alone 0.53 to 0.85 mm.
CONTOUR_GAIN, FACE_GAIN = 1.7, 2.6
LID_SHIFT = 8.6e-3  # metres that are then too much, give or take a millimetre: the rest is part of a point's own bias


@dataclass(frozen=True)
class Detections:
    """What C cameras saw in T steps: `score` (T, C), `points` (T, C, 468, 2), `eyes` (T, C, 2) whether an eye was seen,
    `lids` (T, C, 2, 16, 2), `irises` (T, C, 2, 5, 2); pixels, the subject's left eye first."""

    score: np.ndarray
    points: np.ndarray
    eyes: np.ndarray
    lids: np.ndarray
    irises: np.ndarray


@dataclass(frozen=True)
class FacePoints:
    """`points` (T, 51, 3) and `irises` (T, 2, 3), left first, world metres, NaN where unknown; `views` (T, 51) and
    `iris_views` (T, 2): how many cameras agree on each."""

    points: np.ndarray
    views: np.ndarray
    irises: np.ndarray
    iris_views: np.ndarray


def triangulate_face(rig: Rig, seen: Detections, agree: float) -> FacePoints:
    """Landmarks and irises in space; cameras agree that see a point no farther than `agree` metres off."""
    face = _weighted(seen.points[..., list(IBUG), :], seen.score[..., None])
    # an eye seen from the side says little: it counts by how wide it is, against the camera that sees it widest
    wide = np.linalg.norm(seen.lids[..., OUTER, :] - seen.lids[..., INNER, :], axis=-1) * seen.eyes
    facing = (wide / np.maximum(wide.max(1, keepdims=True), 1e-9)) ** 2  # (T, C, 2)
    order = [[index for pair in pairs for index in pair] for pairs in CONTOUR_LIDS]
    right, left = (seen.lids[:, :, eye, order[side]] for side, eye in enumerate((1, 0)))
    contours = _weighted(np.concatenate([right, left], 2), np.repeat(facing[..., ::-1], 4, -1))
    irises = _weighted(seen.irises[..., 0, :], facing)
    points, views = triangulate(rig, np.concatenate([face, contours, irises], 2), agree)
    count = len(IBUG)
    places = [index for pairs in LIDS for pair in pairs for index in pair]  # upper and lower in turn
    contour, contour_views = points[:, count:-2], views[:, count:-2]
    points[:, places] = _lids(points[:, places], contour)
    views[:, places] = np.maximum(views[:, places], contour_views)
    return FacePoints(points[:, :count], views[:, :count], points[:, -2:], views[:, -2:])


def _weighted(pixels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(..., L, 3): pixels (..., L, 2) with weights that broadcast to (..., L)."""
    return np.concatenate([pixels, np.broadcast_to(weight, pixels.shape[:-1])[..., None]], -1)


def _lids(face: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Upper and lower lids in turn (T, 8, 3) from where the two networks see them, (T, 8, 3) each, NaN where unknown.

    The lower lid where both see it on average, the upper one above it by the mean of the enlarged gaps, shortened.
    """
    lower = _mean(face[:, 1::2], contour[:, 1::2])
    gap = _mean(FACE_GAIN * (face[:, ::2] - face[:, 1::2]), CONTOUR_GAIN * (contour[:, ::2] - contour[:, 1::2]))
    gap = gap * (1 - LID_SHIFT / np.linalg.norm(gap, axis=-1, keepdims=True))
    return np.stack([lower + gap, lower], 2).reshape(face.shape)


def _mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of two, the other one where one is unknown."""
    return np.where(np.isnan(a), b, np.where(np.isnan(b), a, (a + b) / 2))
