"""Chunks of known heads for the tests of the fitting stages: clouds, and pictures of nothing but silhouettes."""

from pathlib import Path

import numpy as np
import torch

from pipeline.cameras.rig import Rig
from pipeline.head.fit.clouds import Frame
from pipeline.head.fit.least_squares.residuals import Heads
from pipeline.head.model.prior import HeadPrior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.mesh.mesh import Mesh
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.store.chunk import Array, write_chunk


def head_mesh(prior: HeadPrior, heads: Heads, step: int, voxel_mm: float = 6) -> Mesh:
    """The surface of one of several heads, down to the end of the prior's box."""
    z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=torch.float32))
    z_exp = prior.z_exp_from(torch.as_tensor(heads.expression[step], dtype=torch.float32))
    return mesh_head(prior, z_id, z_exp, heads.head_from_world[step], voxel_mm, Plane(-2, 0))


def silhouettes(rig: Rig, mesh: Mesh) -> np.ndarray:
    """alpha (C, H, W) uint8 of a mesh before an upright rig, with a body: everything below the head is person too."""
    rasterized = EmbreeRasterizer().rasterize(mesh.vertices, mesh.faces, rig.cameras)
    return np.stack([255 * np.maximum.accumulate(fragments.hit, axis=0) for fragments in rasterized]).astype(np.uint8)


def write_spans(folder: Path, frames: list[Frame]) -> tuple[Path, Path]:
    """Frames of one sequence that follow each other as a chunk of clouds and a chunk of frames; their paths."""
    points, normals = (np.concatenate([getattr(f, name) for f in frames]) for name in ("points", "normals"))
    offsets = np.concatenate([[0], np.cumsum([len(frame.points) for frame in frames])])
    start, stop = frames[0].step, frames[-1].step + 1
    attributes = {"stage": "test", "subject": "s", "sequence": frames[0].sequence, "start": start, "stop": stop}
    paths = tuple(folder / name / f"{start:06d}-{stop:06d}.zarr.zip" for name in ("clouds", "frames"))
    write_chunk(
        paths[0],
        {
            "points": Array(points.astype(np.float32), ("point", "xyz"), "m", "world"),
            "normals": Array(normals.astype(np.float32), ("point", "xyz"), "1", "world"),
            "offsets": Array(offsets, ("step",), "1", "rows"),
        },
        attributes,
    )
    alpha = np.stack([frame.alpha for frame in frames])
    write_chunk(paths[1], {"alpha": Array(alpha, ("time", "camera", "row", "column"), "1", "head 255")}, attributes)
    return paths


def write_landmarks(path: Path, sequence: str, points: np.ndarray) -> Path:
    """Landmarks (T, L, 3) of a sequence as the stage writes them, seen by nine cameras; the path."""
    arrays = {
        "points": Array(points, ("time", "landmark", "xyz"), "m", "world"),
        "views": Array(np.full(points.shape[:2], 9, np.uint8), ("time", "landmark"), "1", "cameras that agree"),
    }
    write_chunk(path, arrays, {"stage": "test", "subject": "s", "sequence": sequence, "start": 0, "stop": len(points)})
    return path
