"""How much of each pixel is the person: alpha from a picture and the background plate of the same camera.

The plate is first lit as the picture is (the person throws a soft shadow on the wall), then what differs from it is
cut into person, background and a band between, and closed-form matting solves the band.
"""

import cv2
import numpy as np
from pymatting import estimate_alpha_cf

# Scales with the picture, given at this height.
REFERENCE_HEIGHT = 384
# Width of the unknown band on either side of the cut, and how far the shadow is smooth, in pixels at that height.
BAND, SHADOW_SMOOTH = 2, 8
# A pixel may show the wall in shadow when it is the plate times a grey factor in this range ...
SHADOW_RANGE = (0.6, 1.08)
# ... but for this distance in sRGB levels. Twice the 99.9th percentile of the noise of the demo's wall after blurring.
SHADOW_RESIDUAL = 7.0
# Parts and holes smaller than this share of the picture are noise, eyes or a collar; larger ones are gaps.
SMALL_PART = 0.005
# Regularises closed-form matting; in units of variance of [0, 1] pictures. Sensor noise needs it: on 901's hair the
# library's default 1e-7 gives a soft IoU of 0.983, 1e-3 gives 0.991 in two thirds of the time.
MATTING_EPSILON = 1e-3


def alpha_from_plate(picture: np.ndarray, plate: np.ndarray, background: float, person: float) -> np.ndarray:
    """Alpha (H, W) uint8, person 255, of a picture (H, W, 3) over the plate (H, W, 3), both uint8 sRGB.

    `background` and `person` are distances to the lit plate in sRGB levels (Euclidean over the channels, after a
    one-pixel blur): up to the one a pixel is wall, from the other it is person. Levin, Lischinski, Weiss 2008 between.
    """
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0)
    wall = lit_plate(smooth, cv2.GaussianBlur(plate.astype(np.float32), (0, 0), 1.0))
    distance = np.linalg.norm(smooth - wall, axis=2)
    return solve_alpha(picture, trimap(distance, background, person))


def lit_plate(picture: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The plate (H, W, 3) darkened as the wall is in the picture (H, W, 3), float32 both, by a smooth grey factor.

    A pixel votes when it is the plate times a grey factor; hair strands before the wall would pass alone, so votes near
    a pixel that fails are dropped and the factor is smoothed over those left.
    """
    factor = (picture * plate).sum(2) / np.maximum((plate * plate).sum(2), 1.0)
    residual = np.linalg.norm(picture - factor[..., None] * plate, axis=2)
    votes = (residual < SHADOW_RESIDUAL) & (factor > SHADOW_RANGE[0]) & (factor < SHADOW_RANGE[1])
    votes = _large_parts(cv2.erode(votes.astype(np.uint8), _disc(_pixels(BAND, picture))))
    if not votes.any():
        return plate
    weight = votes.astype(np.float32)
    sigma = _pixels(SHADOW_SMOOTH, picture)
    near = cv2.GaussianBlur(weight, (0, 0), sigma)
    smooth = cv2.GaussianBlur(factor * weight, (0, 0), sigma) / np.maximum(near, 1e-3)
    return plate * np.where(near > 1e-3, smooth, np.median(factor[votes]))[..., None]


def trimap(distance: np.ndarray, background: float, person: float) -> np.ndarray:
    """Person 1, wall 0, unknown 0.5 (H, W) float64 from the distance to the lit plate (H, W) in sRGB levels.

    Unknown is a band round the edge of what is surely person, and whatever is connected to it and not surely wall.
    """
    core = _without_holes(_large_parts(distance > person))
    _, labels = cv2.connectedComponents((core | (distance > background)).astype(np.uint8), connectivity=4)
    reach = _without_holes(np.isin(labels, np.unique(labels[core])))
    disc = _disc(_pixels(BAND, distance))
    sure = cv2.erode(core.astype(np.uint8), disc)
    return (sure + cv2.dilate(reach.astype(np.uint8), disc)) / 2


def solve_alpha(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Alpha (H, W) uint8 of a picture (H, W, 3) uint8 whose trimap (H, W) is `known`, solved where it is unknown."""
    alpha = known.copy()
    rows, columns = np.nonzero((known > 0) & (known < 1))
    if len(rows) and (known == 1).any() and (known == 0).any():
        # One known pixel beyond the band is enough for its windows to close.
        top, left = max(rows.min() - 2, 0), max(columns.min() - 2, 0)
        box = np.s_[top : rows.max() + 3, left : columns.max() + 3]
        alpha[box] = estimate_alpha_cf(picture[box] / 255.0, known[box], laplacian_kwargs={"epsilon": MATTING_EPSILON})
    return np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)


def _pixels(length: float, picture: np.ndarray) -> int:
    """A length given at REFERENCE_HEIGHT in this picture's pixels, one at least."""
    return max(round(length * picture.shape[0] / REFERENCE_HEIGHT), 1)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _large_parts(mask: np.ndarray) -> np.ndarray:
    """Connected parts of a mask that hold at least SMALL_PART of the picture."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= SMALL_PART * mask.size
    large[0] = False
    return large[labels]


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """The mask with small holes filled; what touches the picture's border counts as one part, however small."""
    outside = _large_parts(np.pad(~mask, 1, constant_values=True))
    return ~outside[1:-1, 1:-1]
