"""Which cameras do not fit what they see: their matches lie off the epipolar lines, the others' do not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.capture.plausible import common_point
from pipeline.capture.sfm.matching.epipolar import distances
from pipeline.capture.sfm.matching.matches import FEWEST, PIXELS_HIGH, Pairs, Seen, match_all
from pipeline.capture.sfm.repose import known_points, known_to

NEIGHBOURS = 5  # of each camera that it is matched with
# Median pixels off the epipolar lines up to which a camera is good: so many times the rig's own median, within bounds
# for pictures PIXELS_HIGH. Pairs of the rendered captures lie at 0.2 to 0.9, with a median of 0.33.
TIMES, LEAST, MOST = 4.0, 1.5, 3.0


@dataclass(frozen=True)
class Verdict:
    """`residual` of each pair of cameras that share matches, median pixels off the epipolar lines, and `count` of them;
    `off` the cameras that do not fit, with the median residual of their pairs; `alone` those that share nothing;
    `swapped` pairs of cameras that would fit in each other's place; `bound` the residual of a good camera at most."""

    residual: dict[tuple[int, int], float]
    count: dict[tuple[int, int], int]
    off: dict[int, float]
    alone: list[int]
    swapped: list[tuple[int, int]]
    bound: float


def judge(seen: Sequence[Seen], cameras: Sequence[Camera], on_pair: Callable[[int], None]) -> tuple[Verdict, Pairs]:
    """The verdict over cameras by matches between neighbours, and the matches.

    A camera that shares nothing with its neighbours is matched with all: its picture may be another camera's.
    """
    tried = neighbours(cameras, NEIGHBOURS)
    pairs = match_all(seen, tried, on_pair)
    lonely = {i for i in range(len(seen)) if sum(i in pair for pair in pairs) < 2}
    more = [pair for pair in combinations(range(len(seen)), 2) if lonely & set(pair) and pair not in tried]
    pairs |= match_all(seen, more, on_pair)
    residual = residuals(seen, cameras, pairs)
    bound = limit(cameras, residual)
    off = blame(residual, bound)
    for a, b in [pair for pair, value in residual.items() if value > bound and not off.keys() & set(pair)]:
        off |= by_points(seen, cameras, pairs, (a, b), bound)
    alone = [i for i in range(len(seen)) if not any(i in pair for pair in pairs)]
    swapped = [
        (a, b)
        for a, b in combinations(sorted(off), 2)
        if not {a, b} & blame(residuals(seen, exchanged(cameras, a, b), pairs), bound).keys()
    ]
    return Verdict(residual, {pair: len(index) for pair, index in pairs.items()}, off, alone, swapped, bound), pairs


def limit(cameras: Sequence[Camera], residual: Mapping[tuple[int, int], float]) -> float:
    """Median pixels off the epipolar lines that the pairs of a good camera stay below."""
    usual = float(np.median(list(residual.values()))) if residual else 0.0
    scale = max(max(camera.height for camera in cameras) / PIXELS_HIGH, 1)
    return float(np.clip(TIMES * usual, LEAST * scale, MOST * scale))


def neighbours(cameras: Sequence[Camera], count: int) -> list[tuple[int, int]]:
    """Pairs (a < b) of every camera with the `count` whose view of the common point is most like its own."""
    target = common_point(cameras)
    away = np.stack([camera.centre - target for camera in cameras])
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    order = np.argsort(-(away @ away.T) + 9 * np.eye(len(cameras)), axis=1)[:, : min(count, len(cameras) - 1)]
    return sorted({(min(a, int(b)), max(a, int(b))) for a in range(len(cameras)) for b in order[a]})


def residuals(seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Pairs) -> dict[tuple[int, int], float]:
    """Median pixels that the matches of each pair lie off the cameras' epipolar lines."""
    return {
        (a, b): float(
            np.median(distances(cameras[a], cameras[b], seen[a].pixels[index[:, 0]], seen[b].pixels[index[:, 1]]))
        )
        for (a, b), index in pairs.items()
    }


def blame(residual: Mapping[tuple[int, int], float], bound: float) -> dict[int, float]:
    """The cameras with two pairs or more above the bound, the worst first, and each without those before: the median
    residual of such pairs.

    Not the median of all its pairs: a picture moved along its epipolar lines is seen by the pairs across only. Not a
    single pair either, which may fail by chance, and which each neighbour of a bad camera has.
    """
    left, off = {pair: value for pair, value in residual.items() if value > bound}, {}
    while left:
        own = {i: [value for pair, value in left.items() if i in pair] for i in {i for pair in left for i in pair}}
        partners = {i: sum(i in pair for pair in residual) for i in own}
        own = {i: values for i, values in own.items() if len(values) >= min(2, partners[i])}
        if not own:
            break
        worst = max(own, key=lambda i: (len(own[i]), sum(own[i])))
        off[worst] = float(np.median(own[worst]))
        left = {pair: value for pair, value in left.items() if worst not in pair}
    return off


def by_points(
    seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Pairs, pair: tuple[int, int], bound: float
) -> dict[int, float]:
    """Which of a single pair that does not fit is off, with its pixels: the one that sees the points of all cameras but
    the other elsewhere than they are. None where neither or both do, or too few points tell.

    In a rig of few cameras in a row one that is turned along the row may show in a single pair.
    """
    away, others = {}, [i for i in range(len(cameras)) if i not in pair]
    points = known_points(seen, cameras, pairs, others)
    for number in pair:
        pixels, known = known_to(seen, pairs, points, number)
        if len(known) < FEWEST:
            return {}
        away[number] = float(np.median(np.linalg.norm(cameras[number].project(known)[0] - pixels, axis=1)))
    off = {number: value for number, value in away.items() if value > bound}
    return off if len(off) == 1 else {}


def exchanged(cameras: Sequence[Camera], a: int, b: int) -> list[Camera]:
    """The cameras, those numbered a and b in each other's place."""
    result = list(cameras)
    result[a], result[b] = (
        replace(cameras[a], intrinsics=cameras[b].intrinsics, camera_from_world=cameras[b].camera_from_world),
        replace(cameras[b], intrinsics=cameras[a].intrinsics, camera_from_world=cameras[a].camera_from_world),
    )
    return result
