"""The pinhole camera that every stage shares."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Lens:
    """How a lens bends a recorded picture of `width` x `height` pixels: COLMAP's camera `model` and its `params`,
    focal lengths and principal point first, the centre of the top left pixel being (0.5, 0.5)."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    `intrinsics` (3, 3) float64 in pixels, the centre of the top left pixel is (0.5, 0.5); `camera_from_world` (4, 4)
    float64, OpenCV axes (x right, y down, z forward), metres; `color` (3, n) float64 linear-light correction matrix;
    `lens` what its recorded pictures are straightened with, None: they are straight.
    """

    name: str
    width: int
    height: int
    intrinsics: np.ndarray
    camera_from_world: np.ndarray
    color: np.ndarray
    lens: Lens | None = None

    @property
    def world_from_camera(self) -> np.ndarray:
        """(4, 4) float64, the inverse pose."""
        return np.linalg.inv(self.camera_from_world)

    @property
    def centre(self) -> np.ndarray:
        """(3,) float64, where the camera stands, world metres."""
        return self.world_from_camera[:3, 3]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) to pixels (..., 2) and depth along z (...,), metres."""
        in_camera = points @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3]
        homogeneous = in_camera @ self.intrinsics.T
        return homogeneous[..., :2] / homogeneous[..., 2:], in_camera[..., 2]

    def inside(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Whether places (..., 2) in pixels at depths (...,) lie in the picture and before the camera, (...,) bool."""
        return (pixels >= 0).all(-1) & (pixels < (self.width, self.height)).all(-1) & (depth > 0)

    def hits(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which world points (P, 3) fall into the picture, (P,) bool; of those alone row and column, int64, and depth
        along z, metres."""
        pixels, depth = self.project(points)
        inside = self.inside(pixels, depth)
        column, row = np.floor(pixels[inside]).astype(np.int64).T
        return inside, row, column, depth[inside]

    def own(self, picture: np.ndarray) -> np.ndarray:
        """This camera's part (height, width, ...) of a picture that is padded to the size of a rig's largest."""
        return picture[: self.height, : self.width]

    def rays(self) -> np.ndarray:
        """Directions (height, width, 3) through the pixel centres, world frame, scaled to depth 1 along z."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        in_camera = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(self.intrinsics).T
        return in_camera @ self.camera_from_world[:3, :3]

    def resized(self, width: int, height: int) -> "Camera":
        """The camera of its picture made `width` x `height` pixels.

        The picture's edges stay on the same rays: a point at (u, v) moves to (u * width / own width, v * height / own
        height), pixel centres being at + 0.5. The lens stays: it is the recorded picture's.
        """
        stretch = np.diag([width / self.width, height / self.height, 1.0])
        return replace(self, width=width, height=height, intrinsics=stretch @ self.intrinsics)

    def crop(self, left: float, top: float, pixels_per_pixel: float, width: int, height: int) -> "Camera":
        """A camera that sees the rectangle from (left, top) at `pixels_per_pixel` source pixels per new pixel."""
        new_from_old = np.array(
            [
                [1 / pixels_per_pixel, 0, -left / pixels_per_pixel],
                [0, 1 / pixels_per_pixel, -top / pixels_per_pixel],
                [0, 0, 1],
            ]
        )
        return replace(self, width=width, height=height, intrinsics=new_from_old @ self.intrinsics)
