"""Points of the face in space from what the cameras of a rig saw of it: iBUG's landmarks and the irises' centres."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.cameras.triangulation import triangulate
from pipeline.detect.heights import OPEN, SEQUENCE, eye_axes
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
LID_SHIFT = 8.6e-3  # metres that are then too much, give or take a millimetre by subject
# How high an eye stands open (heights.py) tells shut eyes, and one shut eye of two, which the networks do not: with a
# share of the contour's gap it is 0.37 mm off (rms, once a subject's constant is off; 70 frames of 901, 904 and 905)
HEIGHT_GAIN, HEIGHT_CONTOUR_GAIN = 0.75, 0.3
SHOWN = 0.3e-3  # metres by which more of an open eye shows than its lids are apart
# What shows of an eye changes less than its lids' gap near the usual opening, where the lids' landmarks lie above the
# iris, and as much when it shuts: the difference to the usual opening is this polynomial of what was seen. Fitted to
# two of the subjects it takes the third from 0.36, 0.44 and 0.44 to 0.29, 0.38 and 0.36 mm (rms; 901, 904, 905).
CURVE, BEND = 1.3, 45.0  # of the difference, and per metre of its square
CORNERS = ((25, 28), (19, 22))  # of the left and of the right eye, the subject's right one first
BRIDGE, BELOW_NOSE = 10, 16


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
    `iris_views` (T, 2): how many cameras agree on each; `contours` (T, 2) metres between the lids of the eyes'
    contours, left first, as the network sees them, which is too little."""

    points: np.ndarray
    views: np.ndarray
    irises: np.ndarray
    iris_views: np.ndarray
    contours: np.ndarray

    def corners(self, step: int) -> np.ndarray:
        """The corners (2, 2, 3) of both eyes, NaN where unknown."""
        return self.points[step][np.array(CORNERS)]

    def up(self, step: int) -> np.ndarray:
        """Upwards (3,) on the face, metres."""
        return self.points[step, BRIDGE] - self.points[step, BELOW_NOSE]


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
    gaps = np.linalg.norm(contour[:, ::2] - contour[:, 1::2], axis=-1).reshape(-1, 2, 2).mean(-1)
    return FacePoints(points[:, :count], views[:, :count], points[:, -2:], views[:, -2:], gaps[:, ::-1])


def with_heights(found: FacePoints, heights: np.ndarray) -> FacePoints:
    """The same with lids as far apart as heights (T, 2) say, metres, NaN where unknown: how much of each eye shows.

    How an eye's gap changes follows from its heights, with CURVE and BEND. How far both stand open is SHOWN less than
    the height of the eye of which less shows beside what the networks say: what is taken for an eye wrongly only adds.
    """
    points = found.points.copy()
    wider = []  # by how much open eyes are wider apart than heights say, metres
    for eye, pairs in enumerate(LIDS[::-1]):
        length = np.mean([np.linalg.norm(points[:, upper] - points[:, lower], axis=-1) for upper, lower in pairs], 0)
        contour = found.contours[:, eye]
        apart = HEIGHT_GAIN * heights[:, eye] + HEIGHT_CONTOUR_GAIN * contour  # but for a constant
        known = np.isfinite(apart - length)
        opened = known & (contour > OPEN * np.median(contour[known])) if known.any() else known
        if opened.sum() < SEQUENCE:
            continue
        usual = np.median((apart - length)[opened])
        middle = np.median(apart[opened])
        moved = np.where(known, middle - usual + curved(apart - middle) - length, 0)
        wider.append(np.median((length + moved - heights[:, eye])[opened]))
        _open(points, pairs, moved)
    for pairs in LIDS if wider else ():
        _open(points, pairs, np.full(len(points), -max(wider) - SHOWN))
    return replace(found, points=points)


def _open(points: np.ndarray, pairs: tuple[tuple[int, int], ...], wider: np.ndarray) -> None:
    """Move the upper landmarks of pairs of points (T, L, 3) by `wider` (T,), metres, off the lower ones, if need be to
    where these are."""
    for upper, lower in pairs:
        gap = points[:, upper] - points[:, lower]
        length = np.linalg.norm(gap, axis=-1)
        longer = np.maximum(length + wider, 0) / np.maximum(length, 1e-9)
        points[:, upper] = points[:, lower] + longer[:, None] * gap


def curved(apart: np.ndarray) -> np.ndarray:
    """How far lids are from their usual gap, metres, by how far they seem to be (...,): rises everywhere."""
    apart = np.maximum(apart, -CURVE / (2 * BEND))  # the lowest point of the curve, 14 mm below
    return CURVE * apart + BEND * apart**2


def with_pupils(found: FacePoints, places: np.ndarray) -> FacePoints:
    """The same with irises half way to the pupils, places (T, 2, 2) in the views of the eyes, NaN where unknown.

    The network turns eyes less than they turn; in its errors and those of the darkest disc is little that both share.
    """
    irises = found.irises.copy()
    for step, eye in zip(*np.nonzero(np.isfinite(places).all(-1)), strict=True):
        corners = found.corners(step)[eye]
        along, up = eye_axes(corners, found.up(step))
        width, middle = np.linalg.norm(corners[1] - corners[0]), corners.mean(0)
        for axis, place in zip((along, up), places[step, eye], strict=True):
            irises[step, eye] += 0.5 * axis * (width * place - axis @ (irises[step, eye] - middle))
    return replace(found, irises=irises)


def _weighted(pixels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(..., L, 3): pixels (..., L, 2) with weights that broadcast to (..., L)."""
    return np.concatenate([pixels, np.broadcast_to(weight, pixels.shape[:-1])[..., None]], -1)


def _lids(face: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Upper and lower lids in turn (T, 8, 3) from where the two networks see them, (T, 8, 3) each, NaN where unknown.

    The lower lid where both see it on average, the upper one above it by the mean of the enlarged gaps, shortened.
    """
    lower = _mean(face[:, 1::2], contour[:, 1::2])
    gap = _mean(FACE_GAIN * (face[:, ::2] - face[:, 1::2]), CONTOUR_GAIN * (contour[:, ::2] - contour[:, 1::2]))
    gap = gap * np.maximum(1 - LID_SHIFT / np.linalg.norm(gap, axis=-1, keepdims=True), 0.05)  # which way stays known
    return np.stack([lower + gap, lower], 2).reshape(face.shape)


def _mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of two, the other one where one is unknown."""
    return np.where(np.isnan(a), b, np.where(np.isnan(b), a, (a + b) / 2))
