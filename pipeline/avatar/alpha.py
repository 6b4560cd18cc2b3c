"""The alpha of pictures that an avatar rendered over white, and the same head over any colour."""

import cv2
import numpy as np

INSIDE = 0.02  # of the picture's height: deeper in the mesh than this the head is taken to be opaque
REACH = 0.08  # and farther from the mesh than this there is nothing: hair stands off it
LEAST = 1 / 255
UNLIKE = 0.03  # by so much of 1 another colour has to explain a pixel better than one that is nearer
ALONE = 0.2  # a pixel whose alpha is so far from its neighbours' takes theirs
FAINT = 0.12  # below this alpha a pixel's own colour is mostly noise: thirty levels from white at most


def alpha_over_white(picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) float64 and alpha (h, w) float64, both 0..1, of a picture (h, w, 3) uint8 over white.

    `mask` (h, w) bool is where the mesh is. Deep inside all is opaque. Round the silhouette a pixel is a mix of white
    and of an opaque colour near it, so its alpha is how far it is from white on the way there. That colour is one of
    those deep inside that are nearest to the pixel and to places round it: the one on whose way from white the pixel
    lies. Skin beside a brow would be half transparent if it were taken for a mix of white and the brow. Alpha is at
    least what keeps the colour between 0 and 1; over white the picture comes out as it was. What is almost white has
    the opaque colour too: its own, divided by so little, would be specks of any colour, which show where alpha is left
    out or shrunk.
    """
    mixed = picture.astype(np.float64) / 255
    height = len(picture)
    margin, reach = max(1, round(INSIDE * height)), max(2, round(REACH * height))
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
    deep = cv2.erode(mask.astype(np.uint8), ball, borderValue=0) > 0
    if not deep.any():
        return mixed, np.zeros(mask.shape)
    distance, label = cv2.distanceTransformWithLabels(
        (~deep).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    label = label.astype(int)
    colours = np.zeros((label.max() + 1, 3))
    colours[label[deep]] = mixed[deep]
    rim = ~deep & (distance <= margin + reach)
    near = mixed.copy()
    near[rim] = _opaque(mixed, rim, colours[label], 2 * margin)
    share = _share(1 - mixed, 1 - near)
    round_it = cv2.medianBlur(share.astype(np.float32), 3)
    share = np.where(np.abs(share - round_it) > ALONE, round_it, share)  # a single pixel that chose another colour
    needed = 1 - mixed.min(-1)  # the darkest channel can be no darker than 0 before white was mixed in
    alpha = np.maximum(share, needed)
    faint = (alpha < FAINT) & ~deep
    alpha[faint] = share[faint]
    alpha[deep] = 1
    alpha[(distance > margin + reach) | (alpha < LEAST)] = 0
    colour = np.where(alpha[..., None] > 0, 1 - (1 - mixed) / np.maximum(alpha, LEAST)[..., None], 1)
    faint &= alpha > 0
    colour[faint] = near[faint]
    return np.clip(colour, 0, 1), alpha


def _share(off: np.ndarray, away: np.ndarray) -> np.ndarray:
    """How far (...) colours that are `off` (..., 3) from white are on the way to those that are `away` from it."""
    return ((off * away).sum(-1) / np.maximum((away**2).sum(-1), 1e-4)).clip(0, 1)


def _opaque(mixed: np.ndarray, rim: np.ndarray, nearest: np.ndarray, step: int) -> np.ndarray:
    """Which opaque colour (P, 3) the pixels of a rim are mixed of, in a picture (h, w, 3) of 0..1 over white.

    `nearest` (h, w, 3): the colour of the nearest pixel deep inside. A pixel has its own to choose from and those of
    the eight places that are `step` pixels away; its own wins unless another explains it better.
    """
    height, width = rim.shape
    rows, columns = np.nonzero(rim)
    off = 1 - mixed[rim]
    best, least = nearest[rim], np.full(len(off), np.inf)
    places = sorted(((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)), key=lambda place: place != (0, 0))
    for down, right in places:
        found = nearest[(rows + step * down).clip(0, height - 1), (columns + step * right).clip(0, width - 1)]
        away = 1 - found
        share = _share(off, away)
        missed = np.linalg.norm(off - share[:, None] * away, axis=-1)
        better = missed < least - UNLIKE
        best, least = np.where(better[:, None], found, best), np.where(better, missed, least)
    return best


def with_alpha(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """RGBA (h, w, 4) uint8, not premultiplied, of a picture (h, w, 3) uint8 over white."""
    colour, alpha = alpha_over_white(picture, mask)
    return (np.concatenate([colour, alpha[..., None]], -1) * 255).round().astype(np.uint8)


def over(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A picture (h, w, 3) uint8 over white, over another colour of 0..255 instead; over white it is the same."""
    if colour == (255, 255, 255):
        return picture
    _, alpha = alpha_over_white(picture, mask)
    changed = picture - (1 - alpha[..., None]) * (255 - np.array(colour, np.float64))
    return changed.clip(0, 255).round().astype(np.uint8)
