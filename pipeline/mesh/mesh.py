"""Meshes of a span: the type, its normals, and the ragged arrays that hold one mesh per time step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import Array, read_arrays


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh of one time step.

    `vertices` (V, 3) float32 world metres; `x_can` (V, 5) float32 canonical position in head units and two hyper
    coordinates; `faces` (F, 3) int32, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    x_can: np.ndarray
    faces: np.ndarray


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit outward normals (V, 3) float32: the mean of the neighbouring faces' normals weighted by area."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    doubled_area = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(doubled_area[:, axis], 3), len(vertices)) for axis in range(3)], -1
    )
    return (total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-30)).astype(np.float32)


def pack(meshes: Sequence[Mesh]) -> dict[str, Array]:
    """The arrays of a meshes chunk (docs/formats.md), one mesh per time step."""

    def offsets(lengths: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    about = "row of the first entry of each time step, and the total"
    return {
        "vertices": Array(np.concatenate([m.vertices for m in meshes]), ("vertex", "xyz"), "m", "world"),
        "x_can": Array(
            np.concatenate([m.x_can for m in meshes]),
            ("vertex", "xyz and hyper"),
            "head unit",
            "canonical head space and two hyper coordinates",
        ),
        "faces": Array(
            np.concatenate([m.faces for m in meshes]), ("face", "corner"), "1", "vertex numbers local to the time step"
        ),
        "vertex_offsets": Array(offsets([len(m.vertices) for m in meshes]), ("step",), "1", about),
        "face_offsets": Array(offsets([len(m.faces) for m in meshes]), ("step",), "1", about),
    }


def read_meshes(path: Path) -> list[Mesh]:
    """The meshes of a chunk, one per time step. Raises DataError naming the file and the step that has no mesh."""
    names = ("vertices", "x_can", "faces", "vertex_offsets", "face_offsets")
    vertices, x_can, faces, vertex_offsets, face_offsets = read_arrays(path, *names)
    meshes = []
    for step in range(len(vertex_offsets) - 1):
        own = slice(*vertex_offsets[step : step + 2])
        mesh = Mesh(vertices[own], x_can[own], faces[slice(*face_offsets[step : step + 2])])
        if len(mesh.faces) == 0:
            raise DataError(f"{path}: step {step} of the span has no triangles; expected a head")
        meshes.append(mesh)
    return meshes
