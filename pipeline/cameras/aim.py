"""The point that the cameras of a rig aim at."""

import numpy as np

from pipeline.cameras.rig import Rig


def aim_of(rig: Rig) -> np.ndarray:
    """The point (3,), world metres, that is nearest to all optical axes."""
    matrix, right = np.zeros((3, 3)), np.zeros(3)
    for camera in rig.cameras:
        axis = camera.camera_from_world[2, :3]
        across = np.eye(3) - np.outer(axis, axis)
        matrix += across
        right += across @ camera.centre
    # parallel cameras aim nowhere: of the points that are as near as any this is the one nearest to the world's origin
    return np.linalg.lstsq(matrix, right, rcond=1e-6)[0]
