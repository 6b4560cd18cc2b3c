"""What pairs of cameras agree on, held against the other cameras' masks: those that miss the person are named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm.matching.epipolar import distances
from pipeline.capture.sfm.matching.matches import FEWEST, Pairs, Seen
from pipeline.capture.sfm.repose import between

# Of the points that others see on the person, the share outside a camera's mask from which the mask is named.
ASTRAY = 0.15
MARGIN = 0.01  # of the picture's height that a point may lie outside: matches are good to a pixel or two


@dataclass(frozen=True)
class Agreed:
    """Points (m, 3) that a pair of cameras agrees on, and the moment (m,) of each."""

    points: np.ndarray
    moment: np.ndarray


def agreed(seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Pairs) -> dict[tuple[int, int], Agreed]:
    """By pair of views what lies on the epipolar lines of both."""
    found = {}
    for (a, b), index in pairs.items():
        in_a, in_b = seen[a].pixels[index[:, 0]], seen[b].pixels[index[:, 1]]
        near = distances(cameras[a], cameras[b], in_a, in_b) < seen[a].view.tolerance
        if near.any():
            moment = np.searchsorted(seen[a].starts, index[near, 0], side="right") - 1
            found[a, b] = Agreed(between(cameras[a], cameras[b], in_a[near], in_b[near]), moment)
    return found


def masks_astray(
    seen: Sequence[Seen], cameras: Sequence[Camera], points: Mapping[tuple[int, int], Agreed]
) -> dict[int, float]:
    """Cameras by number outside whose mask a person's points lie, with the share of those: however a person is turned,
    every point of them lies inside their silhouette. Points are those that two other cameras agree on."""
    result = {}
    for number, camera in enumerate(cameras):
        others = [found for pair, found in points.items() if number not in pair]
        if not others:
            continue
        pixels, depth = camera.project(np.concatenate([found.points for found in others]))
        moment = np.concatenate([found.moment for found in others])
        column, row = np.floor(np.nan_to_num(pixels, nan=-1.0)).T
        inside = (depth > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        missed = []
        for t, mask in enumerate(seen[number].view.masks):
            if mask is not None:
                size = 2 * max(round(MARGIN * mask.shape[0]), 1) + 1
                person = cv2.dilate((mask > 127).astype(np.uint8), np.ones((size, size), np.uint8))
                use = inside & (moment == t)
                missed.append(person[row[use].astype(int), column[use].astype(int)] == 0)
        share = np.concatenate(missed) if missed else np.zeros(0, bool)
        if len(share) >= FEWEST and share.mean() > ASTRAY:
            result[number] = float(share.mean())
    return result


def masks_said(seen: Sequence[Seen], cameras: Sequence[Camera], points: Mapping[tuple[int, int], Agreed]) -> list[str]:
    """A line on each camera whose mask misses the person."""
    return [
        f"camera {cameras[number].name}: {share:.0%} of the points that others see on the person lie outside its mask; "
        f"expected under {ASTRAY:.0%}: the mask of another camera or moment?"
        for number, share in masks_astray(seen, cameras, points).items()
    ]
