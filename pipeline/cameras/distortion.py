"""Lenses that bend straight lines, by any of COLMAP's camera models, undone once: recorded pictures to pinhole ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.cameras.camera import Camera, Lens
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pycolmap

STRAIGHT = ("SIMPLE_PINHOLE", "PINHOLE")  # models that bend nothing
WIDEST_ZOOM = 3.0  # a picture that needs more to be filled has been recorded by no lens that a head is recorded with
EDGE_POINTS = 64  # of each edge of the picture, looked at for whether the lens recorded them


def colmap_camera(lens: Lens) -> pycolmap.Camera:
    """COLMAP's camera. Raises DataError where it knows no such model, or the number of parameters is another one."""
    import pycolmap  # takes half a second, and a capture without lenses needs none

    try:
        camera = pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))
    except (ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"lens model {lens.model!r}: {error}; expected one of COLMAP's") from error
    if not camera.verify_params():
        raise DataError(f"lens model {lens.model}: {len(lens.params)} parameters; expected {camera.params_info}")
    return camera


def pinhole_intrinsics(lens: Lens) -> np.ndarray:
    """Intrinsics (3, 3) of a pinhole camera of the recorded size that sees only what the lens recorded.

    Those of the middle of the lens, zoomed in until no corner is blank: a blank corner would be taken for
    background. Raises DataError where that is no picture any more.
    """
    intrinsics = np.array(colmap_camera(lens).calibration_matrix())
    for zoom in np.arange(1.0, WIDEST_ZOOM, 0.002):
        zoomed = intrinsics * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
        if _fills(lens, zoomed):
            return zoomed
    raise DataError(f"lens {lens.model} {lens.params}: bends its picture beyond straightening; expected a milder one")


def _fills(lens: Lens, intrinsics: np.ndarray) -> bool:
    """Whether the lens recorded every pixel along the edges of a pinhole picture of its size."""
    x, y = np.linspace(0.5, lens.width - 0.5, EDGE_POINTS), np.linspace(0.5, lens.height - 0.5, EDGE_POINTS)
    edges = [(x, np.full_like(x, v)) for v in (y[0], y[-1])] + [(np.full_like(y, u), y) for u in (x[0], x[-1])]
    pixels = np.concatenate([np.stack(edge, -1) for edge in edges])
    seen = bent(lens, intrinsics, pixels)
    # half a pixel beyond the outermost pixel centres the outermost pixel itself is shown
    return bool(((seen >= 0) & (seen <= (lens.width, lens.height))).all())


def bent(lens: Lens, intrinsics: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Where the lens records what a pinhole camera with `intrinsics` sees at pixels (N, 2): (N, 2)."""
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics).T
    return np.asarray(colmap_camera(lens).img_from_cam(rays))


class Straightener:
    """Takes recorded pictures of one camera to straight ones of the recorded size."""

    def __init__(self, camera: Camera):
        lens = camera.lens
        assert lens is not None
        self.size = (lens.width, lens.height)
        x, y = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
        recorded = camera.resized(lens.width, lens.height)
        places = bent(lens, recorded.intrinsics, np.stack([x, y], -1).reshape(-1, 2)) - 0.5
        self.columns, self.rows = np.ascontiguousarray(places.T, np.float32).reshape(2, lens.height, lens.width)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H, W) or (H, W, 3) uint8, straightened. One of another size than the lens's is resized first."""
        if picture.shape[1::-1] != self.size:
            picture = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)
        return cv2.remap(picture, self.columns, self.rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def square(camera: Camera) -> Camera:
    """The camera with square pixels, the shorter focal length made as long as the other; its recorded pictures, still
    those of the lens, are stretched when they are straightened."""
    matrix, lens = camera.intrinsics, camera.lens
    if lens is None:
        params = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
        lens = Lens("PINHOLE", camera.width, camera.height, params)
    across, down = max(matrix[0, 0], matrix[1, 1]) / matrix[[0, 1], [0, 1]]
    stretched = camera.resized(round(camera.width * across), round(camera.height * down))
    return replace(stretched, lens=lens)


def without_lens(camera: Camera) -> Camera:
    """The pinhole camera that a straightened picture of the recorded size belongs to; the lens is still named."""
    if camera.lens is None or camera.lens.model in STRAIGHT:
        return replace(camera, lens=None)
    return replace(camera, intrinsics=pinhole_intrinsics(camera.lens))
