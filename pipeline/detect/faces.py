"""Where in a picture faces are, however the head is rolled: boxes, six key points, scores."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.detect.network import Network, cut, onto, square

SIZE = 128
GRIDS = ((16, 2), (8, 6))  # cells along an edge, guesses per cell
SURE = 0.5  # a guess below is no face
OVERLAP = 0.3  # boxes that overlap by more are one face
ALL_TURNS = (0, 1, 2, 3)
SEARCHED = (1.0, 0.5)  # shares of the picture's longer edge: faces of less than a tenth of the whole are not seen there


@dataclass(frozen=True)
class Face:
    """`centre` (2,) and `side` of the box, pixels; `points` (6, 2): the subject's right eye, left eye, tip of the nose,
    mouth, right ear, left ear, pixels; `score` in [0, 1]."""

    centre: np.ndarray
    side: float
    points: np.ndarray
    score: float

    @property
    def roll(self) -> float:
        """The angle, radians, from the picture's x to its y axis, of the line from the right eye to the left one."""
        x, y = self.points[1] - self.points[0]
        return float(np.arctan2(y, x))


@cache
def _network(models: str | None) -> Network:
    return Network("face_detection_short_range.tflite", SIZE, ["regressors", "classificators"], models)


@cache
def _anchors() -> np.ndarray:
    """Centres (896, 2) of the guesses, unit square."""
    parts = []
    for cells, guesses in GRIDS:
        middle = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middle, middle, indexing="ij")
        parts.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), guesses, 0))
    return np.concatenate(parts)


def find_faces(
    picture: np.ndarray, aim: np.ndarray, models: str | None = None, turns: tuple[int, ...] = ALL_TURNS
) -> list[Face]:
    """Faces in a picture (h, w, 3) uint8 sRGB, best first.

    `aim` (2,), pixels: where a face is looked for again, closer, if there is none in the whole picture. `turns`: by how
    many quarter turns a head may be rolled, roughly; the network knows upright heads and such that lean, so it is asked
    once for each. Every face is found under the turn that shows it most surely.
    """
    height, width = picture.shape[:2]
    for share in SEARCHED:
        centre = np.array([width, height]) / 2 if share == 1 else aim
        found = [face for turn in turns for face in _look(picture, centre, share * max(width, height), turn, models)]
        if found:
            return _distinct(found)
    return []


def _look(picture: np.ndarray, centre: np.ndarray, side: float, turn: int, models: str | None) -> list[Face]:
    """Faces in a square of the picture turned by quarter turns."""
    place = square(centre, side, turn * np.pi / 2)
    network = _network(models)
    regressors, scores = network(2 * cut(picture, place, SIZE) - 1)
    scores = 1 / (1 + np.exp(-np.clip(scores.reshape(-1), -80, 80)))
    sure = scores > SURE
    # x, y, width, height, then x, y of six points, in pixels of the input, from the guess's own centre
    boxes = regressors.reshape(-1, 8, 2)[sure] / SIZE
    boxes[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors()[sure, None]
    return [
        Face(onto(place, box[0]), float(box[1].max() * side), onto(place, box[2:]), float(score))
        for box, score in zip(boxes, scores[sure], strict=True)
    ]


def _distinct(faces: list[Face]) -> list[Face]:
    """One face for all that overlap: the mean of those that agree with the surest one, weighted by their scores."""
    left, kept = sorted(faces, key=lambda face: -face.score), []
    while left:
        best = left[0]
        same = [_overlap(best, other) > OVERLAP for other in left]
        # opposite turns may both see something in one face; only those of the best one's direction are averaged
        alike = [f for f, s in zip(left, same, strict=True) if s and abs(_between(f.roll, best.roll)) < np.pi / 4]
        weights = np.array([face.score for face in alike]) / sum(face.score for face in alike)
        kept.append(
            Face(
                weights @ np.stack([face.centre for face in alike]),
                float(weights @ [face.side for face in alike]),
                np.einsum("f,fpx->px", weights, np.stack([face.points for face in alike])),
                best.score,
            )
        )
        left = [face for face, gone in zip(left, same, strict=True) if not gone]
    return kept


def _between(a: float, b: float) -> float:
    return (a - b + np.pi) % (2 * np.pi) - np.pi


def _overlap(a: Face, b: Face) -> float:
    """Shared area over joint area of two upright squares."""
    edges = np.minimum(a.centre + a.side / 2, b.centre + b.side / 2) - np.maximum(
        a.centre - a.side / 2, b.centre - b.side / 2
    )
    shared = float(np.prod(np.maximum(edges, 0)))
    return shared / (a.side**2 + b.side**2 - shared)


def nearest_to(faces: list[Face], aim: np.ndarray) -> Face | None:
    """Of several faces the one that the cameras aim at: nearest to `aim` (2,) pixels, in terms of its own size."""
    return min(faces, key=lambda face: float(np.linalg.norm(face.centre - aim)) / face.side, default=None)
