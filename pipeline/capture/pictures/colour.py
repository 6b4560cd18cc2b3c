"""Colour correction in linear light: takes a camera's cast away, so that all cameras agree on a colour."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import DataError

# Linear light is rounded to this many levels before it is encoded again: the steepest part of the sRGB curve spans
# 12.92 * 255 / 65535 = 0.05 of an 8-bit level per step, so a rounding differs in 1 pixel of 20 at most, by 1 level.
LINEAR_LEVELS = 65536


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light, same shape (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB, same shape (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0) ** (1 / 2.4) - 0.055)


def correct_color(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 sRGB with `matrix` (3, terms) applied in linear light, (H, W, 3) uint8 sRGB.

    `terms` is that of a polynomial of Cheung, Westland, Connah and Ripamonti (2004); with three the correction is the
    plain matrix product. What leaves [0, 1] is clipped.
    """
    decode, encode = _tables()
    linear = cv2.LUT(picture, decode)
    terms = matrix.shape[1]
    if terms != 3:
        # Imported here: colour-science takes 1.5 s to import and most captures have three terms.
        from colour.characterisation import matrix_augmented_Cheung2004

        linear = matrix_augmented_Cheung2004(linear, terms)
    corrected = cv2.transform(linear, matrix.astype(np.float32) * (LINEAR_LEVELS - 1))
    np.clip(corrected, 0, LINEAR_LEVELS - 1, out=corrected)
    corrected += 0.5
    return encode[corrected.astype(np.uint16)]


def read_tint(path: Path) -> np.ndarray:
    """An affine correction (3, 4) of sRGB in [0, 1] from a .npy file. Raises DataError naming it."""
    try:
        matrix = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: {error}; expected an affine colour correction, 3x4 or 4x4") from error
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise DataError(f"{path}: shape {matrix.shape} or not finite; expected an affine colour correction, 3x4 or 4x4")
    return matrix[:3]


def tinted(picture: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 sRGB as row vectors times `tint` (3, 4), its last column added, in sRGB."""
    matrix = np.column_stack([tint[:, :3].T, 255 * tint[:, 3]])
    return cv2.transform(picture, matrix)  # rounds and clips


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    decode = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
    encode = np.rint(linear_to_srgb(np.arange(LINEAR_LEVELS) / (LINEAR_LEVELS - 1)) * 255).astype(np.uint8)
    return decode, encode
