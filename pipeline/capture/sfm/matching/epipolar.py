"""How well matches fit given cameras: distances to epipolar lines, per pair."""

import numpy as np

from pipeline.cameras.camera import Camera


def fundamental(a: Camera, b: Camera) -> np.ndarray:
    """(3, 3) float64: b_pixel^T F a_pixel = 0 for homogeneous pixels of one point."""
    b_from_a = b.camera_from_world @ a.world_from_camera
    x, y, z = b_from_a[:3, 3]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.linalg.inv(b.intrinsics).T @ cross @ b_from_a[:3, :3] @ np.linalg.inv(a.intrinsics)


def distances(a: Camera, b: Camera, in_a: np.ndarray, in_b: np.ndarray) -> np.ndarray:
    """How far matches (m, 2), (m, 2) lie off each other's epipolar lines, (m,) pixels, the larger of both pictures'."""
    matrix = fundamental(a, b)
    from_a, from_b = (np.concatenate([p, np.ones((len(p), 1))], 1) for p in (in_a, in_b))
    line_b, line_a = from_a @ matrix.T, from_b @ matrix
    off = np.abs((from_b * line_b).sum(1))
    nearer = np.minimum(np.linalg.norm(line_a[:, :2], axis=1), np.linalg.norm(line_b[:, :2], axis=1))
    return off / np.maximum(nearer, 1e-12)
