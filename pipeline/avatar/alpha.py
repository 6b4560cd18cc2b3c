"""The alpha of pictures that an avatar drew over white, and the same head over any colour."""

import cv2
import numpy as np

INSIDE = 0.02  # of the picture's height: deeper in the mesh than this the head is taken to be opaque
REACH = 0.08  # and farther from the mesh than this there is nothing: hair stands off it
LEAST = 1 / 255
FAINT = 0.12  # below this alpha a pixel's own colour is mostly noise: thirty levels from white at most


def alpha_over_white(picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) float64 and alpha (h, w) float64, both 0..1, of a picture (h, w, 3) uint8 over white.

    `mask` (h, w) bool is where the mesh is. Deep inside all is opaque. Round the silhouette a pixel is a mix of white
    and of the colour of the nearest pixel deep inside, so its alpha is how far it is from white on the way there. It is
    at least what keeps the colour between 0 and 1; over white the picture comes out as it was. What is almost white has
    the colour of that nearest pixel too: its own, divided by so little, would be specks of any colour, which show where
    alpha is left out or shrunk.
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
    near = np.zeros((label.max() + 1, 3))
    near[label[deep]] = mixed[deep]
    away = 1 - near[label]  # of the opaque colour from white
    share = ((1 - mixed) * away).sum(-1) / np.maximum((away**2).sum(-1), 1e-4)
    needed = 1 - mixed.min(-1)  # the darkest channel can be no darker than 0 before white was mixed in
    alpha = np.clip(np.maximum(share, needed), 0, 1)
    faint = (alpha < FAINT) & ~deep
    alpha[faint] = np.clip(share, 0, 1)[faint]
    alpha[deep] = 1
    alpha[(distance > margin + reach) | (alpha < LEAST)] = 0
    colour = np.where(alpha[..., None] > 0, 1 - (1 - mixed) / np.maximum(alpha, LEAST)[..., None], 1)
    faint &= alpha > 0
    colour[faint] = near[label[faint]]
    return np.clip(colour, 0, 1), alpha


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
