"""What cameras see in common: matches within each moment, those of all moments of a camera kept together.

A rig that stands still has one pose per camera over all moments, so the features of a camera's moments are put in one
list, as if one picture had shown them all: points that moved between moments are just different points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm.matching.epipolar import fundamental
from pipeline.capture.sfm.matching.features import Features, extract, match

# Matches that agree with one geometry before a pair counts: of 901's pairs that see nothing in common, chance makes 20
# to 24 agree.
FEWEST = 30
# Pixels off the epipolar line that a match may lie in a picture PIXELS_HIGH; in proportion in larger ones.
TOLERANCE, PIXELS_HIGH = 1.5, 400


@dataclass(frozen=True)
class View:
    """One camera's pictures, one per moment: (H, W, 3) uint8 sRGB, None where it has none, and masks (H, W) uint8."""

    name: str
    pictures: tuple[np.ndarray | None, ...]
    masks: tuple[np.ndarray | None, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.first[0].shape[:2]
        return width, height

    @property
    def first(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The first picture that there is, and its mask."""
        return next(
            (picture, mask) for picture, mask in zip(self.pictures, self.masks, strict=True) if picture is not None
        )

    @property
    def tolerance(self) -> float:
        """Pixels off that a match may lie."""
        return TOLERANCE * max(self.size[1] / PIXELS_HIGH, 1)


@dataclass(frozen=True)
class Seen:
    """The features of one view: those of its moments one after the other.

    `pixels` (n, 2), `moment` (n,) int64 and `features`, one per moment, None where it has no picture.
    """

    view: View
    features: tuple[Features | None, ...]

    @cached_property
    def pixels(self) -> np.ndarray:
        """(n, 2) float64 of all moments."""
        return np.concatenate([f.pixels for f in self.features if f is not None])

    @cached_property
    def starts(self) -> np.ndarray:
        """(moments + 1,) where each moment's features begin in `pixels`."""
        return np.cumsum([0, *(0 if f is None else len(f.pixels) for f in self.features)])


Pairs = dict[tuple[int, int], np.ndarray]  # by view numbers a < b: indices (m, 2) into the pixels of both


def look(view: View) -> Seen:
    """The features of all pictures of a view."""
    found = [None if p is None else extract(p, m) for p, m in zip(view.pictures, view.masks, strict=True)]
    return Seen(view, tuple(found))


def match_all(seen: Sequence[Seen], pairs: Sequence[tuple[int, int]], on_pair: Callable[[int], None]) -> Pairs:
    """Matches within each moment of the given pairs of views, those that agree with one epipolar geometry.

    A pair that shares nothing at the first moment is not tried at the others.
    """
    found = {}
    for done, (a, b) in enumerate(pairs, start=1):
        index = _moments(seen[a], seen[b], match, FEWEST // 2)
        inliers = _agreeing(seen[a], seen[b], index)
        if len(inliers) >= FEWEST:
            found[a, b] = inliers
        on_pair(done)
    return found


def match_guided(
    seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Sequence[tuple[int, int]], tolerance: float
) -> Pairs:
    """Matches of the given pairs of views that lie within `tolerance` pixels of the cameras' epipolar lines.

    Only what lies there competes, so that more is found than without cameras, and farther round the person.
    """
    found = {}
    for a, b in pairs:
        off = partial(_off_line, fundamental(cameras[a], cameras[b]), tolerance)
        index = _moments(seen[a], seen[b], lambda f, g, off=off: match(f, g, off(f, g)), 0)
        if len(index):
            found[a, b] = index
    return found


def _off_line(matrix: np.ndarray, tolerance: float, a: Features, b: Features) -> np.ndarray:
    """(n, m) bool: pairs of features that lie more than `tolerance` pixels off the epipolar line."""
    line = np.concatenate([a.pixels, np.ones((len(a.pixels), 1))], 1) @ matrix.T
    line /= np.linalg.norm(line[:, :2], axis=1, keepdims=True)
    away = line.astype(np.float32) @ np.concatenate([b.pixels, np.ones((len(b.pixels), 1))], 1).T.astype(np.float32)
    return np.abs(away) > tolerance


def _moments(a: Seen, b: Seen, matcher: Callable[[Features, Features], np.ndarray], fewest: int) -> np.ndarray:
    """Matches (m, 2) over all moments that both have; none when the first has less than `fewest`."""
    found = []
    for t, (f, g) in enumerate(zip(a.features, b.features, strict=True)):
        if f is not None and g is not None:
            found.append(matcher(f, g) + np.array([a.starts[t], b.starts[t]]))
            if len(found[0]) < fewest:
                break
    return np.concatenate(found) if found else np.zeros((0, 2), int)


def _agreeing(a: Seen, b: Seen, index: np.ndarray) -> np.ndarray:
    """The matches (m, 2) that agree with the fundamental matrix most of them agree with (LO-RANSAC)."""
    if len(index) < FEWEST:
        return index[:0]
    options = pycolmap.RANSACOptions()
    options.max_error, options.random_seed = min(a.view.tolerance, b.view.tolerance), 1
    result = pycolmap.estimate_fundamental_matrix(a.pixels[index[:, 0]], b.pixels[index[:, 1]], options)
    return index[:0] if result is None else index[result["inlier_mask"]]
