"""A time step's pictures at one level of a resolution pyramid, and which cameras are matched with which."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.cameras.camera import Camera

GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class View:
    """One camera's picture: `grey` (h, w) float32 sRGB luma in [0, 1]; `person` (h, w) bool; `camera` of this size."""

    camera: Camera
    grey: np.ndarray
    person: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.grey.shape


def make_views(
    rgb: Sequence[np.ndarray], alpha: Sequence[np.ndarray], cameras: Sequence[Camera], shrink: int
) -> list[View]:
    """Views at 1/`shrink` of the resolution from `rgb` (H, W, 3) uint8 and `alpha` (H, W) uint8 of each."""
    views = []
    for picture, cover, camera in zip(rgb, alpha, cameras, strict=True):
        width, height = camera.width // shrink, camera.height // shrink
        extent = np.s_[: height * shrink, : width * shrink]
        grey = cv2.resize(picture[extent] @ GREY / 255, (width, height), interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cover[extent], (width, height), interpolation=cv2.INTER_AREA)
        views.append(View(camera.crop(0, 0, shrink, width, height), grey, cover > 127))
    return views


def neighbours(cameras: Sequence[Camera], count: int, widest: float = 50.0) -> list[list[int]]:
    """For every camera the `count` others nearest in viewing direction, none over `widest` degrees away."""
    axes = np.stack([camera.camera_from_world[2, :3] for camera in cameras])
    angles = np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1)))
    np.fill_diagonal(angles, np.inf)
    order = np.argsort(angles, axis=1, kind="stable")[:, :count]
    return [[int(j) for j in row if angles[i, j] <= widest] for i, row in enumerate(order)]


def neighbour_from_reference(reference: Camera, neighbour: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Matrix A (3, 3) and vector b (3,): pixel p at depth z in the reference lies at z * A p + b in the neighbour."""
    between = neighbour.camera_from_world @ reference.world_from_camera
    matrix = neighbour.intrinsics @ between[:3, :3] @ np.linalg.inv(reference.intrinsics)
    return matrix, neighbour.intrinsics @ between[:3, 3]
