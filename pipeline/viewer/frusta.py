"""Cameras as frusta with their pictures."""

import numpy as np
import viser
import viser.transforms

from pipeline.cameras.rig import Rig

SHARE = 0.25  # of the way from a camera to its nearest neighbour
LONGEST = 0.04  # metres: or cameras that stand far apart hide the head
LINE = 0.025  # of a frustum's length
THUMBNAIL = 128  # pixels of a frustum's picture along its longer side


def show_frusta(scene: viser.SceneApi, rig: Rig, length: float, pictures: np.ndarray | None, visible: bool) -> None:
    """Show every camera of a rig as a frustum of `length` metres, with its picture of (C, h, w, 3) uint8 if given."""
    for place, camera in enumerate(rig.cameras):
        pose, image = camera.world_from_camera, None
        if pictures is not None:
            every = max(1, round(max(pictures.shape[1:3]) / THUMBNAIL))
            image = pictures[place, ::every, ::every]
        scene.add_camera_frustum(
            f"/cameras/{camera.name}",
            fov=2 * np.arctan(camera.height / 2 / camera.intrinsics[1, 1]),
            aspect=camera.width / camera.height,
            scale=length,
            thickness=LINE * length,
            image=image,
            wxyz=viser.transforms.SO3.from_matrix(pose[:3, :3]).wxyz,
            position=pose[:3, 3],
            visible=visible,
        )


def frustum_length(centres: np.ndarray) -> float:
    """How long the frusta of cameras at `centres` (C, 3), metres, are so that they do not hide each other."""
    if len(centres) < 2:
        return LONGEST
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return float(min(LONGEST, SHARE * np.median(apart.min(1))))
