"""Buffers rasterised when they are asked for, from meshes and a rig: read like stored ones, without the disk."""

from typing import Any

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.mesh.mesh import Mesh, mesh_of
from pipeline.raster.backends.choose import make_rasterizer
from pipeline.raster.buffers import rasterize_coded
from pipeline.raster.coding import CODED
from pipeline.raster.fragments import Rasterizer
from pipeline.store.reel import WHOLE, Reel, Window


class RasterizedReel(Reel):
    """Stands for the reel of the buffers that the stage rasterize makes of `meshes`: the same numbers, coded alike.

    Only the requested window is rasterised. The last mesh and the last picture are kept: a picture's arrays are asked
    for one after another. A copy, for another thread or process, makes its own rasteriser.
    """

    def __init__(self, meshes: Reel, rig: Rig, backend: str):
        if rig.moving:
            raise DataError(f"{meshes.paths[0]}: a camera that moves; expected the rig of the capture")
        super().__init__(meshes.paths, meshes.part)
        self.attributes = self.attributes | {"cameras": rig.names}
        self.rig, self.backend = rig, backend
        self._rasterizer: Rasterizer | None = None
        self._mesh: tuple[int, Mesh] | None = None
        self._coded: tuple[tuple[int, ...], dict[str, np.ndarray]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Another thread or process opens its own files and rasterises by itself."""
        return super().__getstate__() | {"_rasterizer": None, "_mesh": None, "_coded": None}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of array `name` without its time axis."""
        first = self.rig.cameras[0]
        return (len(self.rig.cameras), *CODED[name][0], first.height, first.width)

    def picture(self, name: str, step: int, camera: int, window: Window = WHOLE) -> np.ndarray:
        """One picture of array `name`, or the requested rows and columns of it."""
        seen = self.rig.cameras[camera]
        top, bottom, _ = window[0].indices(seen.height)
        left, right, _ = window[1].indices(seen.width)
        place = (step, camera, top, bottom, left, right)
        if self._coded is None or self._coded[0] != place:
            self._rasterizer = self._rasterizer or make_rasterizer(self.backend)
            part = seen.crop(left, top, 1, right - left, bottom - top)
            coded = rasterize_coded(self._rasterizer, self._mesh_of(step), [part])
            self._coded = place, {name: pictures[0] for name, pictures in coded.items()}
        return self._coded[1][name]

    def _mesh_of(self, step: int) -> Mesh:
        if self._mesh is None or self._mesh[0] != step:
            mesh = mesh_of(self, step)
            if not len(mesh.faces):
                raise DataError(f"{self.path(step)}: step {step} has no triangles; expected a head")
            self._mesh = step, mesh
        return self._mesh[1]
