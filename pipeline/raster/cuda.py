"""Rasterising on an NVIDIA GPU through nvdiffrast (optional; envs/nvdiffrast.sh builds it)."""

from collections.abc import Sequence

import numpy as np
import nvdiffrast.torch as dr
import torch

from pipeline.cameras.camera import Camera
from pipeline.raster.clip import clip_positions
from pipeline.raster.fragments import Fragments, resolve

TILE = 8  # nvdiffrast's CUDA rasteriser wants sizes divisible by 8


class CudaRasterizer:
    """The GPU back-end of `pipeline.raster.fragments.Rasterizer`."""

    def __init__(self) -> None:
        self.context = dr.RasterizeCudaContext()

    def rasterize(self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera]) -> list[Fragments]:
        """See `pipeline.raster.fragments.Rasterizer.rasterize`."""
        triangles = torch.as_tensor(np.ascontiguousarray(faces, np.int32), device="cuda")
        return [self._draw(vertices, faces, triangles, camera) for camera in cameras]

    def _draw(self, vertices: np.ndarray, faces: np.ndarray, triangles: torch.Tensor, camera: Camera) -> Fragments:
        height, width = (-(-size // TILE) * TILE for size in (camera.height, camera.width))
        clip = torch.as_tensor(clip_positions(vertices, camera, height, width), device="cuda")
        raster, _ = dr.rasterize(self.context, clip[None], triangles, resolution=(height, width))
        first, second, _, triangle = raster[0, : camera.height, : camera.width].cpu().numpy().transpose(2, 0, 1)
        barycentric = np.stack([first, second, 1 - first - second], -1)
        return resolve(triangle.astype(np.int32) - 1, barycentric, vertices, faces, camera)
