"""How good a picture is, by itself: sharpness, exposure, and a head that the picture's edge cuts."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.capture.sfm.matching.matches import View

# Share of an edge that the person may touch: hair strands do, a head that is cut covers more.
CUT = 0.04
CLIPPED = (4, 251)  # sRGB levels from which all three channels hold no shade any more
UPPER = 0.5  # of the picture: below, shoulders leave it to the sides


@dataclass(frozen=True)
class Quality:
    """`sharpness`: standard deviation of the Laplacian over the person, levels; `exposure`: mean level; `clipped`:
    share of the person without shade; `cut`: the edge that cuts the head, empty where none does."""

    sharpness: float
    exposure: float
    clipped: float
    cut: str


def quality(picture: np.ndarray, mask: np.ndarray | None) -> Quality:
    """Of a picture (H, W, 3) uint8 sRGB whose person `mask` (H, W) uint8 covers; of all of it without."""
    person = np.ones(picture.shape[:2], bool) if mask is None else mask > 127
    if not person.any():
        return Quality(0.0, 0.0, 0.0, "")
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    inner = cv2.erode(person.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    edges = cv2.Laplacian(grey, cv2.CV_32F)[inner]
    seen = picture[person]
    clipped = (seen <= CLIPPED[0]).all(1) | (seen >= CLIPPED[1]).all(1)
    sharpness = float(edges.std()) if edges.size else 0.0
    return Quality(sharpness, float(grey[person].mean()), float(clipped.mean()), "" if mask is None else cut(person))


def cut(person: np.ndarray) -> str:
    """Which edge cuts the head of a person (H, W) bool: top, left or right, or "". Shoulders may leave the picture."""
    upper = person[: max(int(person.shape[0] * UPPER), 1)]
    for name, edge in (("top", person[0]), ("left", upper[:, 0]), ("right", upper[:, -1])):
        if edge.mean() > CUT:
            return name
    return ""


def cut_heads(views: Sequence[View], moments: Sequence[int]) -> list[str]:
    """A line for each view with a picture whose edge cuts the head, for the first such moment."""
    said = []
    for view in views:
        for mask, moment in zip(view.masks, moments, strict=True):
            if mask is not None and (edge := cut(mask > 127)):
                where = f"camera {view.name}, frame {moment}"
                said.append(f"{where}: the {edge} edge cuts the person's head; expected all of it in the picture")
                break
    return said
