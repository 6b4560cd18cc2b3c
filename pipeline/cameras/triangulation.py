"""Points in space from where calibrated cameras see them, some of them wrongly."""

from itertools import combinations

import numpy as np

from pipeline.cameras.rig import Rig

ANGLE = np.radians(5)  # rays that meet at less leave the depth open: 16 times the detector's error at 5 degrees
ROUNDS = 3  # of choosing the cameras that agree and a Gauss-Newton step; the point has settled after two


def triangulate(rig: Rig, seen: np.ndarray, agree: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, L, 3), world metres, and how many cameras agree on each (T, L) int64, from what was seen.

    `seen` (T, C, L, 3) holds x, y in pixels and a weight, 0 where nothing was seen. A camera agrees with a point that
    it sees at most `agree` metres away from its ray, at the point's depth. The pair of cameras whose point most others
    agree with (MSAC over all pairs; Torr and Zisserman 2000) is the start, weighted least squares of the reprojection
    over all that agree the end. NaN and 0 where no two cameras agree, or only ones that stand side by side.
    """
    found = [_one_step(rig, step, agree) for step in seen]
    points, views = zip(*found, strict=True)
    return np.stack(points), np.stack(views)


def _one_step(rig: Rig, seen: np.ndarray, agree: float) -> tuple[np.ndarray, np.ndarray]:
    """The same for one time step: seen (C, L, 3) to (L, 3) and (L,)."""
    pixels, weight = seen[..., :2], seen[..., 2]
    centres, rays = _rays(rig, pixels)
    first, second = np.array(list(combinations(range(len(centres)), 2)), int).reshape(-1, 2).T
    points = _nearest_to_both(centres[first, None], rays[first], centres[second, None], rays[second])  # (K, L, 3)
    apart = np.einsum("klx,klx->kl", rays[first], rays[second]) < np.cos(ANGLE)
    sure = apart & (weight[first] > 0) & (weight[second] > 0)
    points[~sure] = 0  # any place: what cannot be chosen may be no number
    away = np.linalg.norm(_off(rig, points, pixels)[0], axis=-1)  # (C, K, L)
    cost = (weight[:, None] * np.minimum((away / agree) ** 2, 1)).sum(0)
    best = np.where(sure, cost, np.inf).argmin(0)
    every: np.ndarray = np.arange(pixels.shape[1])
    points, known = points[best, every], sure[best, every]
    for _ in range(ROUNDS):
        off, slope = _off(rig, points, pixels)
        believed = weight * (np.linalg.norm(off, axis=-1) < agree)
        points = points - _step(off, slope, believed)
    agreeing = (weight > 0) & (np.linalg.norm(_off(rig, points, pixels)[0], axis=-1) < agree)
    views = (agreeing & known).sum(0)
    views[_widest(rays, agreeing) < ANGLE] = 0
    return np.where(views[:, None] > 1, points, np.nan), np.where(views > 1, views, 0)


def _rays(rig: Rig, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where cameras stand (C, 3) and unit directions (C, L, 3) of their rays through pixels (C, L, 2), world."""
    homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    to_world = np.stack([c.camera_from_world[:3, :3].T @ np.linalg.inv(c.intrinsics) for c in rig.cameras])
    rays = np.einsum("cxy,cly->clx", to_world, homogeneous)
    centres = np.stack([camera.centre for camera in rig.cameras])
    return centres, rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _nearest_to_both(a: np.ndarray, u: np.ndarray, b: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The points (..., 3) half way between two lines where they are nearest: a + s u and b + t v, unit u and v."""
    cosine, between = (u * v).sum(-1), b - a
    along_u, along_v = (between * u).sum(-1), (between * v).sum(-1)
    sine_squared = np.maximum(1 - cosine**2, 1e-12)
    s, t = (along_u - cosine * along_v) / sine_squared, (cosine * along_u - along_v) / sine_squared
    return 0.5 * (a + s[..., None] * u + b + t[..., None] * v)


def _off(rig: Rig, points: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far points (..., L, 3) are off the pixels (C, L, 2) that they should be seen at, in metres at their depth:
    (C, ..., L, 2), and its derivatives by the points (C, ..., L, 2, 3) with the depth held.

    Infinite behind a camera.
    """
    offs: list[np.ndarray] = []
    slopes: list[np.ndarray] = []
    for camera, seen in zip(rig.cameras, pixels, strict=True):
        projected, depth = camera.project(points)
        focal = camera.intrinsics[0, 0]
        by_camera = (camera.intrinsics[:2] - projected[..., None] * camera.intrinsics[2]) / focal
        offs.append(np.where(depth[..., None] > 0, (projected - seen) * depth[..., None] / focal, np.inf))
        slopes.append(by_camera @ camera.camera_from_world[:3, :3])
    return np.stack(offs), np.stack(slopes)


def _step(off: np.ndarray, slope: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Gauss-Newton steps (L, 3) for offs (C, L, 2), slopes (C, L, 2, 3), weights (C, L); zero where two rays lack."""
    used = weight > 0
    enough = used.sum(0) > 1
    weighted = np.where(used[..., None, None], weight[..., None, None] * slope, 0)
    off = np.where(used[..., None], off, 0)
    matrix = np.einsum("clij,clik->ljk", weighted, slope)
    right = np.einsum("clij,cli->lj", weighted, off)
    matrix[~enough] = np.eye(3)
    right[~enough] = 0
    step: np.ndarray = np.linalg.solve(matrix + 1e-12 * np.eye(3), right[..., None])
    return step[..., 0]


def _widest(rays: np.ndarray, agreeing: np.ndarray) -> np.ndarray:
    """The widest angle (L,) between rays (C, L, 3) of cameras that agree (C, L)."""
    cosine = np.einsum("clx,dlx->cdl", rays, rays)
    both = agreeing[:, None] & agreeing[None]
    return np.arccos(np.clip(np.where(both, cosine, 1), -1, 1)).max((0, 1))
