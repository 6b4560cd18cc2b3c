"""OpenCV cameras in the clip space of GPU rasterisers."""

import numpy as np

from pipeline.cameras.camera import Camera


def clip_positions(vertices: np.ndarray, camera: Camera, height: int, width: int) -> np.ndarray:
    """Homogeneous clip coordinates (V, 4) float32 of world points for a picture of `height` x `width` pixels.

    Clip y grows downwards in the picture, because nvdiffrast's row 0 lies at y = -1. The picture may be larger than
    the camera's: it is then extended to the right and below. Near and far planes hug the mesh, for depth precision.
    """
    in_camera = vertices @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    pixels = in_camera @ camera.intrinsics.T  # homogeneous, last = depth
    depth = in_camera[:, 2]
    near, far = max(0.5 * depth.min(), 1e-3), 2 * depth.max()
    z = ((far + near) * depth - 2 * far * near) / (far - near)
    clip = np.stack([2 * pixels[:, 0] / width - depth, 2 * pixels[:, 1] / height - depth, z, depth], -1)
    return clip.astype(np.float32)
