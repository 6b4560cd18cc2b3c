"""Poses of the head: similarities head_from_world, small motions of them, and the motion between two."""

import numpy as np
from scipy.spatial.transform import Rotation

POSE = 6  # rotation vector (radians), then translation (head units), both in head space


def similarity(centre: np.ndarray, up: np.ndarray, front: np.ndarray, scale: float) -> np.ndarray:
    """head_from_world (4, 4) float64 of a head at `centre` (3,) world metres.

    `up` and `front` (3,) are world directions (front is made orthogonal to up); `scale` is head units per metre.
    """
    up = up / np.linalg.norm(up)
    front = front - (front @ up) * up
    front = front / np.linalg.norm(front)
    rotation = np.stack([np.cross(up, front), up, front])
    result = np.eye(4)
    result[:3, :3] = scale * rotation
    result[:3, 3] = -scale * rotation @ centre
    return result


def centre_up_front(head_from_world: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World position (..., 3) of the head's origin, and its up and front directions (unit), of poses (..., 4, 4)."""
    world_from_head = np.linalg.inv(head_from_world)
    axes = world_from_head[..., :3, :3] / np.linalg.norm(world_from_head[..., :3, :3], axis=-2, keepdims=True)
    return world_from_head[..., :3, 3], axes[..., 1], axes[..., 2]


def scale_of(head_from_world: np.ndarray) -> np.ndarray:
    """Head units per metre (...,) of poses (..., 4, 4)."""
    return np.cbrt(np.linalg.det(head_from_world[..., :3, :3]))


def moved(head_from_world: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) moved by (..., 6) in head space: x becomes R(motion[:3]) x + motion[3:]."""
    step = np.zeros((*motion.shape[:-1], 4, 4))
    turn = Rotation.from_rotvec(motion[..., :3].reshape(-1, 3)).as_matrix()
    step[..., :3, :3] = turn.reshape(*motion.shape[:-1], 3, 3)
    step[..., :3, 3] = motion[..., 3:]
    step[..., 3, 3] = 1
    return step @ head_from_world


def motion_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The motions (..., 6) with moved(before, motion) = after, for poses (..., 4, 4) of one scale."""
    step = after @ np.linalg.inv(before)
    turn = Rotation.from_matrix(step[..., :3, :3].reshape(-1, 3, 3)).as_rotvec()
    return np.concatenate([turn.reshape(*step.shape[:-2], 3), step[..., :3, 3]], -1)


def apply(head_from_world: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., P, 3) in the frame that poses (..., 4, 4) lead to."""
    return points @ np.swapaxes(head_from_world[..., :3, :3], -1, -2) + head_from_world[..., None, :3, 3]
