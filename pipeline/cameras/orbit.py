"""Rigs to look at the head from: the capture's cameras cropped round it, and an orbit before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.errors import DataError


@dataclass(frozen=True)
class Frame:
    """Where the head is: `centre` (3,) world metres; `up` and `front` (3,) unit world vectors, at right angles."""

    centre: np.ndarray
    up: np.ndarray
    front: np.ndarray

    @classmethod
    def upright(cls, centre: np.ndarray, up: np.ndarray, front: np.ndarray) -> "Frame":
        """The frame of an upward direction and a roughly forward one, (3,) each."""
        up = up / np.linalg.norm(up)
        front = front - (front @ up) * up
        return cls(centre, up, front / np.linalg.norm(front))

    def shifted(self, up: float, front: float) -> "Frame":
        """The frame moved along its own axes, metres."""
        return Frame(self.centre + up * self.up + front * self.front, self.up, self.front)


@dataclass(frozen=True)
class Picture:
    """Size of a rig's pictures: `width` and `height` in pixels, `metres` seen over the height at the head's centre."""

    width: int
    height: int
    metres: float

    def intrinsics(self, distance: float, zoom: float = 1.0) -> np.ndarray:
        """(3, 3) of a camera that sees `metres` over the height at a distance in metres, or less by `zoom`."""
        focal = zoom * self.height * distance / self.metres
        return np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1]])


def crop_round(cameras: Sequence[Camera], centre: np.ndarray, picture: Picture) -> Rig:
    """Each camera cropped so that `centre` (3,) world metres is the middle of the picture; poses stay.

    Raises DataError naming a camera that does not look at the centre.
    """
    cropped: list[Camera] = []
    for camera in cameras:
        (x, y), depth = camera.project(centre)
        if depth <= 0 or not (0 <= x <= camera.width and 0 <= y <= camera.height):
            raise DataError(f"camera {camera.name} does not see the head: its centre falls on ({x:.0f}, {y:.0f})")
        ratio = picture.metres * camera.intrinsics[1, 1] / (depth * picture.height)
        left, top = x - ratio * picture.width / 2, y - ratio * picture.height / 2
        cropped.append(camera.crop(left, top, ratio, picture.width, picture.height))
    return Rig(tuple(cropped))


def orbit(
    cameras: Sequence[Camera],
    frame: Frame,
    picture: Picture,
    steps: int,
    sway_degrees: float,
    nod_degrees: float,
) -> Rig:
    """A moving rig of `steps` cameras that sways before the head and comes back to where it began.

    The camera swings `sway_degrees` to each side and `nod_degrees` up and down (at twice the pace, so that the path is
    a lying figure of eight) about the mean direction and at the mean distance of `cameras`.
    """
    right = np.cross(frame.front, frame.up)  # of a viewer who faces the head
    offsets = (
        np.stack([camera.centre - frame.centre for camera in cameras]) @ np.stack([right, frame.up, frame.front]).T
    )
    distance = np.linalg.norm(offsets, axis=-1).mean()
    middle = offsets.mean(0)
    middle_yaw = np.arctan2(middle[0], middle[2])
    middle_pitch = np.arctan2(middle[1], np.hypot(middle[0], middle[2]))
    intrinsics = picture.intrinsics(distance)
    path: list[Camera] = []
    for step in range(steps):
        phase = 2 * np.pi * step / steps
        yaw = middle_yaw + np.radians(sway_degrees) * np.sin(phase)
        pitch = middle_pitch + np.radians(nod_degrees) * np.sin(2 * phase)
        direction = np.cos(pitch) * (np.sin(yaw) * right + np.cos(yaw) * frame.front) + np.sin(pitch) * frame.up
        pose = look_at(frame.centre + distance * direction, frame.centre, frame.up)
        path.append(Camera(f"orbit_{step:05d}", picture.width, picture.height, intrinsics, pose, np.eye(3)))
    return Rig(tuple(path), moving=True)


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """`camera_from_world` (4, 4) of an OpenCV camera at `eye` that looks at `target`, both (3,) world metres."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose
