"""A texture for a template: its head rolled out round the upright axis, and colours baked from the cameras."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.mesh.mesh import vertex_normals
from pipeline.raster.colours import surface_colours
from pipeline.raster.fragments import Rasterizer, interpolate

FAR = 100.0  # of the camera that looks at the rolled out head
SEEN = 0.2**4  # weight of one camera that looks at a texel from 78 degrees aside; beyond, it sees what is behind too
SOFT = 1 / 50  # of the texture's side: how far colours of places that no camera sees run into each other


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
    person: np.ndarray,
    size: int,
) -> np.ndarray:
    """A texture (size, size, 3) uint8 of a mesh (V, 3) world metres, from pictures (C, h, w, 3) of that moment.

    Only where they show the `person` (C, h, w) bool, since the mesh reaches beyond the head by a pixel here and there.
    Every texel is seen by the cameras by itself, so the texture is as sharp as they are. What none of them sees, as
    under a nose, has the colours of the nearest texels that some do, blurred. Raises DataError when they see nothing of
    the mesh.
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
    colour, seen = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool)
    normals = texels[hit][:, 3:]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    places = texels[hit][:, :3]
    colour[hit], weight = surface_colours(rasterizer, world, faces, places, normals, cameras, pictures, person)
    seen[hit] = weight > SEEN
    if not seen.any():
        raise DataError("texture: no camera sees the mesh; expected pictures of the head")
    return fill_in(colour, seen)


def fill_in(colour: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A texture (h, w, 3) uint8 whose texels that are not `seen` (h, w) look like those nearest to them; u repeats."""
    width = seen.shape[1]
    row, column = distance_transform_edt(~np.tile(seen, 3), return_distances=False, return_indices=True)
    row, column = row[:, width : 2 * width], column[:, width : 2 * width] % width
    nearest = colour[row, column]
    blur = SOFT * width
    soft = gaussian_filter(nearest.astype(np.float32), (blur, blur, 0), mode=("nearest", "wrap", "nearest"))
    return np.where(seen[..., None], colour, soft.round().astype(np.uint8))


def _over(size: int, shift: int) -> Camera:
    """A camera far over the plane of texels, whose pixels are the texels."""
    pose = np.eye(4)
    pose[:3, 3] = shift, 0, FAR
    return Camera("texture", size, size, np.diag([FAR, FAR, 1.0]), pose, np.eye(3))
