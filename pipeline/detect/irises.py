"""Lids and irises of both eyes of one face in a picture."""

from functools import cache

import numpy as np

from pipeline.detect.landmarks import LEFT_EYE, RIGHT_EYE, Points
from pipeline.detect.network import Network, cut, onto, square

SIZE = 64
ROOM = 2.3  # edge of the square that is looked at, in distances of the eye's corners
LID = 16  # points of the contour: inner corner, seven of the lower lid, outer corner (8), seven of the upper lid
INNER, OUTER, LOWER, UPPER = 0, 8, slice(1, 8), slice(9, 16)  # point 8 + i is above point i
IRIS = 5  # points: the centre, then four of the rim
EYES = (LEFT_EYE, RIGHT_EYE)  # the subject's left eye first, everywhere
FORESHORTENED = 0.1  # an eye whose corners are nearer than this share of the face's height is seen from the side


@cache
def _network(models: str | None) -> Network:
    return Network("iris_landmark.tflite", SIZE, ["output_eyes_contours_and_brows", "output_iris"], models)


def find_eyes(picture: np.ndarray, points: Points, models: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lids (2, 16, 2) and irises (2, 5, 2), pixels of the picture (h, w, 3) uint8 sRGB; NaN for an eye that is not
    seen. The subject's left eye first; contours as LID and IRIS say, for both eyes in the same order."""
    lids, irises = np.full((2, LID, 2), np.nan), np.full((2, IRIS, 2), np.nan)
    height = float(np.linalg.norm(points.pixels[10] - points.pixels[152]))  # top of the forehead to chin
    for eye, (outer, inner) in enumerate(EYES):
        corners = points.pixels[[outer, inner]]
        along = corners[0] - corners[1] if eye == 0 else corners[1] - corners[0]  # to the picture's right when upright
        length = float(np.linalg.norm(along))
        if length < FORESHORTENED * height:
            continue
        place = square(corners.mean(0), ROOM * length, float(np.arctan2(along[1], along[0])))
        if eye == 1:
            place = _mirrored(place)
        contour, iris = _network(models)(cut(picture, place, SIZE))
        lids[eye] = onto(place, contour.reshape(-1, 3)[:LID, :2] / SIZE)
        irises[eye] = onto(place, iris.reshape(-1, 3)[:, :2] / SIZE)
    return lids, irises


def _mirrored(picture_from_square: np.ndarray) -> np.ndarray:
    """The same square with its left edge on the right."""
    flip = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    return picture_from_square @ flip
