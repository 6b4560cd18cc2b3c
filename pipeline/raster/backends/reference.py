"""A z-buffer in plain numpy: what the fast rasterisers are compared with. One triangle at a time."""

from collections.abc import Sequence

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.raster.fragments import BACKGROUND, Fragments, Rasterizer, resolve


class ReferenceRasterizer(Rasterizer):
    """A slow back-end of `pipeline.raster.fragments.Rasterizer`, in float64. All vertices must be before the camera."""

    def rasterize(self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera]) -> list[Fragments]:
        """See `pipeline.raster.fragments.Rasterizer.rasterize`."""
        return [_rasterized(vertices.astype(np.float64), faces, camera) for camera in cameras]


def _rasterized(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> Fragments:
    size = (camera.height, camera.width)
    nearest = np.full(size, np.inf)
    triangle = np.full(size, BACKGROUND, np.int32)
    barycentric = np.zeros((*size, 3))
    pixels, depth = camera.project(vertices)
    for number, corners in enumerate(faces):
        low = np.maximum(np.ceil(pixels[corners].min(0) - 0.5), 0).astype(int)
        high = np.minimum(np.floor(pixels[corners].max(0) - 0.5) + 1, (camera.width, camera.height)).astype(int)
        if (low >= high).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        flat = _flat_weights(pixels[corners], x, y)
        if flat is None:
            continue
        inverse_depth = flat @ (1 / depth[corners])
        here = (slice(low[1], high[1]), slice(low[0], high[0]))
        closer = (flat >= 0).all(-1) & (1 / inverse_depth < nearest[here])
        weights = flat / depth[corners] / inverse_depth[..., None]  # perspective-correct
        nearest[here] = np.where(closer, 1 / inverse_depth, nearest[here])
        triangle[here] = np.where(closer, number, triangle[here])
        barycentric[here] = np.where(closer[..., None], weights, barycentric[here])
    return resolve(triangle, barycentric, vertices, faces, camera)


def _flat_weights(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Barycentric weights (..., 3) in the picture of points x, y (...,); None for a triangle seen edge-on."""
    (ax, ay), (bx, by), (cx, cy) = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0:
        return None
    second = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
    third = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
    return np.stack([1 - second - third, second, third], -1)
