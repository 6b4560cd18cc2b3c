"""How high eyes stand open, from what is no skin between the lids in one frontal view made of all cameras' pictures."""

import cv2
import numpy as np
from scipy.spatial import cKDTree

from pipeline.cameras.rig import Rig

# A view of an eye is a plane through its corners; lengths are shares of their distance
ROWS, COLUMNS, CELL = 60, 80, 1 / 70  # the view, and the edge of one of its pixels
FRONTAL = 4  # power of the cosine between a camera's direction and the view's: how much that camera counts
LEAST = 0.1  # what counts less is left out
ALONG, ACROSS = 0.46, 0.27  # half axes of the ellipse round a wide open eye
SKIN, EYE, NEAR = 1.45, 0.55, 1.3  # of these ellipses: skin beyond, an open eye within, no eye farther out
THICK = 0.1  # what is an open eye is no higher above or below the line of the corners
MIDDLE = 0.36  # heights are means over so much each way
OPEN = 0.9  # of the median opening: eyes that colours are learnt from
LEARNT, KEPT = 40, 4000  # most time steps and colours that are learnt from
NEIGHBOURS = 30
SEQUENCE = 4  # fewest time steps with an open eye


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Places x to the subject's left and y upwards (ROWS, COLUMNS) of the view's pixels, from the corners' middle."""
    x = (np.arange(COLUMNS) + 0.5 - COLUMNS / 2) * CELL
    y = (ROWS / 2 - np.arange(ROWS) - 0.5) * CELL
    return np.meshgrid(x, y)


def eye_view(rig: Rig, pictures: np.ndarray, corners: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    """The view (ROWS, COLUMNS, 3) float32 sRGB of an eye, as all cameras together see it; None where none faces it.

    `pictures` (C, H, W, 3) uint8, `corners` (2, 3) world metres, the subject's right one first, `up` (3,) of the head.
    """
    along = corners[1] - corners[0]
    width = np.linalg.norm(along)
    along = along / width
    upwards = up - along * (up @ along)
    upwards /= np.linalg.norm(upwards)
    x, y = _grid()
    places = corners.mean(0) + width * (x[..., None] * along + y[..., None] * upwards)
    total, sum_of_weights = np.zeros((ROWS, COLUMNS, 3), np.float32), 0.0
    for camera, picture in zip(rig.cameras, pictures, strict=True):
        towards = camera.centre - corners.mean(0)
        weight = max(float(towards @ np.cross(along, upwards)) / np.linalg.norm(towards), 0) ** FRONTAL
        if weight < LEAST:
            continue
        pixels = camera.project(places.reshape(-1, 3))[0].reshape(ROWS, COLUMNS, 2).astype(np.float32) - 0.5
        total += weight * cv2.remap(picture, pixels[..., 0], pixels[..., 1], cv2.INTER_CUBIC)
        sum_of_weights += weight
    return total / sum_of_weights if sum_of_weights else None


def eye_heights(views: np.ndarray, openings: np.ndarray) -> np.ndarray:
    """How much of an eye shows (T,), the mean height in shares of the corners' distance; NaN where there is no view.

    `views` (T, ROWS, COLUMNS, 3) sRGB, NaN where unknown; `openings` (T,) what else says how open the eye is, in any
    unit. What skin looks like is learnt round the eye, and what an eye looks like in the views in which it is open:
    each pixel goes to the kind that its nearest colours are of. All NaN where too few views show an open eye.
    """
    heights = np.full(len(views), np.nan)
    known = np.flatnonzero(np.isfinite(views).all((1, 2, 3)) & np.isfinite(openings))
    opened = known[openings[known] > OPEN * np.median(openings[known])] if len(known) else known
    if len(opened) < SEQUENCE:
        return heights
    x, y = _grid()
    ellipses = np.hypot(x / ALONG, y / ACROSS)
    skin, eye = ellipses > SKIN, (ellipses < EYE) & (np.abs(y) < THICK)
    looks = {t: _look(views[t], skin) for t in known}
    chosen = opened[np.unique(np.linspace(0, len(opened) - 1, LEARNT).round().astype(int))]
    kinds = [np.concatenate([looks[t][part] for t in chosen]) for part in (skin, eye)]
    kinds = [kind[:: -(-len(kind) // KEPT)] for kind in kinds]
    tree = cKDTree(np.concatenate(kinds))
    middle = (np.abs(x) < MIDDLE) & (ellipses < NEAR)
    columns = (np.abs(x[0]) < MIDDLE).sum()
    for t in known:
        nearest = tree.query(looks[t][middle], k=NEIGHBOURS)[1]
        eyes = (nearest >= len(kinds[0])).sum(-1)
        of_eye, of_skin = eyes * len(kinds[0]) / len(kinds[1]), NEIGHBOURS - eyes
        heights[t] = ((of_eye + 1) / (of_eye + of_skin + 2)).sum() / columns * CELL
    return heights


def _look(view: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Colours (ROWS, COLUMNS, 3) in which skin and eyes lie apart, whatever the light: mostly hue and saturation."""
    linear = (np.clip(view, 1, 255) / 255) ** 2.2
    bright = np.log(linear.mean(-1))
    red, blue = (np.log(linear[..., channel] / linear[..., 1]) for channel in (0, 2))
    return np.stack([2 * red, 2 * blue, 0.5 * (bright - np.median(bright[skin]))], -1)
