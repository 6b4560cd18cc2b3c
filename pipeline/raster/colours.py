"""Colours of a mesh's vertices, from the pictures of the cameras that see them."""

from collections.abc import Sequence

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import vertex_normals
from pipeline.raster.fragments import Rasterizer

NEAR = 4e-3  # metres behind the surface that a camera sees first at which a vertex still counts as seen
UNSEEN = 200  # grey of vertices that no camera sees


def vertex_colours(
    rasterizer: Rasterizer, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera], pictures: np.ndarray
) -> np.ndarray:
    """Colours (V, 3) uint8 sRGB of vertices (V, 3) world metres from the cameras' pictures (C, h, w, 3) uint8."""
    normals = vertex_normals(vertices, faces)
    shown = np.ones(pictures.shape[:3], bool)
    colours, _ = surface_colours(rasterizer, vertices, faces, vertices, normals, cameras, pictures, shown)
    return colours


def surface_colours(
    rasterizer: Rasterizer,
    vertices: np.ndarray,
    faces: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
    cameras: Sequence[Camera],
    pictures: np.ndarray,
    shown: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (P, 3) uint8 sRGB of points (P, 3) with normals (P, 3) on a mesh, from pictures (C, h, w, 3) uint8.

    The mean over the cameras that see a point, weighted by how much they face it: the fourth power of the cosine, so
    that sharp, frontal views count; of each picture only the pixels `shown` (C, h, w) bool. Also the sum of these
    weights (P,), 0 where no camera sees the point. Pictures may be smaller than the cameras say.
    """
    total, weight = np.zeros((len(points), 3)), np.zeros(len(points))
    sized = [camera.resized(*picture.shape[1::-1]) for camera, picture in zip(cameras, pictures, strict=True)]
    fragments = rasterizer.rasterize(vertices, faces, sized)
    for camera, picture, use, seen in zip(sized, pictures, shown, fragments, strict=True):
        inside, row, column, depth = camera.hits(points)
        first = seen.depth[row, column]
        away = camera.centre - points[inside]
        cosine = np.einsum("vk,vk->v", away, normals[inside]) / np.linalg.norm(away, axis=1)
        sees = (first > 0) & (depth < first + NEAR) & use[row, column]
        share = np.where(sees, cosine.clip(0) ** 4, 0)
        total[inside] += share[:, None] * picture[row, column]
        weight[inside] += share
    known = weight > 1e-6
    colours = np.full((len(points), 3), float(UNSEEN))
    colours[known] = total[known] / weight[known, None]
    return colours.round().astype(np.uint8), weight
