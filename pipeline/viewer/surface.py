"""How a mesh is coloured on the page."""

import numpy as np
import trimesh
from scipy.spatial import KDTree

from pipeline.mesh.mesh import Mesh
from pipeline.raster.colours import vertex_colours
from pipeline.raster.fragments import Rasterizer
from pipeline.viewer.results import Results

WAYS = ("picture", "canonical", "normals", "error")
LARGEST_MM = 3.0  # of errors; beyond it all is the last colour
SCALE = np.array([[34, 60, 160], [90, 190, 210], [250, 240, 160], [230, 110, 40], [140, 10, 30]], float)
PLAIN = (205, 200, 195)


def colours(way: str, mesh: Mesh, results: Results, rasterizer: Rasterizer, sequence: str, step: int) -> np.ndarray:
    """Colours (V, 3) uint8 of a mesh that was fitted to a time step; plain where that lacks what the way needs."""
    if way == "canonical":
        low, high = mesh.x_can[:, :3].min(0), mesh.x_can[:, :3].max(0)
        return (255 * (mesh.x_can[:, :3] - low) / np.maximum(high - low, 1e-9)).astype(np.uint8)
    if way == "normals":
        return ((mesh.normals + 1) * 127.5).astype(np.uint8)
    if way == "picture" and (pictures := results.pictures(sequence, step)) is not None:
        return vertex_colours(rasterizer, mesh.vertices, mesh.faces, results.rig.cameras, pictures)
    if way == "error" and (cloud := results.cloud(sequence, step)) is not None:
        return error_colours(1e3 * KDTree(cloud[0]).query(mesh.vertices)[0])
    return np.full((len(mesh.vertices), 3), PLAIN, np.uint8)


def error_colours(millimetres: np.ndarray) -> np.ndarray:
    """Colours (V, 3) uint8 of distances (V,): blue is none, dark red LARGEST_MM and more."""
    place = np.clip(millimetres / LARGEST_MM, 0, 1) * (len(SCALE) - 1)
    return np.stack([np.interp(place, np.arange(len(SCALE)), channel) for channel in SCALE.T], 1).astype(np.uint8)


def coloured(mesh: Mesh, colour: np.ndarray) -> trimesh.Trimesh:
    """The mesh with colours (V, 3) uint8, as browsers get it."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colour, process=False)
