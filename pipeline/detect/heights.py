"""How far eyes are open and where pupils are, in one frontal view of an eye made of all cameras' pictures."""

import cv2
import numpy as np
from scipy.spatial import KDTree

from pipeline.cameras.rig import Rig
from pipeline.evenly import evenly

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
PUPIL, VISIBLE = 0.08, 0.6  # radius of a pupil, and how much of it has to show
SEEN = 0.15  # least height of an eye whose pupil is looked for


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Places x to the subject's left and y upwards (ROWS, COLUMNS) of the view's pixels, from the corners' middle."""
    x = (np.arange(COLUMNS) + 0.5 - COLUMNS / 2) * CELL
    y = (ROWS / 2 - np.arange(ROWS) - 0.5) * CELL
    return np.meshgrid(x, y)


def eye_axes(corners: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (3,) along and upwards in the plane of an eye's corners (2, 3), `up` (3,) being the head's."""
    along = corners[1] - corners[0]
    along = along / np.linalg.norm(along)
    upwards = up - along * (up @ along)
    return along, upwards / np.linalg.norm(upwards)


def eye_view(rig: Rig, pictures: np.ndarray, corners: np.ndarray, up: np.ndarray) -> np.ndarray | None:
    """The view (ROWS, COLUMNS, 3) float32 sRGB of an eye, as all cameras together see it; None where none faces it.

    `pictures` (C, H, W, 3) uint8, `corners` (2, 3) world metres, the subject's right one first, `up` (3,) of the head.
    """
    width = np.linalg.norm(corners[1] - corners[0])
    along, upwards = eye_axes(corners, up)
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


def eye_shares(views: np.ndarray, openings: np.ndarray) -> np.ndarray:
    """How surely each pixel (T, ROWS, COLUMNS) shows an eye, 0 far from one; NaN where there is no view.

    `views` (T, ROWS, COLUMNS, 3) sRGB, NaN where unknown; `openings` (T,) what else says how open the eye is, in any
    unit. What skin looks like is learnt round the eye, and what an eye looks like in the views in which it is open:
    each pixel goes to the kind that its nearest colours are of. All NaN where too few views show an open eye.
    """
    shares = np.full(views.shape[:-1], np.nan)
    known = np.flatnonzero(np.isfinite(views).all((1, 2, 3)) & np.isfinite(openings))
    opened = known[openings[known] > OPEN * np.median(openings[known])] if len(known) else known
    if len(opened) < SEQUENCE:
        return shares
    x, y = _grid()
    ellipses = np.hypot(x / ALONG, y / ACROSS)
    skin, eye = ellipses > SKIN, (ellipses < EYE) & (np.abs(y) < THICK)
    looks = {t: _look(views[t], skin) for t in known}
    chosen = opened[evenly(len(opened), LEARNT)]
    kinds = [np.concatenate([looks[t][part] for t in chosen]) for part in (skin, eye)]
    kinds = [kind[:: -(-len(kind) // KEPT)] for kind in kinds]
    tree = KDTree(np.concatenate(kinds))
    near = ellipses < NEAR
    for t in known:
        nearest = tree.query(looks[t][near], k=NEIGHBOURS)[1]
        eyes = (nearest >= len(kinds[0])).sum(-1)
        of_eye, of_skin = eyes * len(kinds[0]) / len(kinds[1]), NEIGHBOURS - eyes
        shares[t] = 0
        shares[t][near] = (of_eye + 1) / (of_eye + of_skin + 2)
    return shares


def eye_heights(shares: np.ndarray) -> np.ndarray:
    """How much of an eye shows (T,), its mean height in shares of the corners' distance, from `eye_shares`."""
    middle = np.abs(_grid()[0][0]) < MIDDLE
    return shares[:, :, middle].sum((1, 2)) / middle.sum() * CELL


def pupils(views: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Places (T, 2) of the darkest disc in an eye, x along the corners and y upwards; NaN where it is not open enough.

    In shares of the corners' distance, from their middle; `shares` as `eye_shares` makes them of the views.
    """
    reach = int(np.ceil(PUPIL / CELL)) + 1
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) * CELL
    disc = 1 / (1 + np.exp((distance - PUPIL) / CELL))
    x, y = _grid()
    found = np.full((len(views), 2), np.nan)
    for t in np.flatnonzero(eye_heights(shares) > SEEN):
        share = cv2.GaussianBlur(shares[t], (0, 0), 0.7)
        dark = -np.log(np.clip(((views[t] / 255.0) ** 2.2).mean(-1), 1e-3, 1))
        covered, darkness = (
            cv2.filter2D(part, -1, disc, borderType=cv2.BORDER_CONSTANT) for part in (share, share * dark)
        )
        score = np.where(covered > VISIBLE * disc.sum(), darkness / np.maximum(covered, 1e-9), -np.inf)
        row, column = map(int, np.unravel_index(score.argmax(), score.shape))
        if np.isfinite(score[row, column]):
            found[t] = (
                x[row, column] + CELL * _between(score[row], column),
                y[row, column] - CELL * _between(score[:, column], row),
            )
    return found


def _between(score: np.ndarray, best: int) -> float:
    """How far, in pixels, the top of a parabola through the best of a row and its neighbours lies from it."""
    if not 0 < best < len(score) - 1 or not np.isfinite(score[best - 1 : best + 2]).all():
        return 0.0
    before, top, after = score[best - 1 : best + 2]
    bend = before - 2 * top + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _look(view: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Colours (ROWS, COLUMNS, 3) in which skin and eyes lie apart, whatever the light: mostly hue and saturation."""
    linear = (np.clip(view, 1, 255) / 255) ** 2.2
    bright = np.log(linear.mean(-1))
    red, blue = (np.log(linear[..., channel] / linear[..., 1]) for channel in (0, 2))
    return np.stack([2 * red, 2 * blue, 0.5 * (bright - np.median(bright[skin]))], -1)
