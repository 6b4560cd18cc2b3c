"""Rasterising on an NVIDIA GPU through nvdiffrast (optional; envs/nvdiffrast.sh builds it)."""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.cameras.camera import Camera
from pipeline.raster.backends.clip import clip_positions
from pipeline.raster.backends.shade import shade
from pipeline.raster.encode import encoded, on_host
from pipeline.raster.fragments import Fragments, Pixels, Rasterizer

TILE = 8  # nvdiffrast's CUDA rasteriser wants sizes divisible by 8


class CudaRasterizer(Rasterizer):
    """The GPU back-end: all cameras of a mesh in one call, their pictures, coded there, to the host in one copy."""

    def __init__(self) -> None:
        import nvdiffrast.torch  # pyright: ignore[reportMissingImports]  # built on the GPU machine alone

        self._nvdiffrast = nvdiffrast.torch
        self.context = nvdiffrast.torch.RasterizeCudaContext()

    def rasterize(self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera]) -> list[Fragments]:
        """See `pipeline.raster.fragments.Rasterizer.rasterize`."""
        nothing = np.zeros((len(vertices), 0), np.float32)
        triangle, barycentric, depth, _ = self._rasterized(vertices, faces, nothing, cameras)
        pictures = [on_host(part).numpy() for part in (triangle, barycentric, depth)]
        return [
            Fragments(*(part[place, : camera.height, : camera.width] for part in pictures))
            for place, camera in enumerate(cameras)
        ]

    def pixels(
        self, vertices: np.ndarray, faces: np.ndarray, attributes: np.ndarray, cameras: Sequence[Camera]
    ) -> Pixels:
        """See `pipeline.raster.fragments.Rasterizer.pixels`."""
        triangle, depth, values = self._pictures(vertices, faces, attributes, cameras)
        found = on_host(torch.cat([(triangle >= 0)[..., None], depth[..., None], values], -1)).numpy()
        return Pixels(found[..., 0] > 0, found[..., 1], found[..., 2:])

    def coded(
        self, vertices: np.ndarray, faces: np.ndarray, attributes: np.ndarray, cameras: Sequence[Camera]
    ) -> dict[str, np.ndarray]:
        """See `pipeline.raster.fragments.Rasterizer.coded`."""
        _, depth, values = self._pictures(vertices, faces, attributes, cameras)
        return encoded(depth, torch.nn.functional.normalize(values[..., :3], dim=-1), values[..., 3:])

    def _pictures(
        self, vertices: np.ndarray, faces: np.ndarray, attributes: np.ndarray, cameras: Sequence[Camera]
    ) -> list[torch.Tensor]:
        """Triangle (C, h, w), depth (C, h, w) and values (C, h, w, K) for cameras of one size."""
        triangle, _, depth, values = self._rasterized(vertices, faces, attributes, cameras)
        height, width = cameras[0].height, cameras[0].width
        return [part[:, :height, :width] for part in (triangle, depth, values)]

    def _rasterized(
        self, vertices: np.ndarray, faces: np.ndarray, attributes: np.ndarray, cameras: Sequence[Camera]
    ) -> tuple[torch.Tensor, ...]:
        """`shade`'s pictures, all of the largest camera's size or a little more."""
        sides = (max(camera.height for camera in cameras), max(camera.width for camera in cameras))
        height, width = (-(-side // TILE) * TILE for side in sides)
        places, corners, known = (
            torch.as_tensor(np.ascontiguousarray(array), device="cuda")
            for array in (vertices, np.asarray(faces, np.int32), np.asarray(attributes, np.float32))
        )
        positions, points = clip_positions(places, cameras, height, width)
        raster, _ = self._nvdiffrast.rasterize(self.context, positions, corners, resolution=(height, width))
        return shade(raster, points, corners, known)
