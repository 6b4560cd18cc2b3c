"""Rasterising on an NVIDIA GPU through nvdiffrast (optional: it is on no package index)."""

from collections.abc import Sequence

import numpy as np
import nvdiffrast.torch as dr
import torch

from pipeline.capture.cameras import Camera
from pipeline.raster.api import Fragments, resolve

TILE = 8  # nvdiffrast's CUDA rasteriser wants sizes divisible by 8


class CudaRasterizer:
    """The GPU back-end of `pipeline.raster.api.Rasterizer`."""

    def __init__(self) -> None:
        self.context = dr.RasterizeCudaContext()

    def rasterize(self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera]) -> list[Fragments]:
        """See `pipeline.raster.api.Rasterizer.rasterize`."""
        triangles = torch.as_tensor(np.ascontiguousarray(faces, np.int32), device="cuda")
        return [self._draw(vertices, faces, triangles, camera) for camera in cameras]

    def _draw(self, vertices: np.ndarray, faces: np.ndarray, triangles: torch.Tensor, camera: Camera) -> Fragments:
        height, width = (-(-size // TILE) * TILE for size in (camera.height, camera.width))
        clip = torch.as_tensor(clip_positions(vertices, camera, height, width), device="cuda")
        raster, _ = dr.rasterize(self.context, clip[None], triangles, resolution=(height, width))
        first, second, _, triangle = raster[0, : camera.height, : camera.width].cpu().numpy().transpose(2, 0, 1)
        barycentric = np.stack([first, second, 1 - first - second], -1)
        return resolve(triangle.astype(np.int32) - 1, barycentric, vertices, faces, camera)


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
    return np.stack([2 * pixels[:, 0] / width - depth, 2 * pixels[:, 1] / height - depth, z, depth], -1).astype(
        np.float32
    )
