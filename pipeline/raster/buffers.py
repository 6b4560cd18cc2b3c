"""The pictures that the avatar is conditioned on: depth, world normals, canonical coordinates and mask."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import Mesh, vertex_normals
from pipeline.raster.fragments import Rasterizer, interpolate
from pipeline.store.chunk import Layout, chunk_writer

PICTURE = ("time", "camera", "row", "column")
MEANING = {  # shape and axes per pixel, dtype, unit, what it is
    "depth": ((), np.float32, (), "m", "distance along the camera's z axis, background 0"),
    "normals": ((3,), np.float16, ("xyz",), "1", "outward unit normal, world, background 0"),
    "x_can": ((5,), np.float32, ("xyz and hyper",), "head unit", "canonical head space, background 0"),
    "mask": ((), np.uint8, (), "1", "255 where the mesh covers the pixel's centre, else 0"),
}


def draw(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """Buffers of one time step for C cameras of one size, background 0 everywhere.

    depth (C, h, w) float32 metres along z; normals (C, h, w, 3) float16 unit world vectors, outward; x_can
    (C, h, w, 5) float32 head units and hyper coordinates; mask (C, h, w) uint8 0 or 255.
    """
    attributes = np.concatenate([vertex_normals(mesh.vertices, mesh.faces), mesh.x_can], -1)  # (V, 3 + 5)
    fragments = rasterizer.rasterize(mesh.vertices, mesh.faces, cameras)
    shape = (len(fragments), *fragments[0].depth.shape)
    drawn = {name: np.zeros((*shape, *rest), dtype) for name, (rest, dtype, *_) in MEANING.items()}
    for camera, fragment in enumerate(fragments):
        both = interpolate(fragment, mesh.faces, attributes)  # (h, w, 3 + 5)
        length = np.linalg.norm(both[..., :3], axis=-1, keepdims=True)
        drawn["depth"][camera] = fragment.depth
        drawn["normals"][camera] = both[..., :3] / np.maximum(length, 1e-12)
        drawn["x_can"][camera] = both[..., 3:]  # copied: a view would keep all eight channels
        drawn["mask"][camera] = fragment.hit * np.uint8(255)
    return drawn


def write_buffers(
    path: Path, steps: Iterable[dict[str, np.ndarray]], shape: tuple[int, int, int, int], attributes: dict[str, Any]
) -> None:
    """Write a chunk of T results of `draw`, each as it comes; `shape` is (T, C, h, w)."""
    layouts = {
        name: Layout((*shape, *rest), dtype, (*PICTURE, *axes), unit, about)
        for name, (rest, dtype, axes, unit, about) in MEANING.items()
    }
    with chunk_writer(path, layouts, attributes) as chunk:
        for step, drawn in enumerate(steps):
            for name, pictures in drawn.items():
                chunk.put(name, (step,), pictures)
