"""Cleaning a mesh: cut at a plane, keep the largest piece, drop unused vertices."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Plane:
    """The neck cut in canonical head space: what lies above stays.

    It passes `offset` head units above the origin and rises `tilt_degrees` towards the front.
    """

    offset: float
    tilt_degrees: float

    def height(self, x_can: np.ndarray) -> np.ndarray:
        """Signed distance (...,) in head units of canonical points (..., 3 or more), positive above."""
        tilt = np.radians(self.tilt_degrees)
        return np.cos(tilt) * (x_can[..., 1] - self.offset) - np.sin(tilt) * x_can[..., 2]


def clip(vertices: np.ndarray, faces: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a mesh where `height` is 0, to the part above.

    `vertices` (V, K) any attributes, linear along edges; `faces` (F, 3); `height` (V,). Returns vertices (V + E, K)
    and faces: crossed triangles are split along a straight edge, whose new vertices neighbours share. Unused vertices
    stay. A vertex that the cut meets to rounding lies on it, so that no sliver is left there.
    """
    height = np.where(np.abs(height) > 1e-9 * np.abs(height).max(initial=0), height, 0)
    above = height > 0
    count = above[faces].sum(1)
    whole = faces[count == 3]
    one = _rotated(faces[count == 1], above, True)  # corner 0 above
    two = _rotated(faces[count == 2], above, False)  # corner 0 below
    edges = np.sort(np.concatenate([one[:, [0, 1]], one[:, [0, 2]], two[:, [0, 1]], two[:, [0, 2]]]), axis=1)
    unique, index = np.unique(edges, axis=0, return_inverse=True)
    a, b = unique[:, 0], unique[:, 1]
    share = (height[a] / (height[a] - height[b]))[:, None]
    crossing = (1 - share) * vertices[a] + share * vertices[b]
    cut = np.where(height[a] == 0, a, np.where(height[b] == 0, b, len(vertices) + np.arange(len(unique))))
    index = cut[index.reshape(-1)]
    one_1, one_2, two_1, two_2 = np.split(index, np.cumsum([len(one), len(one), len(two)]))
    pieces = [
        whole,
        np.stack([one[:, 0], one_1, one_2], 1),
        np.stack([two_1, two[:, 1], two[:, 2]], 1),
        np.stack([two_1, two[:, 2], two_2], 1),
    ]
    faces = np.concatenate(pieces).astype(np.int32)
    flat = (faces == np.roll(faces, 1, axis=1)).any(1)  # two corners became one vertex on the cut
    return np.concatenate([vertices, crossing]).astype(vertices.dtype), faces[~flat]


def _rotated(faces: np.ndarray, above: np.ndarray, odd: bool) -> np.ndarray:
    """Faces turned, orientation kept, so that the corner whose side differs from the other two comes first."""
    first = (above[faces] == odd).argmax(1)[:, None]
    return np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)


def largest_piece(faces: np.ndarray, vertex_count: int) -> np.ndarray:
    """Those of the faces (F, 3) that belong to the connected piece with the most triangles, (F', 3)."""
    a, b = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), (vertex_count, vertex_count))
    piece = connected_components(graph, directed=False)[1][faces[:, 0]]
    return faces[piece == np.bincount(piece).argmax()]


def compact(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the vertices (V, K) that no face uses, in their old order."""
    used, index = np.unique(faces, return_inverse=True)
    return vertices[used], index.reshape(-1, 3).astype(np.int32)
