"""Paths of a camera before the head: the release's shake, one through given views, and any of them held to the head."""

from dataclasses import replace

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Frame, Picture, look_at
from pipeline.cameras.rig import Rig

# The release's path, metres in the axes of the head at the first step: to each side, up, before the face, to and fro.
SHAKE_SIDE, SHAKE_UP, SHAKE_FRONT, SHAKE_NEARER, SHAKE_STEPS = 0.3, 0.02, 1.0, 0.02, 40


def shake(frame: Frame, picture: Picture, steps: int) -> Rig:
    """The path of the release of DiffusionAvatars, a round in 40 steps, about the head's frame at the first step."""
    phase = 2 * np.pi * np.arange(steps) / SHAKE_STEPS
    eyes = [SHAKE_SIDE * np.sin(phase), np.full(steps, SHAKE_UP), SHAKE_FRONT + SHAKE_NEARER * np.cos(2 * phase)]
    targets = np.tile([0, SHAKE_UP, 0.0], (steps, 1))
    intrinsics = np.tile(picture.intrinsics(SHAKE_FRONT), (steps, 1, 1))  # does not follow the distance
    return along(frame, picture, np.stack(eyes, 1), targets, intrinsics, "shake")


def through(frame: Frame, picture: Picture, eyes: np.ndarray, targets: np.ndarray, zoom: np.ndarray) -> Rig:
    """A camera at `eyes` (T, 3) that looks at `targets` (T, 3), metres in the axes of the frame, with `zoom` (T,).

    The picture shows its metres at the first view's distance, so that going nearer makes the head larger.
    """
    distance = float(np.linalg.norm(eyes[0] - targets[0]))
    intrinsics = np.stack([picture.intrinsics(distance, factor) for factor in zoom])
    return along(frame, picture, eyes, targets, intrinsics, "path")


def along(
    frame: Frame, picture: Picture, eyes: np.ndarray, targets: np.ndarray, intrinsics: np.ndarray, name: str
) -> Rig:
    """A moving rig at `eyes` (T, 3) that looks at `targets` (T, 3): metres to the head's left, up, to the front."""
    axes = np.stack([np.cross(frame.up, frame.front), frame.up, frame.front])
    cameras: list[Camera] = []
    for step, (eye, target, own) in enumerate(zip(eyes @ axes, targets @ axes, intrinsics, strict=True)):
        pose = look_at(frame.centre + eye, frame.centre + target, frame.up)
        cameras.append(Camera(f"{name}_{step:05d}", picture.width, picture.height, own, pose, np.eye(3)))
    return Rig(tuple(cameras), moving=True)


def held_to_head(rig: Rig, rest: np.ndarray, head_from_world: np.ndarray) -> Rig:
    """The rig carried along by the head, which then stands still in the picture.

    `rest` (4, 4) is the pose that the rig was made for, `head_from_world` (T, 4, 4) those of the steps, of one scale. A
    still rig of one camera becomes a moving one.
    """
    cameras = rig.cameras if rig.moving else rig.cameras * len(head_from_world)
    back = np.linalg.inv(rest)
    moved = [
        replace(camera, camera_from_world=camera.camera_from_world @ back @ pose)
        for camera, pose in zip(cameras, head_from_world, strict=True)
    ]
    return Rig(tuple(moved), moving=True)
