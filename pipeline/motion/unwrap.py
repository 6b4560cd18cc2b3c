"""A texture for a template: its head rolled out round the upright axis, and colours baked from the cameras."""

from collections.abc import Sequence

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import vertex_normals
from pipeline.raster.colours import surface_colours
from pipeline.raster.fragments import Rasterizer, interpolate

FAR = 100.0  # of the camera that looks at the rolled out head


def roll_out(places: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texture coordinates of a head (V, 3) whose y is up: which vertex each corner is (W,), faces (F, 3), uv (W, 2).

    u goes once round, v from bottom to top, the origin at the lower left. Vertices on the seam at the back are there
    twice, on its far side with u beyond 1; textures repeat.
    """
    angle = np.arctan2(places[:, 0], places[:, 2]) / (2 * np.pi) + 0.5
    radius = np.linalg.norm(places, axis=1)
    high = np.arcsin(np.clip(places[:, 1] / np.maximum(radius, 1e-9), -1, 1))
    u, v = angle, (high - high.min()) / max(np.ptp(high), 1e-9)
    across = (u[faces].max(1) - u[faces].min(1)) > 0.5
    beyond = across[:, None] & (u[faces] < 0.5)
    twice = np.unique(faces[beyond])
    other = np.zeros(len(places), np.int64)
    other[twice] = len(places) + np.arange(len(twice))
    corner = np.concatenate([np.arange(len(places)), twice])
    uv = np.stack([np.concatenate([u, u[twice] + 1]), np.concatenate([v, v[twice]])], 1)
    return corner, np.where(beyond, other[faces], faces).astype(np.int32), uv.astype(np.float32)


def bake(
    rasterizer: Rasterizer,
    world: np.ndarray,
    faces: np.ndarray,
    rolled: tuple[np.ndarray, np.ndarray, np.ndarray],
    cameras: Sequence[Camera],
    pictures: np.ndarray,
    size: int,
) -> np.ndarray:
    """A texture (size, size, 3) uint8 of a mesh (V, 3) world metres, from pictures (C, h, w, 3) of that moment.

    Every texel is seen by the cameras by itself, so the texture is as sharp as they are.
    """
    corner, flat_faces, uv = rolled
    texels = np.zeros((size, size, 6), np.float32)
    flat = np.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size, np.zeros(len(uv))], 1)
    attributes = np.concatenate([world[corner], vertex_normals(world, faces)[corner]], 1)
    hit = np.zeros((size, size), bool)
    for shift in (0, -size):  # what lies beyond u = 1 belongs to the left edge
        camera = _over(size, shift)
        for order in (flat_faces, flat_faces[:, ::-1]):  # folds show either side
            (fragments,) = rasterizer.rasterize(flat, order, [camera])
            new = fragments.hit & ~hit
            texels[new] = interpolate(fragments, order, attributes)[new]
            hit |= new
    colour = np.full((size, size, 3), 200, np.uint8)
    normals = texels[hit][:, 3:]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    colour[hit] = surface_colours(rasterizer, world, faces, texels[hit][:, :3], normals, cameras, pictures)
    return colour


def _over(size: int, shift: int) -> Camera:
    """A camera far over the plane of texels, whose pixels are the texels."""
    pose = np.eye(4)
    pose[:3, 3] = shift, 0, FAR
    return Camera("texture", size, size, np.diag([FAR, FAR, 1.0]), pose, np.eye(3))
