"""468 points of one face in a picture."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.detect.faces import Face
from pipeline.detect.network import Network, cut, onto, square

SIZE = 192
COUNT = 468
ROOM = 1.5  # edge of the square that is looked at, in edges of the face's box
SURE = 0.5  # below, the square holds no face
# Corners of the subject's right and left eye, outer then inner: where the line between the eyes is level
RIGHT_EYE, LEFT_EYE = (33, 133), (263, 362)
AGAIN = 2  # looks: the second at a square that the points of the first make, which no key point of the box shifts


@dataclass(frozen=True)
class Points:
    """`pixels` (468, 2) in MediaPipe's order; `score` in [0, 1]: how surely this is a face."""

    pixels: np.ndarray
    score: float


@cache
def _network(models: str | None) -> Network:
    return Network("face_landmark.tflite", SIZE, ["conv2d_21", "conv2d_31"], models)


def find_points(picture: np.ndarray, face: Face, models: str | None = None) -> Points | None:
    """The points of a face in a picture (h, w, 3) uint8 sRGB; None where a closer look shows no face."""
    place = square(face.centre, ROOM * face.side, face.roll)
    for _ in range(AGAIN):
        points, flag = _network(models)(cut(picture, place, SIZE))
        # in pixels of the input, whose first centre the network counts as 0.5
        pixels = onto(place, points.reshape(-1, 3)[:COUNT, :2] / SIZE)
        score = 1 / (1 + np.exp(-float(flag.ravel()[0])))
        if score < SURE:
            return None
        place = _round(pixels)
    return Points(pixels, score)


def _round(pixels: np.ndarray) -> np.ndarray:
    """The square round the points of an upright face."""
    x, y = pixels[list(LEFT_EYE)].mean(0) - pixels[list(RIGHT_EYE)].mean(0)
    roll = float(np.arctan2(y, x))
    level = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    turned = pixels @ level.T
    low, high = turned.min(0), turned.max(0)
    return square(level.T @ ((low + high) / 2), ROOM * float((high - low).max()), roll)
