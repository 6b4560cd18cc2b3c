"""What hides the skin just above the neck cut, a collar or the dark inside of it, found by what other cameras see."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import binary_dilation, binary_propagation, mean, median

# Added to a pixel's sum of levels: without it black has no chromaticity. With 30, dark skin in the shadow of the chin
# (60 levels in all) is 20 of 255 off the same skin in light, more than a shirt may be.
DARK = 10.0
FACE_CELL = 0.01  # metres: on the face what cameras see is compared as means over cells of this size
CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)  # neighbours in a picture, not between cameras


@dataclass(frozen=True)
class Occluder:
    """Pixels up to `height` metres above the neck cut are compared with the rest of their canonical cell of `cell`
    metres; those more than `tolerance` (of 255) off in chromaticity are no skin."""

    height: float
    cell: float
    tolerance: float


def chromaticity(colour: np.ndarray) -> np.ndarray:
    """Shares (..., 3) of red, green and blue in [0, 255) of sRGB colours (..., 3), much alike in light and shadow."""
    return 255 * colour / (colour.sum(-1, keepdims=True) + DARK)


def occluded(
    colour: np.ndarray,
    place: np.ndarray,
    asked: np.ndarray,
    face: np.ndarray,
    body: np.ndarray,
    occluder: Occluder,
) -> np.ndarray:
    """Where something hides the skin, (C, h, w) bool, with a rim of one pixel, among the pixels `asked` (C, h, w).

    `colour` (C, h, w, 3) sRGB in [0, 255] of all cameras at one moment; `place` (C, h, w, 3) canonical, metres; `face`
    (C, h, w) bool is surely head, `body` (C, h, w) bool person but no head. What hides the skin hangs together with the
    body, as noise and stubble do not, and differs from most pixels of its cell, or on the face from what most cameras
    see.
    """
    result = np.zeros(asked.shape, bool)
    if not asked.any():
        return result
    shares = chromaticity(np.stack([denoised(picture) for picture in colour]))[asked]
    camera = np.nonzero(asked)[0]
    off = np.where(
        face[asked],
        from_other_cameras(shares, cells_of(place[asked], FACE_CELL), camera),
        from_usual(shares, cells_of(place[asked], occluder.cell)),
    )
    result[asked] = off > occluder.tolerance
    result = binary_propagation(body, CROSS, mask=body | result) & result
    return binary_dilation(result, CROSS) & asked


def denoised(picture: np.ndarray) -> np.ndarray:
    """Medians (h, w, 3) of 3 by 3 pixels of a picture (h, w, 3) of levels in [0, 255]."""
    return cv2.medianBlur(np.ascontiguousarray(picture, np.float32), 3)


def cells_of(place: np.ndarray, size: float) -> np.ndarray:
    """Number of the cubic cell of edge `size` that holds each place (N, 3), (N,) int without gaps."""
    return np.unique(np.floor(place / size).astype(int), axis=0, return_inverse=True)[1].reshape(-1)


def from_usual(shares: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """How far values (N, 3) are from the median of their cell (N,): the largest of the channels, (N,)."""
    usual = np.stack([median(channel, cell, np.arange(cell.max() + 1)) for channel in shares.T], -1)
    return np.abs(shares - usual[cell]).max(-1)


def from_other_cameras(shares: np.ndarray, cell: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """How far the mean that a pixel's camera (N,) sees in its cell (N,) is from the cameras' median, (N,).

    A beard differs from the skin around it, but not between cameras.
    """
    pairs, pair = np.unique(np.stack([cell, camera], -1), axis=0, return_inverse=True)
    pair = pair.reshape(-1)
    seen = np.stack([mean(channel, pair, np.arange(len(pairs))) for channel in shares.T], -1)
    return from_usual(seen, pairs[:, 0])[pair]
