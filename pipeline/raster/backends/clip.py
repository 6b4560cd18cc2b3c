"""OpenCV cameras in the clip space of GPU rasterisers."""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.cameras.camera import Camera


def clip_positions(
    vertices: torch.Tensor, cameras: Sequence[Camera], height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Homogeneous clip coordinates (C, V, 4) and points in the cameras' axes, metres (C, V, 3), float32, of world
    points (V, 3) for pictures of `height` x `width` pixels.

    Clip y grows downwards in the picture, because nvdiffrast's row 0 lies at y = -1. The picture may be larger than
    the cameras': it is then extended to the right and below. Near and far planes hug the mesh, for depth precision.
    """
    poses, intrinsics = (
        torch.from_numpy(np.stack([getattr(camera, name) for camera in cameras])).to(vertices.device)
        for name in ("camera_from_world", "intrinsics")
    )
    in_camera = vertices.double() @ poses[:, :3, :3].mT + poses[:, None, :3, 3]
    x, y, depth = (in_camera @ intrinsics.mT).unbind(-1)  # homogeneous pixels
    near, far = (0.5 * depth.amin(1, keepdim=True)).clamp_min(1e-3), 2 * depth.amax(1, keepdim=True)
    z = ((far + near) * depth - 2 * far * near) / (far - near)
    clip = torch.stack([2 * x / width - depth, 2 * y / height - depth, z, depth], -1)
    return clip.float(), in_camera.float()
