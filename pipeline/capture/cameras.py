"""Cameras: the pinhole model every stage shares, and the JSON file that holds a rig."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import publish


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    `intrinsics` (3, 3) float64 in pixels, the centre of the top left pixel is (0.5, 0.5); `camera_from_world` (4, 4)
    float64, OpenCV axes (x right, y down, z forward), metres; `color` (3, n) float64 linear-light correction matrix.
    """

    name: str
    width: int
    height: int
    intrinsics: np.ndarray
    camera_from_world: np.ndarray
    color: np.ndarray

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

    def rays(self) -> np.ndarray:
        """Directions (height, width, 3) through the pixel centres, world frame, scaled to depth 1 along z."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        in_camera = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(self.intrinsics).T
        return in_camera @ self.camera_from_world[:3, :3]

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


@dataclass(frozen=True)
class Rig:
    """Cameras in order. A still rig's cameras all see every time step; of a moving rig, camera i sees step i only."""

    cameras: tuple[Camera, ...]
    moving: bool = False

    @property
    def names(self) -> list[str]:
        """Camera names in order."""
        return [camera.name for camera in self.cameras]

    def index(self, name: str) -> int:
        """Place of a camera on the camera axis. Raises DataError when there is no such camera."""
        if name not in self.names:
            raise DataError(f"no camera {name}; the rig has {', '.join(self.names)}")
        return self.names.index(name)


def write_rig(path: Path, rig: Rig) -> None:
    """Write a rig as JSON (docs/formats.md)."""
    cameras = [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": camera.intrinsics.tolist(),
            "camera_from_world": camera.camera_from_world.tolist(),
            "color": camera.color.tolist(),
        }
        for camera in rig.cameras
    ]
    with publish(path) as partial:
        partial.write_text(json.dumps({"moving": rig.moving, "cameras": cameras}, indent=1))


def read_rig(path: Path) -> Rig:
    """Read a rig written by `write_rig`. Raises DataError naming the file when it is not one."""
    try:
        content = json.loads(path.read_text())
        cameras = tuple(
            Camera(
                name=entry["name"],
                width=entry["width"],
                height=entry["height"],
                intrinsics=np.array(entry["intrinsics"], float),
                camera_from_world=np.array(entry["camera_from_world"], float),
                color=np.array(entry["color"], float),
            )
            for entry in content["cameras"]
        )
        return Rig(cameras, content["moving"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a rig file ({error!r}); expected the JSON of docs/formats.md") from error
