"""A small network that OpenCV runs on one square picture at a time."""

import cv2
import numpy as np

from pipeline.detect import models


class Network:
    """A TFLite file with its input's edge in pixels and the outputs asked for by name (OpenCV hides some others)."""

    def __init__(self, file: str, size: int, outputs: list[str], folder: str | None = None):
        # one thread, so that pictures can be looked at side by side in as many processes as there are cores
        cv2.setNumThreads(1)
        self.size, self.outputs = size, outputs
        # OpenCV 5.0.0's new engine gives one output a run, and takes networks from memory whichever engine is named
        self.net = cv2.dnn.readNetFromTFLite(str(models.checked(file, folder)), cv2.dnn.ENGINE_CLASSIC)

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """The outputs for a picture (size, size, 3), float32 as the network was trained on it."""
        self.net.setInput(picture.transpose(2, 0, 1)[None])
        return [np.array(output) for output in self.net.forward(self.outputs)]


def square(centre: np.ndarray, side: float, angle: float) -> np.ndarray:
    """`picture_from_square` (2, 3): pixels of the picture from the unit square, for a square of `side` pixels round
    `centre` (2,) whose right hand edge is turned by `angle` radians from the picture's x to its y axis."""
    turn = side * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, centre - turn @ [0.5, 0.5]])


def cut(picture: np.ndarray, picture_from_square: np.ndarray, size: int) -> np.ndarray:
    """The unit square of a picture (H, W, 3) uint8 as (size, size, 3) float32 in [0, 1]; black outside the picture.

    Large pictures are shrunk by whole factors first (area means), so that fine texture does not alias.
    """
    pixels = np.linalg.norm(picture_from_square[:, 0]) / size  # of the picture per pixel of the result
    factor = max(int(pixels), 1)
    matrix = picture_from_square.copy()
    matrix[:, :2] /= size
    if factor > 1:
        height, width = (length // factor * factor for length in picture.shape[:2])
        picture = cv2.resize(picture[:height, :width], None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        matrix /= factor
    # the centre of the top left pixel is (0.5, 0.5) here and (0, 0) for OpenCV
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (size, size), flags=flags).astype(np.float32) / 255


def onto(picture_from_square: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of the picture from points (..., 2) of the unit square."""
    return points @ picture_from_square[:, :2].T + picture_from_square[:, 2]
