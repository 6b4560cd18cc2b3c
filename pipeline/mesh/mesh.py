"""Meshes of a span: the type, its normals, and the ragged arrays that hold one mesh per time step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import Layout, chunk_writer, open_chunk
from pipeline.store.reel import Reel


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh of one time step.

    `vertices` (V, 3) float32 world metres; `x_can` (V, 5) float32 canonical position in head units and two hyper
    coordinates; `faces` (F, 3) int32, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    x_can: np.ndarray
    faces: np.ndarray

    @cached_property
    def normals(self) -> np.ndarray:
        """See `vertex_normals`; computed once, for views of one mesh that are rasterised one after another."""
        return vertex_normals(self.vertices, self.faces)


ABOUT_OFFSETS = "row of the first entry of each time step, and the total"
LAYOUTS = {  # of a meshes chunk (docs/formats.md)
    "vertices": Layout((0, 3), np.float32, ("vertex", "xyz"), "m", "world"),
    "x_can": Layout(
        (0, 5), np.float32, ("vertex", "xyz and hyper"), "head unit", "canonical head space and two hyper coordinates"
    ),
    "faces": Layout((0, 3), np.int32, ("face", "corner"), "1", "vertex numbers local to the time step"),
    "vertex_offsets": Layout((0,), np.int64, ("step",), "1", ABOUT_OFFSETS),
    "face_offsets": Layout((0,), np.int64, ("step",), "1", ABOUT_OFFSETS),
}


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit outward normals (V, 3) float32: the mean of the neighbouring faces' normals weighted by area."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    doubled_area = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(doubled_area[:, axis], 3), len(vertices)) for axis in range(3)], -1
    )
    return (total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-30)).astype(np.float32)


def write_meshes(path: Path, meshes: Iterable[Mesh], attributes: dict[str, Any]) -> None:
    """Write a chunk with one mesh per time step, each as it comes."""
    with chunk_writer(path, LAYOUTS, attributes) as chunk:
        ends = {"vertex_offsets": 0, "face_offsets": 0}
        for name, end in ends.items():
            chunk.append(name, np.array([end]))
        for mesh in meshes:
            for name in ("vertices", "x_can", "faces"):
                chunk.append(name, getattr(mesh, name))
            ends["vertex_offsets"] += len(mesh.vertices)
            ends["face_offsets"] += len(mesh.faces)
            for name, end in ends.items():
                chunk.append(name, np.array([end]))


def read_meshes(path: Path) -> Iterator[Mesh]:
    """The meshes of a chunk, one time step after another. Raises DataError naming the step that has no mesh."""
    with open_chunk(path) as chunk:
        vertex_offsets, face_offsets = chunk["vertex_offsets"][...], chunk["face_offsets"][...]
        for step in range(len(vertex_offsets) - 1):
            own, faces = slice(*vertex_offsets[step : step + 2]), slice(*face_offsets[step : step + 2])
            mesh = Mesh(chunk["vertices"][own], chunk["x_can"][own], chunk["faces"][faces])
            if len(mesh.faces) == 0:
                raise DataError(f"{path}: step {step} of the span has no triangles; expected a head")
            yield mesh


def mesh_of(reel: Reel, step: int) -> Mesh:
    """The mesh of a time step of a sequence's meshes."""
    vertices, x_can = reel.rows(step, "vertex_offsets", "vertices", "x_can")
    (faces,) = reel.rows(step, "face_offsets", "faces")
    return Mesh(vertices, x_can, faces)


def count_meshes(path: Path) -> int:
    """How many time steps the chunk has."""
    with open_chunk(path) as chunk:
        return chunk["vertex_offsets"].shape[0] - 1
