"""Marching cubes where the field's values lie, such as on a GPU: the mesh is scikit-image's, but for the order.

A cell's pattern says which of its corners are inside, the sum of 2^k; marching cubes counts 0 as inside.
"""

import math
from dataclasses import dataclass, fields
from functools import cache
from itertools import product

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor

CORNERS = torch.tensor(list(product((0, 1), repeat=3)))  # of a cell; corner k is 4 x + 2 y + z
FACES = torch.stack([(CORNERS[:, axis] == side).nonzero()[:, 0] for axis in range(3) for side in (0, 1)])  # (6, 4)
BEYOND = torch.tensor([[side * (axis == other) for other in range(3)] for axis in range(3) for side in (-1, 1)])
AXES = torch.eye(3, dtype=torch.int64)
MIDDLE = 24  # in place of an edge: a vertex inside the cell. Edges are 3 times their lower corner plus their axis
MOST = 4  # triangles of a cell that can be meshed in one way only
# Of the largest value: in cells with several ways values nearer to 0 are moved there, since a vertex at a corner would
# not tell its edge. Of a corner that is 0 scikit-image may choose otherwise.
LEAST = 1e-6


@dataclass(frozen=True)
class Tables:
    """What all cells share, on one device.

    `corners` (8, 3) from a cell to its points, `beyond` (6, 3) to the cells at its faces, `axes` (3, 3). By pattern:
    `triangles` (256, T, 3) and `several` (256,), see `_ways`; `needed` (256, 8), the corners whose values the triangles
    depend on: ends of edges that the surface crosses, or all where there are several ways; `leaves` (256, 6), the faces
    through which the surface leaves.
    """

    corners: Tensor
    beyond: Tensor
    axes: Tensor
    triangles: Tensor
    several: Tensor
    needed: Tensor
    leaves: Tensor


@cache
def tables(device: torch.device) -> Tables:
    """Made and copied once: a copy to a GPU makes the host wait."""
    if device.type != "cpu":
        host = tables(torch.device("cpu"))
        return Tables(**{field.name: getattr(host, field.name).to(device) for field in fields(Tables)})
    triangles, several = (torch.from_numpy(table) for table in _ways())
    corner = torch.arange(8)
    inside = (torch.arange(256)[:, None] >> corner) & 1 == 1
    crossed = torch.stack([inside != inside[:, corner ^ bit] for bit in (1, 2, 4)]).any(0)
    face = inside[:, FACES]
    return Tables(CORNERS, BEYOND, AXES, triangles, several, crossed | several[:, None], face.any(-1) & ~face.all(-1))


def corner_points(cells: Tensor) -> Tensor:
    """Grid points (N * 8, 3) at the corners of cells (N, 3), those that cells share once for each."""
    return (cells[:, None] + tables(cells.device).corners).reshape(-1, 3)


def patterns(corner: Tensor) -> Tensor:
    """Patterns (N,) of cells with values (N, 8) at their corners."""
    return ((corner <= 0) * (1 << torch.arange(8, device=corner.device))).sum(-1)


def march_there(values: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) float64 in grid units and faces (F, 3) int64, on the device of `values` (X, Y, Z).

    `cells` (N, 3) are those that the surface crosses. The few that the signs of their corners leave several ways to
    mesh go to the host, one by one, where scikit-image chooses: 63 of 20,014 on a head of the shipped prior.
    """
    shape = tuple(values.shape)
    corner = values[tuple(corner_points(cells).T)].reshape(-1, 8)
    table, pattern = tables(values.device), patterns(corner)
    several = table.several[pattern]
    ways = table.triangles[pattern[~several]]  # (N', T, 3)
    owner, place = (ways[..., 0] >= 0).nonzero().T
    keys = _keys(cells[~several][owner], ways[owner, place], shape)
    chosen, middles = _chosen(corner[several], cells[several], shape)
    edges, faces = torch.cat([keys, chosen]).unique(return_inverse=True)
    edges = edges[: len(edges) - len(middles)]  # middles are numbered after all edges
    low = torch.stack(torch.unravel_index(edges // 3, shape), -1)
    along = table.axes[edges % 3]
    one, two = (values[tuple(at.T)].double().abs() for at in (low, low + along))
    return torch.cat([low + (one / (one + two))[:, None] * along, middles]), faces


def _keys(cells: Tensor, edges: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Numbers (F, 3) in a grid of `shape` for edges (F, 3) of cells (F, 3): 3 times their lower point's, plus axis."""
    x, y, z = (cells[:, None] + tables(cells.device).corners[edges // 3]).unbind(-1)
    return ((x * shape[1] + y) * shape[2] + z) * 3 + edges % 3


def _chosen(corner: Tensor, cells: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Triangles (F, 3) as `_keys` numbers them, and vertices (M, 3) inside cells, numbered from the last edge on.

    Of cells (N, 3) with values (N, 8) at their corners that have several ways to be meshed.
    """
    if not len(corner):
        return cells, cells.double()
    least = LEAST * corner.abs().max()
    clear = torch.where(corner > 0, corner.clamp_min(least), corner.clamp_max(-least))
    vertices, faces = zip(*(_meshed(own) for own in clear.cpu().numpy()), strict=True)
    count = torch.tensor([len(part) for part in vertices])
    first = (count.cumsum(0) - count).tolist()
    owner = cells.cpu().repeat_interleave(count, 0)
    place = np.concatenate(vertices)
    edges = torch.from_numpy(_edges_at(place))
    inside = edges == MIDDLE
    number = 3 * math.prod(shape) + inside.cumsum(0) - 1
    named = torch.where(inside, number, _keys(owner, edges[:, None] % MIDDLE, shape)[:, 0])
    corners = np.concatenate([part.astype(int) + start for part, start in zip(faces, first, strict=True)])
    middles = (owner + torch.from_numpy(place).double())[inside]
    return named[torch.from_numpy(corners)].to(cells.device), middles.to(cells.device)


def _meshed(corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """scikit-image's vertices (V, 3) and faces (F, 3) of one cell with values (8,) at its corners."""
    vertices, faces, _, _ = marching_cubes(corner.reshape(2, 2, 2), 0.0, gradient_direction="descent")
    return np.ascontiguousarray(vertices), np.ascontiguousarray(faces)


def _edges_at(vertices: np.ndarray) -> np.ndarray:
    """Numbers (V,) of the cell's edges that vertices (V, 3) lie on, MIDDLE for those inside it."""
    between = (vertices > 0) & (vertices < 1)
    edges = vertices.astype(int) @ (4, 2, 1) * 3 + between.argmax(1)
    return np.where(between.sum(1) == 1, edges, MIDDLE)


def _ways() -> tuple[np.ndarray, np.ndarray]:
    """Triangles (256, T, 3), edges of a cell, -1 where there are no more, by which corners are inside: the sum of 2^k.

    And which patterns (256,) have several ways, whose triangles are left out: corners across a face or the cell are
    alike, and unlike those beside them.
    """
    triangles, several = np.full((256, MOST, 3), -1), np.zeros(256, bool)
    for pattern in range(1, 255):
        inside = (pattern >> np.arange(8)) & 1 == 1
        squares = [inside[(CORNERS[:, axis] == side).numpy()] for axis in range(3) for side in (0, 1)]
        across_a_face = any(a == d != b == c for a, b, c, d in squares)
        lonely = np.flatnonzero(inside == (inside.sum() < 4))
        across_the_cell = len(lonely) == 2 and lonely.sum() == 7
        several[pattern] = across_a_face or across_the_cell
        if not several[pattern]:
            vertices, faces = _meshed(np.where(inside, np.float32(-1), np.float32(1)))
            triangles[pattern, : len(faces)] = _edges_at(vertices)[faces]
    return triangles, several
