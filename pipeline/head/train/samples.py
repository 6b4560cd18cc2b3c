"""Exact samples of random heads: points, signed distances and where the points lie on the neutral head."""

from dataclasses import dataclass

import igl
import numpy as np

from pipeline.head.train.heads import head_vertices
from pipeline.head.train.ict import EAR_CM, HEAD_PER_CM, FaceModel, Hair, head_from_ict

DEEPEST_CM = 1.6  # how far a scanner looks into an open mouth
CLOSED_CM = 0.15  # lips that have moved apart by less than this are closed
OFFSETS = (
    (0.45, 0.1),
    (0.3, 0.4),
    (0.15, 1.5),
)  # share and spread (cm) of points off the surface; the rest is anywhere
FOLLOWED_CM = 1.2  # points nearer than this have a known place on the neutral head


@dataclass(frozen=True)
class HeadSamples:
    """P points of one head, head units: x (P, 3) posed, sdf (P,), x_can (P, 3), known (P,) where x_can is exact."""

    x: np.ndarray
    sdf: np.ndarray
    x_can: np.ndarray
    known: np.ndarray


class HeadSampler:
    """Draws samples of the heads of one face model."""

    def __init__(self, model: FaceModel) -> None:
        self.model, self.hair = model, Hair(model)
        self.open_mouth = np.concatenate([model.skin, model.collar, model.pocket, model.lids])
        self.shut_mouth = np.concatenate([model.skin, model.collar, model.lips, model.lids])
        self.surface = np.concatenate([model.skin, model.eyes, model.pocket])
        skin = len(model.skin)
        self.follows = np.arange(len(self.surface)) < skin
        self.density = self._density()

    def _density(self) -> np.ndarray:
        """How densely each triangle of `surface` is sampled: face 4, ears 8, round mouth 15, round eyes 20, else 1."""
        model = self.model
        middle = model.neutral[self.surface].mean(1)
        density = np.where(np.isin(self.surface, np.unique(model.face)).all(1) & (middle[:, 2] > 3.0), 4.0, 1.0)
        density[model.from_ear(middle) < EAR_CM] = 8.0
        for part, value in ((model.lips, 15.0), (model.eyes, 20.0)):
            for sign in (-1, 1):
                corner = model.neutral[np.unique(part)]
                corner = corner[corner[:, 0] * sign >= 0]
                low, high = corner.min(0) - 0.8, corner.max(0) + 0.8
                density[((middle > low) & (middle < high)).all(1)] = value
        return density

    def vertices(self, w: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) cm of the head with identity weights w and expression weights, with hair, without collar."""
        return head_vertices(self.model, self.hair, w, expression)

    def signed_distance(self, vertices: np.ndarray, neutral: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Signed distances (P,) cm of points (P, 3) cm to the surface that a scan of the head would see.

        vertices and neutral (V, 3) cm are the head and the same head at rest.

        An open mouth is a hollow behind the lips, at most DEEPEST_CM deep and less the less it is open; closed lips
        have nothing behind them: the union of the head with its mouth and of the shut head shrunk by that depth. The
        eyes are the union of the head with shut lids and the eyeballs: what the lids cover is no surface.
        """
        model = self.model
        opened = (self._lip_gaps(vertices) - self._lip_gaps(neutral)).max()
        depth = np.clip(0.8 * (opened - CLOSED_CM), 0, DEEPEST_CM)
        vertices = model.with_collar(vertices)
        out = _signed(vertices, self.open_mouth, points)
        for part, solid, shrunk in ((model.pocket, self.shut_mouth, depth), (model.eyeballs, model.eyeballs, 0.0)):
            box = vertices[np.unique(part)]
            near = ((points > box.min(0) - 0.5) & (points < box.max(0) + 0.5)).all(1)
            if near.any():
                out[near] = np.minimum(out[near], _signed(vertices, solid, points[near]) + shrunk)
        return out

    def _lip_gaps(self, vertices: np.ndarray) -> np.ndarray:
        one, other = vertices[self.model.lip_pairs].transpose(1, 0, 2)
        return np.linalg.norm(one - other, axis=1)

    def draw(self, w: np.ndarray, expression: np.ndarray, count: int, rng: np.random.Generator) -> HeadSamples:
        """`count` samples of the head with weights `w` (K,) of identity and hair and `expression` (X,)."""
        posed = self.vertices(w, expression)
        neutral = self.vertices(w, np.zeros_like(expression))
        corners = posed[self.surface]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=1) * self.density
        triangle = np.searchsorted(np.cumsum(area), rng.random(count) * area.sum()).clip(max=len(area) - 1)
        a, b = np.sqrt(rng.random(count)), rng.random(count)
        mix = np.stack([1 - a, a * (1 - b), a * b], 1)
        offset = np.concatenate([spread * rng.normal(size=round(share * count)) for share, spread in OFFSETS])
        offset = np.append(offset, np.full(count - len(offset), np.inf))
        anywhere = ~np.isfinite(offset)
        offset[anywhere] = 0

        x = self._placed(posed, triangle, mix, offset)
        x_can = self._placed(neutral, triangle, mix, offset)
        low, high = posed[np.unique(self.model.skin)].min(0) - 3, posed[np.unique(self.model.skin)].max(0) + 3
        low[1] = max(low[1], -15.0)
        x[anywhere] = rng.uniform(low, high, (int(anywhere.sum()), 3))
        sdf = self.signed_distance(posed, neutral, x)
        exact = np.abs(np.abs(sdf) - np.abs(offset)) < 0.02 + 0.1 * np.abs(offset)
        known = self.follows[triangle] & ~anywhere & exact & (np.abs(offset) < FOLLOWED_CM)
        if not expression.any():
            x_can, known = x.copy(), np.ones(count, bool)
        return HeadSamples(
            head_from_ict(x).astype(np.float32),
            (sdf * HEAD_PER_CM).astype(np.float32),
            head_from_ict(x_can).astype(np.float32),
            known,
        )

    def _placed(self, vertices: np.ndarray, triangle: np.ndarray, mix: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Points (P, 3) at `mix` of the triangles of `surface`, `offset` along their smooth normals."""
        corners = self.surface[triangle]
        normals = igl.per_vertex_normals(vertices, self.surface.astype(np.int64))
        normal = np.einsum("pk,pkc->pc", mix, normals[corners])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        return np.einsum("pk,pkc->pc", mix, vertices[corners]) + offset[:, None] * normal


def _signed(vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Signed distance (P,) by the nearest triangle, inside where the winding number is above one half."""
    triangles = np.ascontiguousarray(triangles, np.int64)
    squared = igl.point_mesh_squared_distance(points, vertices, triangles)[0]
    inside = igl.fast_winding_number(vertices, triangles, points) > 0.5
    return np.where(inside, -1, 1) * np.sqrt(squared)
