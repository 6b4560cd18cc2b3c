"""Marching cubes over the cells that a signed distance field may cross, found coarse to fine.

The surface is that of a dense grid (tests compare them), for a tenth of the field's evaluations.
"""

from collections.abc import Callable, Sequence

import numpy as np
from skimage.measure import marching_cubes

Field = Callable[[np.ndarray], np.ndarray]  # points (P, 3) float32 -> signed distances (P,), negative inside

COARSEST = 16  # voxels along the edge of the first blocks
FINEST = 2  # and of the last ones, whose corners are evaluated
SURE = 0.6  # slope reckoned with at the last level: growth finds the rest, and a fifth of the evaluations is saved
UNKNOWN = 1.0  # value where nothing was evaluated; no cell that is marched touches it


def extract(
    field: Field, low: Sequence[float], high: Sequence[float], voxel: float, lipschitz: float
) -> tuple[np.ndarray, np.ndarray]:
    """The zero level set of `field` inside the box from `low` to `high` (3,), in the field's unit.

    A block is kept when |field(centre)| <= lipschitz * half its diagonal; then the blocks are grown wherever the
    surface leaves them, so that a steeper field loses no part that hangs together with a found one. Returns vertices
    (V, 3) float32 and faces (F, 3) int32, counter-clockwise seen from outside; both empty without a surface. Where
    the surface leaves the box the mesh is open.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    blocks = np.maximum(np.ceil((high - low) / (voxel * COARSEST)), 1).astype(int)
    active = _descend(field, low, voxel, np.ones(blocks, bool), lipschitz)
    values = np.full([FINEST * n + 1 for n in active.shape], np.nan, np.float32)
    while True:
        _evaluate(field, low, voxel, _corners(active) & np.isnan(values), values)
        grown = _grown(active, values)
        if (grown == active).all():
            return _march(values, active, low, voxel)
        active = grown


def _descend(field: Field, low: np.ndarray, voxel: float, active: np.ndarray, lipschitz: float) -> np.ndarray:
    """Blocks of FINEST voxels near the surface, from all blocks of COARSEST voxels."""
    size = COARSEST
    while True:
        index = np.argwhere(active)
        centres = low + (index + 0.5) * size * voxel
        slope = lipschitz if size > FINEST else min(lipschitz, SURE)
        near = np.abs(field(centres.astype(np.float32))) <= slope * size * voxel * np.sqrt(3) / 2
        active = np.zeros_like(active)
        active[tuple(index[near].T)] = True
        if size == FINEST:
            return active
        for axis in range(3):
            active = active.repeat(2, axis)
        size //= 2


def _corners(active: np.ndarray) -> np.ndarray:
    """Grid points of active blocks: (X, Y, Z) blocks -> (2 X + 1, 2 Y + 1, 2 Z + 1) points."""
    cells = active
    for axis in range(3):
        cells = cells.repeat(FINEST, axis)
    points = np.zeros([n + 1 for n in cells.shape], bool)
    x, y, z = cells.shape
    for dx, dy, dz in np.ndindex(2, 2, 2):
        points[dx : dx + x, dy : dy + y, dz : dz + z] |= cells
    return points


def _evaluate(field: Field, low: np.ndarray, voxel: float, wanted: np.ndarray, values: np.ndarray) -> None:
    """Fill `values` where `wanted`, both over grid points."""
    index = np.argwhere(wanted)
    if len(index):
        values[wanted] = field((low + index * voxel).astype(np.float32))


def _grown(active: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Active blocks and those that share a face with one on which the values change sign."""
    grown = active.copy()
    for axis in range(3):
        along = np.moveaxis(values, axis, 0)[::FINEST]  # planes of points between blocks
        crossed = _changes_sign(along[1:-1])
        block = np.moveaxis(active, axis, 0)
        view = np.moveaxis(grown, axis, 0)
        view[1:] |= block[:-1] & crossed
        view[:-1] |= block[1:] & crossed
    return grown


def _changes_sign(planes: np.ndarray) -> np.ndarray:
    """Whether a block's face (3 x 3 points) holds both signs, for planes (N, 2 J + 1, 2 K + 1) -> (N, J, K)."""
    rows, columns = (n // FINEST for n in planes.shape[1:])
    patches = [
        planes[:, i : i + FINEST * rows : FINEST, j : j + FINEST * columns : FINEST]
        for i, j in np.ndindex(FINEST + 1, FINEST + 1)
    ]
    inside = np.logical_or.reduce([patch < 0 for patch in patches])
    return inside & np.logical_or.reduce([patch >= 0 for patch in patches])


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
