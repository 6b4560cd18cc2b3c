"""The rasteriser's one interface: what each pixel's ray meets first on a mesh, and attributes interpolated there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.raster.coding import encode_all

BACKGROUND = -1


@dataclass(frozen=True)
class Fragments:
    """The first surface behind each pixel centre of one camera.

    `triangle` (h, w) int32, row of `faces`, -1 for background; `barycentric` (h, w, 3) float32, perspective-correct
    weights of the triangle's corners, sum 1, background 0; `depth` (h, w) float32 metres along the camera's z,
    background 0.
    """

    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        """(h, w) bool, where there is a surface."""
        return self.triangle != BACKGROUND


class Pixels(NamedTuple):
    """Pictures of C cameras of one size: `hit` (C, h, w) bool, `depth` (C, h, w) and attributes `values` (C, h, w, K),
    float32, background 0."""

    hit: np.ndarray
    depth: np.ndarray
    values: np.ndarray


class Rasterizer(ABC):
    """A back-end. Both give the same pixels but for a band along silhouettes and triangle edges."""

    @abstractmethod
    def rasterize(self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera]) -> list[Fragments]:
        """Fragments of one mesh for each camera.

        `vertices` (V, 3) float world metres; `faces` (F, 3) int32, counter-clockwise seen from outside. A ray that
        first meets the inside of a surface (through the open neck) sees background, as a closed neck would hide it.
        """

    def pixels(
        self, vertices: np.ndarray, faces: np.ndarray, attributes: np.ndarray, cameras: Sequence[Camera]
    ) -> Pixels:
        """Pictures of one mesh with vertex `attributes` (V, K), for cameras of one size; see `rasterize`."""
        fragments = self.rasterize(vertices, faces, cameras)
        shape = (len(fragments), *fragments[0].depth.shape)
        found = Pixels(
            np.zeros(shape, bool), np.zeros(shape, np.float32), np.zeros((*shape, attributes.shape[1]), np.float32)
        )
        for place, seen in enumerate(fragments):
            found.hit[place], found.depth[place] = seen.hit, seen.depth
            found.values[place] = interpolate(seen, faces, attributes)
        return found

    def coded(
        self, vertices: np.ndarray, faces: np.ndarray, attributes: np.ndarray, cameras: Sequence[Camera]
    ) -> dict[str, np.ndarray]:
        """The same pictures as `pipeline.raster.coding` stores them, (C, ...); attributes are normals and x_can."""
        _, depth, values = self.pixels(vertices, faces, attributes, cameras)
        return encode_all(depth, *unit_and_rest(values))


def unit_and_rest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (..., 3) and x_can (..., 5) of interpolated ones (..., 8)."""
    normals = values[..., :3]
    length = np.sqrt(np.einsum("...k,...k", normals, normals))[..., None]  # a third of np.linalg.norm's time
    return normals / np.maximum(length, 1e-12), values[..., 3:].copy()  # a view would keep all eight channels


def resolve(
    triangle: np.ndarray, barycentric: np.ndarray, vertices: np.ndarray, faces: np.ndarray, camera: Camera
) -> Fragments:
    """Fragments from a back-end's raw hits: back faces dropped, depth from the corners.

    `triangle` (h, w) int, `barycentric` (h, w, 3), `vertices` (V, 3) world metres, `faces` (F, 3).
    """
    in_camera = vertices @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    hit = triangle != BACKGROUND
    corners = in_camera[faces[triangle[hit]]]  # (P, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = np.einsum("pk,pk->p", normal, corners[:, 0]) < 0  # the camera stands at the origin
    depth = np.zeros(triangle.shape, np.float32)
    depth[hit] = np.where(outward, np.einsum("pc,pc->p", barycentric[hit], corners[..., 2]), 0)
    hit[hit] = outward
    triangle = np.where(hit, triangle, BACKGROUND).astype(np.int32)
    return Fragments(triangle, np.where(hit[..., None], barycentric, 0).astype(np.float32), depth)


def interpolate(fragments: Fragments, faces: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Vertex attributes (V, K) at every pixel, (h, w, K) float32, background 0."""
    result = np.zeros((*fragments.triangle.shape, attributes.shape[1]), np.float32)
    hit = fragments.hit
    corners = attributes[faces[fragments.triangle[hit]]]  # (P, 3, K)
    result[hit] = np.einsum("pc,pck->pk", fragments.barycentric[hit], corners)
    return result
