"""What hides the skin just above the neck cut, a collar or the dark inside of it, found by what other cameras see."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, median

DARK = 30.0  # added to a pixel's sum of levels: black then differs from skin, while skin in shadow does not


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


def occluded(colour: np.ndarray, place: np.ndarray, asked: np.ndarray, occluder: Occluder) -> np.ndarray:
    """Where something hides the skin, (C, h, w) bool, with a rim of one pixel, among the pixels `asked` (C, h, w).

    `colour` (C, h, w, 3) sRGB in [0, 255] of all cameras at one moment; `place` (C, h, w, 3) canonical, metres. What
    few cameras see otherwise than most is before the skin: the median over the cell is skin.
    """
    result = np.zeros(asked.shape, bool)
    if not asked.any():
        return result
    _, cell = np.unique(np.floor(place[asked] / occluder.cell).astype(int), axis=0, return_inverse=True)
    cell, shares = cell.reshape(-1), chromaticity(colour[asked])
    usual = np.stack([median(channel, cell, np.arange(cell.max() + 1)) for channel in shares.T], -1)
    result[asked] = np.abs(shares - usual[cell]).max(-1) > occluder.tolerance
    return binary_dilation(result, np.ones((1, 3, 3))) & asked
