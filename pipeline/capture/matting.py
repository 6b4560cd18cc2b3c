"""How much of each pixel is the person: alpha from a picture and the background plate of the same camera.

The plate is first lit as the picture is (the person throws a soft shadow on the wall), then what differs from it is
cut into person, background and a band between, and closed-form matting solves the band.
"""

import cv2
import numpy as np
from pymatting import estimate_alpha_cf

from pipeline.errors import DataError

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
# Larger pictures are solved at this height and enlarged along their own edges.
SOLVED_HEIGHT = 640
GUIDE_WINDOW = 2  # reach of the windows that carry alpha to the full resolution, in pixels of the solved one
# Up to this many times the median distance of the wall from the lit plate (1.35 on 901 and 904) a pixel is wall, ...
WALL_NOISE, LEAST_LEVEL = 7.4, 4.0
# ... and from this many times that level on it is surely person.
PERSON_LEVEL = 3.0
# The unknown band round a network's mask, in pixels at that height, and from when on the network is sure. Soft IoU with
# 3, 5, 8 pixels: 0.991, 0.989, 0.985 on 901; 0.987, 0.983, 0.977 on 904; 0.991, 0.989, 0.986 on 905.
SCORE_BAND, SURE = 3, 0.9
# Regularises closed-form matting; in units of variance of [0, 1] pictures. Sensor noise needs it: on 901's hair the
# library's default 1e-7 gives a soft IoU of 0.983, 1e-3 gives 0.991 in two thirds of the time.
MATTING_EPSILON = 1e-3


def alpha_from_plate(
    picture: np.ndarray, plate: np.ndarray, background: float | None = None, person: float | None = None
) -> np.ndarray:
    """Alpha (H, W) uint8, person 255, of a picture (H, W, 3) over the plate (H, W, 3), both uint8 sRGB.

    `background` and `person` are distances to the lit plate in sRGB levels (Euclidean over the channels, after a
    one-pixel blur): up to the one a pixel is wall, from the other it is person. Levin, Lischinski, Weiss 2008 between.
    What is None is found from the noise of the wall. Raises DataError when no part of the wall looks like the plate.
    """
    height, width = picture.shape[:2]
    shrink = min(SOLVED_HEIGHT / height, 1.0)
    if shrink == 1:
        return _alpha(picture, plate, background, person)
    size = (round(width * shrink), round(height * shrink))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    alpha = _alpha(small, cv2.resize(plate, size, interpolation=cv2.INTER_AREA), background, person)
    return enlarge_alpha(alpha, small, picture)


def _alpha(picture: np.ndarray, plate: np.ndarray, background: float | None, person: float | None) -> np.ndarray:
    """`alpha_from_plate` at the resolution that is given."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0)
    wall, seen = lit_plate(smooth, cv2.GaussianBlur(plate.astype(np.float32), (0, 0), 1.0))
    distance = np.linalg.norm(smooth - wall, axis=2)
    noise = float(np.median(distance[seen]))
    background = max(WALL_NOISE * noise, LEAST_LEVEL) if background is None else background
    person = PERSON_LEVEL * background if person is None else max(person, background)
    return solve_alpha(picture, trimap(distance, background, person))


def alpha_from_score(picture: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Alpha (H, W) uint8 of a picture (H, W, 3) uint8 from how surely each pixel is person, (H, W) in [0, 1].

    A network's mask is soft and a few pixels off; what lies near its edge, or is unsure, is solved from the picture.
    """
    radius = _pixels(SCORE_BAND, picture)
    core = _without_holes(_large_parts(score > 0.5))
    sure = cv2.erode((core & (score > SURE)).astype(np.uint8), _disc(radius))
    reach = cv2.dilate((core | (score > 1 - SURE)).astype(np.uint8), _disc(radius))
    return solve_alpha(picture, (sure + reach) / 2)


def enlarge_alpha(alpha: np.ndarray, small: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Alpha (H, W) uint8 of a picture (H, W, 3) from the alpha (h, w) of the same picture made `small` (h, w, 3).

    Closed-form matting takes alpha for a linear function of colour in small windows; the same functions, fitted to what
    was solved, give alpha at the full resolution (guided upsampling, He and Sun 2015).
    """
    height, width = picture.shape[:2]
    large = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
    disc = np.ones((2 * GUIDE_WINDOW + 1,) * 2, np.uint8)
    band = cv2.erode(alpha, disc) < cv2.dilate(alpha, disc)
    if not band.any():
        return large
    rows, columns = np.flatnonzero(band.any(1)), np.flatnonzero(band.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    slope, offset = _linear_model(small[box] / np.float32(255), alpha[box] / np.float32(255))
    model = np.dstack([slope, offset])
    top, bottom = round(rows[0] * height / len(alpha)), round((rows[-1] + 1) * height / len(alpha))
    left, right = (round(c * width / alpha.shape[1]) for c in (columns[0], columns[-1] + 1))
    model = cv2.resize(model, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    guide = picture[top:bottom, left:right] / np.float32(255)
    solved = (model[..., :3] * guide).sum(2) + model[..., 3]
    inside = cv2.resize(band[box].astype(np.uint8), solved.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    there = large[top:bottom, left:right]
    there[inside] = np.rint(np.clip(solved, 0, 1) * 255).astype(np.uint8)[inside]
    return large


def _linear_model(guide: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (h, w, 3) and offsets (h, w): alpha (h, w) linear in the guide (h, w, 3) round each pixel."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * GUIDE_WINDOW + 1,) * 2)

    centre, alpha_mean = mean(guide), mean(alpha)
    moments = mean((guide[..., :, None] * guide[..., None, :]).reshape(*alpha.shape, 9)[..., [0, 1, 2, 4, 5, 8]])
    covariance = moments[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(*alpha.shape, 3, 3)
    covariance = (
        covariance - centre[..., :, None] * centre[..., None, :] + MATTING_EPSILON * np.eye(3, dtype=np.float32)
    )
    along = mean(guide * alpha[..., None]) - centre * alpha_mean[..., None]
    slope = np.linalg.solve(covariance, along[..., None])[..., 0]
    offset = alpha_mean - (slope * centre).sum(-1)
    return mean(slope), mean(offset)


def lit_plate(picture: np.ndarray, plate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plate (H, W, 3) darkened as the wall is in the picture (H, W, 3), float32 both, by a smooth grey factor; and
    where the wall is surely seen, (H, W) bool.

    A pixel votes when it is the plate times a grey factor; hair strands before the wall would pass alone, so votes near
    a pixel that fails are dropped and the factor is smoothed over those left.
    """
    factor = (picture * plate).sum(2) / np.maximum((plate * plate).sum(2), 1.0)
    residual = np.linalg.norm(picture - factor[..., None] * plate, axis=2)
    votes = (residual < SHADOW_RESIDUAL) & (factor > SHADOW_RANGE[0]) & (factor < SHADOW_RANGE[1])
    votes = _large_parts(cv2.erode(votes.astype(np.uint8), _disc(_pixels(BAND, picture))))
    if not votes.any():
        raise DataError(
            f"no part of the picture looks like its plate (the median picture is {np.median(factor):.2f} times as "
            "bright); expected the same camera, exposure and light, and some of the wall in sight"
        )
    weight = votes.astype(np.float32)
    sigma = _pixels(SHADOW_SMOOTH, picture)
    near = cv2.GaussianBlur(weight, (0, 0), sigma)
    smooth = cv2.GaussianBlur(factor * weight, (0, 0), sigma) / np.maximum(near, 1e-3)
    return plate * np.where(near > 1e-3, smooth, np.median(factor[votes]))[..., None], votes


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
    """A length given at REFERENCE_HEIGHT in this picture's pixels; two at least, for all is blurred by one before."""
    return max(round(length * picture.shape[0] / REFERENCE_HEIGHT), 2)


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
