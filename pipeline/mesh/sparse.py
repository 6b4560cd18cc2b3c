"""Marching cubes over the cells that a signed distance field's surface crosses, found by following the surface.

The surface is that of a dense grid (tests compare them), for two evaluations of the field per vertex. Search and
marching cubes run on the field's device.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn import functional as F

from pipeline.mesh.cubes import CORNERS, corner_points, march_there

Field = Callable[[Tensor], Tensor]  # points (P, 3) float32 -> signed distances (P,), negative inside

LATTICE = 12  # cells of the first lattice along the box's shortest edge, at least, and less than twice as many
MIDDLE = 4  # voxels along a cell of the second lattice; the third and last one is the grid
UNKNOWN = 1.0  # value where nothing was evaluated; no cell that is marched touches it
FACES = torch.stack([(CORNERS[:, axis] == side).nonzero()[:, 0] for axis in range(3) for side in (0, 1)])  # (6, 4)
BEYOND = torch.tensor([[side * (axis == other) for other in range(3)] for axis in range(3) for side in (-1, 1)])


def extract(
    field: Field, low: Sequence[float], high: Sequence[float], voxel: float, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """The zero level set of `field` inside the box from `low` to `high` (3,), in the field's unit.

    Of the dense grid's surface every connected part that the first lattice meets is there, and whole: whatever bounds a
    solid or a hollow in which a ball fits that is as wide as a lattice cell's diagonal. Smaller islands are found by
    chance. `field` is asked on `device`, once at most at any grid point. Returns vertices (V, 3) float32 and faces
    (F, 3) int32, counter-clockwise seen from outside; both empty without a surface. Where the surface leaves the box
    (made of whole voxels) the mesh is open.
    """
    return march(*follow(field, low, high, voxel, device), low, voxel)


def follow(
    field: Field, low: Sequence[float], high: Sequence[float], voxel: float, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Values (X + 1, Y + 1, Z + 1) on the grid, nan where none was asked for, and the cells (N, 3) on the surface.

    All cells of a coarse lattice are looked at; of finer ones those that the surface crosses if coarser values
    are interpolated. To these are added, on every lattice, the cells into which the surface leads from a found one.
    """
    corner = torch.as_tensor(low, dtype=torch.float64, device=device)
    size = torch.tensor(grid_cells(np.subtract(high, low), voxel), device=device)
    stride = 1
    while size.min() >= 2 * stride * LATTICE:
        stride *= 2
    values = torch.full([n * stride + 1 for n in _lattice_cells(size, stride).tolist()], torch.nan, device=device)
    cells = torch.ones(_lattice_cells(size, stride).tolist(), dtype=torch.bool, device=device).nonzero()
    while True:
        own = _lattice_cells(size, stride)
        level = values[tuple(slice(0, n * stride + 1, stride) for n in own.tolist())]
        inside = (cells < own).all(-1)  # the last cells of the coarser lattice may stick out of the box
        cells = _closed(lambda at, by=stride: field((corner + at.double() * by * voxel).float()), level, cells[inside])
        if stride == 1:
            return level, cells
        finer = MIDDLE if stride > MIDDLE else 1
        cells = _expected(level, cells, stride // finer)
        stride = finer


def march(values: Tensor, cells: Tensor, low: Sequence[float], voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) in `cells` (N, 3) of a grid of `values` (X + 1, Y + 1, Z + 1), see `extract`."""
    if len(cells) == 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    if values.device.type != "cpu":
        vertices, faces = (part.cpu().numpy() for part in march_there(values, cells))
        return (np.asarray(low) + vertices * voxel).astype(np.float32), faces.astype(np.int32)
    marched = np.zeros(values.shape, bool)
    marched[tuple((cells.T + 1).cpu().numpy())] = True  # scikit-image looks for a cell at the far one of its points
    known = values.nan_to_num(UNKNOWN).cpu().numpy()
    vertices, faces, _, _ = marching_cubes(known, 0.0, gradient_direction="descent", mask=marched)
    return (np.asarray(low) + vertices * voxel).astype(np.float32), faces.astype(np.int32)


def grid_cells(extent: np.ndarray, voxel: float) -> list[int]:
    """Voxels along each edge of a box of `extent` (3,), the last ones perhaps sticking out."""
    return np.maximum(np.ceil(extent / voxel - 1e-9), 1).astype(int).tolist()


def _lattice_cells(size: Tensor, stride: int) -> Tensor:
    """Cells of `stride` voxels along each edge of a box of `size` (3,) voxels, the last ones perhaps sticking out."""
    return (size + stride - 1) // stride


def _closed(field: Field, values: Tensor, cells: Tensor) -> Tensor:
    """The cells (M, 3) that the surface crosses: those of `cells` (N, 3) and all that hang together with one of them.

    `field` is asked at grid points (P, 3) where `values` (X + 1, Y + 1, Z + 1) is nan, and the answers put there.
    """
    faces, beyond = FACES.to(values.device), BEYOND.to(values.device)
    seen = torch.zeros([n - 1 for n in values.shape], dtype=torch.bool, device=values.device)
    end = torch.tensor(seen.shape, device=values.device)
    seen[tuple(cells.T)] = True
    crossed = [cells[:0]]
    while len(cells):
        points = corner_points(cells)
        unknown = _distinct(points[values[tuple(points.T)].isnan()], values.shape)
        if len(unknown):
            values[tuple(unknown.T)] = field(unknown).to(values.dtype)
        inside = (values[tuple(points.T)] <= 0).reshape(-1, 8)[:, faces]  # (N, 6, 4); marching cubes counts 0 as inside
        leaves = inside.any(-1) & ~inside.all(-1)  # through which faces the surface leaves the cell
        crossed.append(cells[leaves.any(-1)])
        cells = (cells[:, None] + beyond)[leaves]
        cells = cells[((cells >= 0) & (cells < end)).all(-1)]
        cells = _distinct(cells[~seen[tuple(cells.T)]], seen.shape)
        seen[tuple(cells.T)] = True
    return torch.cat(crossed)


def _distinct(places: Tensor, shape: Sequence[int]) -> Tensor:
    """Each of `places` (N, 3) in a grid of `shape` once."""
    x, y, z = places.T
    return torch.stack(torch.unravel_index(((x * shape[1] + y) * shape[2] + z).unique(), tuple(shape)), -1)


def _expected(values: Tensor, cells: Tensor, parts: int) -> Tensor:
    """The cells (M, 3), of those that `cells` (N, 3) fall into along each axis, that the surface of the trilinear
    interpolation of `values` crosses."""
    corner = values[tuple(corner_points(cells).T)].reshape(-1, 1, 2, 2, 2)
    value = F.interpolate(corner, size=parts + 1, mode="trilinear", align_corners=True)
    parent, _, *part = ((F.max_pool3d(-value, 2, 1) >= 0) & (F.max_pool3d(value, 2, 1) > 0)).nonzero().T
    return cells[parent] * parts + torch.stack(part, -1)
