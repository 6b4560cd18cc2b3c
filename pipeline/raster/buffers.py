"""The pictures that the avatar is conditioned on: depth, world normals, canonical coordinates and mask."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import Mesh
from pipeline.raster.coding import CODED, encode
from pipeline.raster.fragments import Rasterizer
from pipeline.store.chunk import Layout, chunk_writer


def draw(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """Buffers of one time step for C cameras of one size, background 0 everywhere.

    depth (C, h, w) float32 metres along z; normals (C, h, w, 3) float32 unit world vectors, outward; x_can
    (C, h, w, 5) float32 head units and hyper coordinates; mask (C, h, w) bool.
    """
    attributes = np.concatenate([mesh.normals, mesh.x_can], -1)  # (V, 3 + 5)
    hit, depth, values = rasterizer.pixels(mesh.vertices, mesh.faces, attributes, cameras)
    normals = values[..., :3]
    length = np.sqrt(np.einsum("...k,...k", normals, normals))[..., None]  # a third of np.linalg.norm's time
    normals = normals / np.maximum(length, 1e-12)
    x_can = values[..., 3:].copy()  # a view would keep all eight channels
    return {"depth": depth, "normals": normals, "x_can": x_can, "mask": hit}


def write_buffers(
    path: Path, steps: Iterable[dict[str, np.ndarray]], shape: tuple[int, int, int, int], attributes: dict[str, Any]
) -> None:
    """Write a chunk of T results of `draw`, each as it comes; `shape` is (T, C, h, w). The mask is where depth is."""
    layouts = {
        name: Layout((*shape[:2], *before, *shape[2:]), dtype, ("time", "camera", *axes, "row", "column"), unit, about)
        for name, (before, dtype, axes, unit, about) in CODED.items()
    }
    with chunk_writer(path, layouts, attributes) as chunk:
        for step, drawn in enumerate(steps):
            for camera, picture in enumerate(zip(drawn["depth"], drawn["normals"], drawn["x_can"], strict=True)):
                for name, coded in encode(*picture).items():
                    chunk.put(name, (step, camera), coded)
