"""The baseline that paints the fitted mesh with the mean training colour of every canonical point."""

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from pipeline.evaluate.footage import Footage
from pipeline.evenly import evenly
from pipeline.head.model import regions
from pipeline.raster.coding import read_buffers

LOWER, UPPER = np.array(regions.LOWER[:3]), np.array(regions.UPPER[:3])
# A cell that gathered less than a tenth of one pixel seen head-on holds mostly silhouette pixels: fill it instead.
LEAST_WEIGHT = 0.1


class ColourGrid:
    """Mean colour over canonical space, cells of `cell` head units, filled from weighted points."""

    def __init__(self, cell: float):
        self._cell = cell
        self._shape = tuple(np.ceil((UPPER - LOWER) / cell).astype(int) + 1)
        self._sums = np.zeros((4, int(np.prod(self._shape))))  # colour times weight, weight

    def splat(self, points: np.ndarray, colors: np.ndarray, weights: np.ndarray) -> None:
        """Share points (N, 3) head units with colors (N, 3) and weights (N,) among the 8 corners of their cells."""
        place = self._place(points)
        base = np.minimum(place.astype(int), np.array(self._shape) - 2)
        fraction = place - base
        values = np.concatenate([colors * weights[:, None], weights[:, None]], 1).T
        for corner in np.ndindex(2, 2, 2):
            share = np.where(corner, fraction, 1 - fraction).prod(1)
            cells = np.ravel_multi_index((base + corner).T, self._shape)
            for total, value in zip(self._sums, values, strict=True):
                np.add.at(total, cells, value * share)

    def filled(self) -> np.ndarray:
        """Mean colour (3, nx, ny, nz) float32; a cell that was hardly seen takes its nearest neighbour's colour."""
        sums = self._sums.reshape(4, *self._shape)
        seen = sums[3] >= LEAST_WEIGHT
        mean = (sums[:3] / np.maximum(sums[3], LEAST_WEIGHT)).astype(np.float32)
        nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
        return mean[:, *nearest]

    def look_up(self, filled: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Colours (N, 3) float32 at points (N, 3) head units, trilinear."""
        place = self._place(points).T
        return np.stack([map_coordinates(channel, place, order=1) for channel in filled], -1)

    def _place(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in cells, points outside the bounds moved onto them."""
        return (np.clip(points, LOWER, UPPER) - LOWER) / self._cell


class MeshColour:
    """The fitted mesh of the asked step, every point in its mean colour over training cameras and sequences.

    A training pixel counts with the squared cosine between normal and view; only pixels that the target calls head
    count. `steps` bounds how many training steps are read, spread evenly over them.
    """

    def __init__(self, footage: Footage, cell: float, steps: int):
        self._footage = footage
        self._grid = ColourGrid(cell)
        for sequence, step in spread(footage, steps):
            for camera in footage.training_cameras:
                self._gather(sequence, step, camera)
        self._colors = self._grid.filled()

    def picture(self, sequence: str, step: int, camera: str) -> np.ndarray:
        """The coloured mesh (h, w, 3) uint8 sRGB over white."""
        index = self._footage.rig.index(camera)
        buffers = self._footage.buffers[sequence]
        found = read_buffers(buffers, step, index, ("mask", "x_can"))
        mask = found["mask"]
        result = np.full((*mask.shape, 3), 255, np.uint8)
        points = found["x_can"][mask][:, :3]
        result[mask] = np.clip(np.rint(self._grid.look_up(self._colors, points)), 0, 255)
        return result

    def _gather(self, sequence: str, step: int, camera: str) -> None:
        index = self._footage.rig.index(camera)
        buffers = self._footage.buffers[sequence]
        found = read_buffers(buffers, step, index, ("mask", "normals", "x_can"))
        seen = found["mask"] & self._footage.head(sequence, step, camera)
        rays = self._footage.rig.cameras[index].rays()[seen]
        normals = found["normals"][seen].astype(np.float64)
        cosine = -(rays * normals).sum(1) / np.linalg.norm(rays, axis=1)
        points = found["x_can"][seen][:, :3]
        colors = self._footage.target(sequence, step, camera)[seen]
        self._grid.splat(points, colors, np.clip(cosine, 0, 1) ** 2)


def spread(footage: Footage, steps: int) -> list[tuple[str, int]]:
    """At most `steps` (sequence, step) of the training sequences, evenly spread over all of them."""
    every = [
        (sequence, step) for sequence in footage.training_sequences for step in range(footage.targets[sequence].steps)
    ]
    return [every[index] for index in evenly(len(every), steps)]
