"""Everything that the small networks see of the one face that a camera aims at, picture by picture."""

from dataclasses import dataclass

import numpy as np

from pipeline.detect import landmarks
from pipeline.detect.faces import ALL_TURNS, Face, find_faces, nearest_to
from pipeline.detect.irises import IRIS, LID, find_eyes

UPRIGHT = (0,)  # quarter turns


@dataclass(frozen=True)
class Seen:
    """One face: `score` in [0, 1], 0 where there is none; `box` (3,) x, y of its centre and edge; `points` (468, 2),
    `lids` (2, 16, 2), `irises` (2, 5, 2), the subject's left eye first; pixels, NaN where there is none."""

    score: float
    box: np.ndarray
    points: np.ndarray
    lids: np.ndarray
    irises: np.ndarray


NOTHING = Seen(
    0.0,
    np.full(3, np.nan),
    np.full((landmarks.COUNT, 2), np.nan),
    np.full((2, LID, 2), np.nan),
    np.full((2, IRIS, 2), np.nan),
)


class Watcher:
    """Looks at the pictures of one camera, each by itself: what is seen depends on no other picture of a span."""

    def __init__(self, aim: np.ndarray, models: str | None = None):
        """`aim` (2,), pixels: where the point that all cameras aim at lies in this camera's pictures."""
        self.aim, self.models = aim, models

    def look(self, picture: np.ndarray) -> Seen:
        """What a picture (h, w, 3) uint8 sRGB shows: an upright head if there is one, else one rolled anyhow."""
        for turns in (UPRIGHT, ALL_TURNS):  # all turns take 43 ms a picture, upright alone 27
            face = nearest_to(find_faces(picture, self.aim, self.models, turns), self.aim)
            points = landmarks.find_points(picture, face, self.models) if face else None
            if face and points and (turns == ALL_TURNS or _quarters(face) in UPRIGHT):
                return self._seen(picture, face, points)
        return NOTHING

    def _seen(self, picture: np.ndarray, face: Face, points: landmarks.Points) -> Seen:
        lids, irises = find_eyes(picture, points, self.models)
        return Seen(points.score, np.array([*face.centre, face.side]), points.pixels, lids, irises)


def _quarters(face: Face) -> int:
    """Quarter turns, 0 to 3, that a head is rolled by, rounded."""
    return round(face.roll / (np.pi / 2)) % 4
