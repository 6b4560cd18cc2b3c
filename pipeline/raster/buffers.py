"""The pictures that the avatar is conditioned on: depth, world normals, canonical coordinates and mask."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import Mesh
from pipeline.raster.coding import CODED, encode_all
from pipeline.raster.fragments import Rasterizer, unit_and_rest
from pipeline.store.chunk import Layout, chunk_writer

RASTERIZED = ("depth", "normals", "x_can")


def rasterize(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """Buffers of one time step for C cameras of one size, background 0 everywhere.

    depth (C, h, w) float32 metres along z; normals (C, h, w, 3) float32 unit world vectors, outward; x_can
    (C, h, w, 5) float32 head units and hyper coordinates; mask (C, h, w) bool.
    """
    hit, depth, values = rasterizer.pixels(mesh.vertices, mesh.faces, _attributes(mesh), cameras)
    normals, x_can = unit_and_rest(values)
    return {"depth": depth, "normals": normals, "x_can": x_can, "mask": hit}


def rasterize_coded(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """What is stored of `rasterize`: the arrays of CODED, each (C, ...)."""
    return rasterizer.coded(mesh.vertices, mesh.faces, _attributes(mesh), cameras)


def _attributes(mesh: Mesh) -> np.ndarray:
    return np.concatenate([mesh.normals, mesh.x_can], -1)  # (V, 3 + 5)


def write_buffers(
    path: Path, steps: Iterable[dict[str, np.ndarray]], shape: tuple[int, int, int, int], attributes: dict[str, Any]
) -> None:
    """Write a chunk of T results of `rasterize`, each as it comes; `shape` is (T, C, h, w).

    The mask is where depth is.
    """
    write_coded(path, (encode_all(*(step[name] for name in RASTERIZED)) for step in steps), shape, attributes)


def write_coded(
    path: Path, steps: Iterable[dict[str, np.ndarray]], shape: tuple[int, int, int, int], attributes: dict[str, Any]
) -> None:
    """Write a chunk of T results of `rasterize_coded`, each as it comes; `shape` is (T, C, h, w)."""
    layouts = {
        name: Layout((*shape[:2], *before, *shape[2:]), dtype, ("time", "camera", *axes, "row", "column"), unit, about)
        for name, (before, dtype, axes, unit, about) in CODED.items()
    }
    with chunk_writer(path, layouts, attributes) as chunk:
        for step, coded in enumerate(steps):
            for name, pictures in coded.items():
                for camera, picture in enumerate(pictures):
                    chunk.put(name, (step, camera), picture)
