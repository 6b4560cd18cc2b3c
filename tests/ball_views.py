"""Cameras round a ball with points on it, and what they would see: exact matches for tests of structure from motion."""

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm.matching.features import Features
from pipeline.capture.sfm.matching.matches import Seen, View

COUNT, POINTS = 8, 300


def looking(angle: float, height: float) -> Camera:
    """A camera a metre from the origin that looks at it."""
    centre = np.array([np.sin(angle), height, np.cos(angle)])
    forward = -centre / np.linalg.norm(centre)
    right = np.cross(forward, [0.0, -1, 0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    pose = np.eye(4)
    pose[:3] = np.concatenate([rotation, -rotation @ centre[:, None]], 1)
    return Camera(f"{angle:.2f}", 256, 384, np.array([[880.0, 0, 128], [0, 880, 192], [0, 0, 1]]), pose, np.eye(3))


def arc() -> list[Camera]:
    """An arc of cameras at two heights."""
    return [looking(0.25 * (i - COUNT / 2), 0.15 * (-1) ** i) for i in range(COUNT)]


def what_they_see(cameras: list[Camera], noise: float = 0.3) -> list[Seen]:
    """Points with descriptors of their own on a ball of 9 cm, with noise in pixels."""
    random = np.random.default_rng(1)
    points = random.normal(size=(POINTS, 3))
    points *= 0.09 / np.linalg.norm(points, axis=1, keepdims=True)
    descriptors = random.normal(size=(POINTS, 128))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    result = []
    for camera in cameras:
        facing = points @ camera.centre > 0
        pixels = camera.project(points[facing])[0] + random.normal(scale=noise, size=(facing.sum(), 2))
        view = View(camera.name, (np.zeros((384, 256, 3), np.uint8),), (None,))
        result.append(Seen(view, (Features(pixels, descriptors[facing].astype(np.float32)),)))
    return result
