"""Marching cubes over the cells that a signed distance field may cross, found coarse to fine.

The surface is that of a dense grid (tests compare them), for a small part of the field's evaluations. The search runs
on the field's device, CPU or GPU; marching cubes itself runs on the CPU.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

Field = Callable[[Tensor], Tensor]  # points (P, 3) float32 -> signed distances (P,), negative inside

COARSEST = 16  # voxels along the edge of the first blocks
FINEST = 2  # and of the last ones, whose corners are evaluated
SURE = 0.6  # slope reckoned with at the last level: growth finds the rest, and a fifth of the evaluations is saved
UNKNOWN = 1.0  # value where nothing was evaluated; no cell that is marched touches it


def extract(
    field: Field,
    low: Sequence[float],
    high: Sequence[float],
    voxel: float,
    lipschitz: float,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """The zero level set of `field` inside the box from `low` to `high` (3,), in the field's unit.

    A block is kept when |field(centre)| <= lipschitz * half its diagonal; then the blocks are grown wherever the
    surface leaves them, so that a steeper field loses no part that hangs together with a found one. `field` is asked
    on `device`. Returns vertices (V, 3) float32 and faces (F, 3) int32, counter-clockwise seen from outside; both
    empty without a surface. Where the surface leaves the box (made of whole blocks of FINEST voxels) the mesh is open.
    """
    low, extent = np.asarray(low, float), np.subtract(high, low)
    corner = torch.from_numpy(low).to(device)
    values = torch.full([FINEST * n + 1 for n in box_blocks(extent, voxel, FINEST)], torch.nan, device=device)
    active = _descend(field, corner, extent, voxel, lipschitz, values)
    while True:
        _evaluate(field, corner, voxel, _corners(active) & values.isnan(), values)
        grown = _grown(active, values)
        if torch.equal(grown, active):
            return _march(values.cpu().numpy(), active.cpu().numpy(), low, voxel)
        active = grown


def box_blocks(extent: np.ndarray, voxel: float, size: int) -> list[int]:
    """Blocks of `size` voxels along each edge of a box of `extent` (3,), the last ones perhaps sticking out."""
    return np.maximum(np.ceil(extent / (voxel * size) - 1e-9), 1).astype(int).tolist()


def _descend(field: Field, low: Tensor, extent: np.ndarray, voxel: float, lipschitz: float, values: Tensor) -> Tensor:
    """Blocks of FINEST voxels near the surface (X, Y, Z), bool, from all blocks of COARSEST voxels.

    The centres of the last blocks are grid points; what the field is there is kept in `values`.
    """
    size = COARSEST
    active = torch.ones(box_blocks(extent, voxel, size), dtype=torch.bool, device=low.device)
    while True:
        index = active.nonzero()
        centres = index * size + size // 2  # grid points
        value = field((low + centres * voxel).float())
        slope = lipschitz if size > FINEST else min(lipschitz, SURE)
        active[tuple(index.T)] = value.abs() <= slope * size * voxel * np.sqrt(3) / 2
        if size == FINEST:
            values[tuple(centres.T)] = value.to(values.dtype)
            return active
        size //= 2
        x, y, z = box_blocks(extent, voxel, size)
        active = _twice(active)[:x, :y, :z].contiguous()


def _twice(blocks: Tensor) -> Tensor:
    """(X, Y, Z) blocks cut in halves along every axis: (2 X, 2 Y, 2 Z)."""
    for axis in range(3):
        blocks = blocks.repeat_interleave(2, axis)
    return blocks


def _corners(active: Tensor) -> Tensor:
    """Grid points of active blocks: (X, Y, Z) blocks -> (2 X + 1, 2 Y + 1, 2 Z + 1) points."""
    points = _twice(active)  # FINEST is 2
    for axis in range(3):  # a cell's points along one axis after another
        none = torch.zeros_like(points.narrow(axis, 0, 1))
        points = torch.cat([points, none], axis) | torch.cat([none, points], axis)
    return points


def _evaluate(field: Field, low: Tensor, voxel: float, wanted: Tensor, values: Tensor) -> None:
    """Fill `values` where `wanted`, both over grid points."""
    index = wanted.nonzero()
    if len(index):
        values[wanted] = field((low + index * voxel).float()).to(values.dtype)


def _grown(active: Tensor, values: Tensor) -> Tensor:
    """Active blocks and those that share a face with one on which the values change sign."""
    grown, inside, outside = active.clone(), values < 0, values >= 0
    for axis in range(3):
        last = active.shape[axis] - 1
        first_block, second_block = active.narrow(axis, 0, last), active.narrow(axis, 1, last)
        crossed = (first_block ^ second_block) & _on_faces(inside, axis) & _on_faces(outside, axis)
        grown.narrow(axis, 0, last).logical_or_(crossed)
        grown.narrow(axis, 1, last).logical_or_(crossed)
    return grown


def _on_faces(points: Tensor, axis: int) -> Tensor:
    """Whether any of the 3 x 3 points is set on the faces between blocks along `axis`: points (2 X + 1, 2 Y + 1,
    2 Z + 1) -> (X - 1, Y, Z), where it is the first axis."""
    for along in range(3):
        every = torch.arange(0, points.shape[along], FINEST, device=points.device)
        if along == axis:
            points = points.index_select(along, every[1:-1])
        else:
            planes = [points.index_select(along, every[:-1] + step) for step in range(FINEST + 1)]
            points = planes[0] | planes[1] | planes[2]
    return points


def _march(values: np.ndarray, active: np.ndarray, low: np.ndarray, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes over the cells of the active blocks."""
    inside = values < 0  # nowhere where not evaluated
    if not inside.any() or inside.sum() == np.isfinite(values).sum():
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    cells = np.zeros(values.shape, bool)
    # scikit-image looks for a cell at the far one of its eight points
    cells[1:, 1:, 1:] = active.repeat(FINEST, 0).repeat(FINEST, 1).repeat(FINEST, 2)
    filled = np.where(np.isnan(values), np.float32(UNKNOWN), values)
    vertices, faces, _, _ = marching_cubes(filled, 0.0, gradient_direction="descent", mask=cells)
    return (low + vertices * voxel).astype(np.float32), faces.astype(np.int32)
