"""Rasterising on the CPU: one Embree ray through every pixel centre."""

from collections.abc import Sequence

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from pipeline.cameras.camera import Camera
from pipeline.raster.fragments import Fragments, Rasterizer, resolve


class EmbreeRasterizer(Rasterizer):
    """The CPU back-end of `pipeline.raster.fragments.Rasterizer`; one acceleration structure serves all cameras.

    That of the last mesh is kept, for views of one mesh that are asked for one after another: making it takes longer
    than a small picture. A mesh is known again by its arrays, which must not be changed in place.
    """

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray, EmbreeScene, np.ndarray] | None = None

    def rasterize(self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera]) -> list[Fragments]:
        """See `pipeline.raster.fragments.Rasterizer.rasterize`."""
        if self._last is None or self._last[0] is not vertices or self._last[1] is not faces:
            middle = vertices.mean(0, dtype=np.float64)  # Embree computes in float32: keep the numbers small
            scene = EmbreeScene(robust=True)  # without it rays slip between neighbouring triangles
            TriangleMesh(scene, (vertices - middle).astype(np.float32), np.ascontiguousarray(faces, np.int32))
            self._last = vertices, faces, scene, middle
        _, _, scene, middle = self._last
        return [_trace(scene, middle, vertices, faces, camera) for camera in cameras]


def _trace(
    scene: EmbreeScene, middle: np.ndarray, vertices: np.ndarray, faces: np.ndarray, camera: Camera
) -> Fragments:
    directions = camera.rays().reshape(-1, 3).astype(np.float32)
    origins = np.broadcast_to((camera.centre - middle).astype(np.float32), directions.shape).copy()
    hits = scene.run(origins, directions, query="INTERSECT", output=1)
    size = (camera.height, camera.width)
    second, third = hits["u"].reshape(size), hits["v"].reshape(size)
    barycentric = np.stack([1 - second - third, second, third], -1)
    return resolve(hits["primID"].reshape(size), barycentric, vertices, faces, camera)
