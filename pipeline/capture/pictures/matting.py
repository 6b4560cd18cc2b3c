"""How much of each pixel is the person: alpha from a picture and the background plate of the same camera.

The plate is first lit as the picture is (the person throws a soft shadow on the wall), then what differs from it is
cut into person, background and a band between, and closed-form matting solves the band.
"""

import cv2
import numpy as np
from pymatting import estimate_alpha_cf
from scipy.ndimage import map_coordinates

from pipeline.errors import DataError

# Scales with the picture, given at this height.
REFERENCE_HEIGHT = 384
# Width of the unknown band on either side of the cut, and how far the shadow is smooth, in pixels at that height.
BAND, SHADOW_SMOOTH = 2, 8
# A pixel may show the wall in shadow when it is the plate times a grey factor in this range ...
SHADOW_RANGE = (0.6, 1.08)
# ... but for this distance in sRGB levels. Twice the 99.9th percentile of the noise of the demo's wall after blurring.
SHADOW_RESIDUAL = 7.0
# An over-exposed plate (all channels from BLOWN on) is grey times any wall, but holds nothing of it: the wall is not
# mostly so much darker in a picture of the same exposure. 901 with such a plate lost a sixth of the person.
BLOWN, SHADED = 251.0, 0.95
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
    """Alpha (H, W) uint8 of one picture (H, W, 3) over its plate (H, W, 3), both uint8 sRGB: see `Matter`."""
    return Matter(plate, background, person)(picture)


class Matter:
    """Tells a person from the plate of one camera.

    `background` and `person` are distances to the lit plate in sRGB levels (Euclidean over the channels, after a
    one-pixel blur): up to the one a pixel is wall, from the other it is person. Levin, Lischinski, Weiss 2008 between.
    What is None is found from the noise of the wall. Pictures above SOLVED_HEIGHT are solved at that height.
    """

    def __init__(self, plate: np.ndarray, background: float | None = None, person: float | None = None):
        """`plate` (H, W, 3) uint8 sRGB, the set without the person."""
        height, width = plate.shape[:2]
        shrink = min(SOLVED_HEIGHT / height, 1.0)
        self.size = (round(width * shrink), round(height * shrink))
        self.plate = _blurred(self._small(plate))
        self.levels = background, person

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Alpha (H, W) uint8, person 255, of a picture (H, W, 3) uint8 sRGB.

        Raises DataError when no part of the wall looks like the plate.
        """
        small = self._small(picture)
        alpha = self._alpha(small)
        return alpha if small is picture else enlarge_alpha(alpha, small, picture)

    def _small(self, picture: np.ndarray) -> np.ndarray:
        """At the size that is solved."""
        same = picture.shape[1::-1] == self.size
        return picture if same else cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)

    def _alpha(self, picture: np.ndarray) -> np.ndarray:
        smooth = _blurred(picture)
        wall, seen = lit_plate(smooth, self.plate)
        distance = _length(smooth - wall)
        noise = float(np.median(distance[seen]))
        background, person = self.levels
        background = max(WALL_NOISE * noise, LEAST_LEVEL) if background is None else background
        person = PERSON_LEVEL * background if person is None else max(person, background)
        return solve_alpha(picture, trimap(distance, background, person))


def _blurred(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) float32 without most of its noise."""
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.0)


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Scalar products (H, W) of vectors (H, W, 3)."""
    return np.einsum("hwc,hwc->hw", first, second)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths (H, W) of vectors (H, W, 3); np.linalg.norm takes four times as long."""
    return np.sqrt(_dot(vectors, vectors))


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
    was solved, give alpha at the full resolution (guided upsampling, He and Sun 2015). Only where alpha changes: all
    else is enlarged as it is.
    """
    (height, width), (rows, columns) = picture.shape[:2], alpha.shape
    large = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
    window = _square(GUIDE_WINDOW)
    band = (cv2.erode(alpha, window) < cv2.dilate(alpha, window)).astype(np.uint8)
    # what is interpolated between pixels of the band needs their neighbours, whose mean needs their windows
    model = _linear_model(small, alpha, cv2.dilate(band, _square(GUIDE_WINDOW + 1)) > 0)
    inside = np.nonzero(cv2.resize(band, (width, height), interpolation=cv2.INTER_NEAREST))
    places = [(inside[0] + 0.5) * rows / height - 0.5, (inside[1] + 0.5) * columns / width - 0.5]
    there = [map_coordinates(part, places, order=1, mode="nearest") for part in model]
    guide = picture[inside] / np.float32(255)
    solved = there[3] + sum(guide[:, channel] * there[channel] for channel in range(3))
    large[inside] = np.rint(np.clip(solved, 0, 1) * 255).astype(np.uint8)
    return large


def _linear_model(small: np.ndarray, alpha: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Slopes and offset (4, h, w) float32: alpha (h, w) uint8 linear in the picture (h, w, 3) uint8, both in [0, 1],
    round each pixel whose window lies `where` (h, w) bool is set.
    """
    guide, alpha = small / np.float32(255), alpha / np.float32(255)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * GUIDE_WINDOW + 1,) * 2)

    r, g, b = cv2.split(guide)
    products = cv2.merge([r * r, r * g, r * b, g * g, g * b, b * b])
    centre, alpha_mean, moments = mean(guide)[where], mean(alpha)[where], mean(products)[where]
    covariance = moments[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3) - centre[:, :, None] * centre[:, None, :]
    covariance += MATTING_EPSILON * np.eye(3, dtype=np.float32)
    along = mean(guide * alpha[..., None])[where] - centre * alpha_mean[:, None]
    slope = np.linalg.solve(covariance, along[..., None])[..., 0]
    model = np.zeros((*alpha.shape, 4), np.float32)
    model[where] = np.concatenate([slope, alpha_mean[:, None] - (slope * centre).sum(-1, keepdims=True)], 1)
    return np.moveaxis(mean(model), -1, 0)


def lit_plate(picture: np.ndarray, plate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plate (H, W, 3) darkened as the wall is in the picture (H, W, 3), float32 both, by a smooth grey factor; and
    where the wall is surely seen, (H, W) bool.

    A pixel votes when it is the plate times a grey factor; hair strands before the wall would pass alone, so votes near
    a pixel that fails are dropped and the factor is smoothed over those left.
    """
    factor = _dot(picture, plate) / np.maximum(_dot(plate, plate), 1.0)
    residual = _length(picture - factor[..., None] * plate)
    votes = (residual < SHADOW_RESIDUAL) & (factor > SHADOW_RANGE[0]) & (factor < SHADOW_RANGE[1])
    votes = _large_parts(cv2.erode(votes.astype(np.uint8), _disc(_pixels(BAND, picture))))
    blown = votes & (plate >= BLOWN).all(2) & (factor < SHADED)
    if not votes.any() or 2 * blown.sum() > votes.sum():
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
    count, labels = cv2.connectedComponents((core | (distance > background)).astype(np.uint8), connectivity=4)
    attached = np.zeros(count, bool)
    labels = labels.astype(np.int32, copy=False)
    attached[labels[core]] = True
    reach = _without_holes(attached[labels])
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


def _square(reach: int) -> np.ndarray:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _large_parts(mask: np.ndarray) -> np.ndarray:
    """Connected parts of a mask that hold at least SMALL_PART of the picture."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= SMALL_PART * mask.size
    large[0] = False
    return large[labels.astype(np.int32, copy=False)]


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """The mask with small holes filled; what touches the picture's border counts as one part, however small."""
    outside = _large_parts(np.pad(~mask, 1, constant_values=True))
    return ~outside[1:-1, 1:-1]
