"""The pictures that the avatar is conditioned on: depth, world normals, canonical coordinates and mask."""

from collections.abc import Sequence

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import Mesh, vertex_normals
from pipeline.raster.fragments import Rasterizer, interpolate
from pipeline.store.chunk import Array


def draw(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """Buffers of one time step for C cameras of one size, background 0 everywhere.

    depth (C, h, w) float32 metres along z; normals (C, h, w, 3) float16 unit world vectors, outward; x_can
    (C, h, w, 5) float32 head units and hyper coordinates; mask (C, h, w) uint8 0 or 255.
    """
    attributes = np.concatenate([vertex_normals(mesh.vertices, mesh.faces), mesh.x_can], -1)  # (V, 3 + 5)
    fragments = rasterizer.rasterize(mesh.vertices, mesh.faces, cameras)
    drawn = np.stack([interpolate(f, mesh.faces, attributes) for f in fragments])  # (C, h, w, 8)
    length = np.linalg.norm(drawn[..., :3], axis=-1, keepdims=True)
    return {
        "depth": np.stack([f.depth for f in fragments]),
        "normals": (drawn[..., :3] / np.maximum(length, 1e-12)).astype(np.float16),
        "x_can": drawn[..., 3:],
        "mask": np.stack([f.hit for f in fragments]).astype(np.uint8) * 255,
    }


def pack(steps: Sequence[dict[str, np.ndarray]]) -> dict[str, Array]:
    """The arrays of a buffers chunk (docs/formats.md) from T results of `draw`."""
    picture = ("time", "camera", "row", "column")
    meaning = {
        "depth": (picture, "m", "distance along the camera's z axis, background 0"),
        "normals": ((*picture, "xyz"), "1", "outward unit normal, world, background 0"),
        "x_can": ((*picture, "xyz and hyper"), "head unit", "canonical head space, background 0"),
        "mask": (picture, "1", "255 where the mesh covers the pixel's centre, else 0"),
    }
    return {name: Array(np.stack([step[name] for step in steps]), *about) for name, about in meaning.items()}
