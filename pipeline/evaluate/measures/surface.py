"""How far a cloud and a surface are from each other: both ways, with normals, as one set of figures."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from trimesh.triangles import closest_point

from pipeline.head.model.face import BROWS, on_face
from pipeline.head.model.pose import scale_of
from pipeline.mesh.mesh import Mesh

CANDIDATES = 8  # triangles with the nearest centres; the fit's are all of one size: see tests/test_fit_quality.py
FACING = 0.26  # cosine between normal and ray, 75 degrees
F_SCORES_MM = (1.0, 2.5, 5.0)
COVERED_MM = 2.5  # a place on the face is covered when the cloud has a point this near


@dataclass(frozen=True)
class Nearest:
    """Of Q points: `distance` (Q,) to the surface in its unit, and of the triangle there `normal` (Q, 3), unit, and
    `triangle` (Q,), its row."""

    distance: np.ndarray
    normal: np.ndarray
    triangle: np.ndarray


def nearest_on_surface(points: np.ndarray, triangles: np.ndarray) -> Nearest:
    """The nearest place to points (Q, 3) on triangles (F, 3, 3) that are about equally large."""
    count = min(CANDIDATES, len(triangles))
    candidates = KDTree(triangles.mean(1)).query(points, count)[1].reshape(len(points), count)
    places = closest_point(triangles[candidates.ravel()], points.repeat(count, 0)).reshape(len(points), count, 3)
    distances = np.linalg.norm(places - points[:, None], axis=-1)
    best = distances.argmin(1)
    rows = np.arange(len(points))
    triangle = candidates[rows, best]
    return Nearest(distances[rows, best], face_normals(triangles[triangle]), triangle)


def face_normals(triangles: np.ndarray) -> np.ndarray:
    """Unit normals (F, 3) of triangles (F, 3, 3); zero where a triangle has no area."""
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-30)


def surface_samples(triangles: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) spread evenly over triangles (F, 3, 3), and the unit normals (count, 3) there."""
    rng = np.random.default_rng(seed)
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=-1)
    chosen = triangles[rng.choice(len(triangles), count, p=area / area.sum())]
    along, across = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - along, along * (1 - across), along * across], axis=1)
    return np.einsum("nk,nkd->nd", weights, chosen), face_normals(chosen)


def seen(points: np.ndarray, normals: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Which points (N, 3) at least two of the eyes (C, 3) look at within 75 degrees; what stands between is ignored."""
    rays = eyes[:, None] - points
    return ((rays * normals).sum(-1) > FACING * np.linalg.norm(rays, axis=-1)).sum(0) >= 2


def compare(
    points: np.ndarray, normals: np.ndarray, mesh: Mesh, eyes: np.ndarray, count: int, seed: int
) -> dict[str, float]:
    """Figures of a cloud's `points` with unit `normals` (N, 3), world metres, against a mesh that `eyes` (C, 3) saw.

    cloud_to_mesh_mm, mesh_to_cloud_mm: mean unsigned distances (L1), the first with its median; f_score at 1, 2.5 and
    5 mm, the harmonic mean of the shares of both sides that lie within it; normal_consistency: mean cosine between the
    cloud's normals and the surface's. face_cloud_to_mesh_median_mm, face_cloud_to_mesh_mm: of the points on the face,
    under the brows; face_coverage: share of the face that has a point within 2.5 mm, which a thin cloud lacks; none of
    the three where the mesh has no face. Of the mesh counts what two cameras face. `count` points of each side are
    drawn with `seed`.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(points), min(count, len(points)), replace=False)
    triangles = mesh.vertices.astype(float)[mesh.faces]
    nearest = nearest_on_surface(points[drawn], triangles)
    precision = nearest.distance * 1e3
    samples, facing = surface_samples(triangles, count, seed)
    recall = KDTree(points).query(samples[seen(samples, facing, eyes)])[0] * 1e3
    figures = {
        "cloud_to_mesh_mm": precision.mean(),
        "cloud_to_mesh_median_mm": np.median(precision),
        "mesh_to_cloud_mm": recall.mean(),
        "normal_consistency": (normals[drawn] * nearest.normal).sum(-1).mean(),
    }
    for limit in F_SCORES_MM:
        shares = np.array([(precision < limit).mean(), (recall < limit).mean()])
        figures[f"f_score_{limit:g}mm"] = 2 * shares.prod() / max(shares.sum(), 1e-12)
    face = on_face(mesh.x_can[mesh.faces].mean(1), BROWS)
    if face.any():
        figures |= _face_figures(precision[face[nearest.triangle]], triangles[face], points, eyes, count, seed)
    return {name: float(value) for name, value in figures.items()}


def _face_figures(
    precision: np.ndarray, triangles: np.ndarray, points: np.ndarray, eyes: np.ndarray, count: int, seed: int
) -> dict[str, float]:
    """Figures on the face alone, where there is neither hair nor cloth: `precision` (P,) millimetres of the cloud's
    points that are nearest to it, its `triangles` (F, 3, 3), the cloud's `points` (N, 3)."""
    samples, facing = surface_samples(triangles, count, seed)
    samples = samples[seen(samples, facing, eyes)]
    recall = KDTree(points).query(samples)[0] * 1e3 if len(samples) else np.array([np.inf])
    figures = {"face_coverage": (recall < COVERED_MM).mean()}
    if len(precision):
        figures |= {"face_cloud_to_mesh_median_mm": np.median(precision), "face_cloud_to_mesh_mm": precision.mean()}
    return figures


def jitter_mm(head_from_world: np.ndarray) -> float:
    """Root mean square acceleration of six points of the head, 0.1 m from its middle, in mm per time step squared.

    `head_from_world` (T, 4, 4) in head units per metre. 0 for fewer than three time steps.
    """
    if len(head_from_world) < 3:
        return 0.0
    scale = scale_of(head_from_world)
    six = 0.1 * np.concatenate([np.eye(3), -np.eye(3)]) * scale.mean()  # head units
    world_from_head = np.linalg.inv(head_from_world)
    tracks = np.einsum("tij,pj->tpi", world_from_head[:, :3, :3], six) + world_from_head[:, None, :3, 3]
    return float(np.sqrt(np.square(np.diff(tracks, 2, axis=0)).sum(-1).mean()) * 1e3)
