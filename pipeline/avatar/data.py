"""Training and rendering pictures read straight from the chunks, with a bounded cache."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.avatar.condition import Buffers
from pipeline.errors import DataError
from pipeline.store.chunk import read_arrays, read_attributes
from pipeline.store.reel import Reel

CACHE_BYTES = 4 << 30
STATISTICS_VIEWS = 100


@dataclass(frozen=True)
class View:
    """One picture: the open chunks of its sequence, its time step and place on the camera axis, and z_exp (E,)."""

    buffers: Reel
    targets: Reel | None
    step: int
    camera: int
    z_exp: np.ndarray


def camera_places(buffers: Reel) -> dict[str, int]:
    """Places on the camera axis by camera name."""
    names = buffers.attributes.get("cameras")
    if names is None or len(names) != buffers.shape("mask")[0]:
        raise DataError(f"{buffers.paths[0]}: cameras are {names}; expected {buffers.shape('mask')[0]} names")
    return {name: place for place, name in enumerate(names)}


def sequence_views(buffers: Reel, targets: Reel | None, track: Path, cameras: list[int]) -> list[View]:
    """All views of one sequence, time step by time step, for the given places on the camera axis.

    Raises DataError when the files disagree about the sequence, its length or the size of the pictures.
    """
    (codes,) = read_arrays(track, "z_exp")
    if read_attributes(track)["sequence"] != buffers.sequence or len(codes) != buffers.steps:
        raise DataError(
            f"{track}: {len(codes)} codes of {read_attributes(track)['sequence']}; expected {buffers.steps} of "
            f"{buffers.sequence} as {buffers.paths[0]}"
        )
    shape = buffers.shape("mask")  # (C, h, w)
    if targets and (targets.steps != buffers.steps or targets.shape("rgb") != (*shape, 3)):
        raise DataError(
            f"{targets.paths[0]}: {targets.steps} steps of pictures {targets.shape('rgb')}; expected {buffers.steps} "
            f"of {(*shape, 3)} as {buffers.paths[0]}"
        )
    steps = range(buffers.steps)
    return [View(buffers, targets, step, camera, codes[step]) for step in steps for camera in cameras]


class Pictures:
    """Reads views one by one; what has been read stays in memory up to a bound."""

    def __init__(self, views: list[View]):
        self.views = views
        self._cache: dict[int, tuple[Buffers, torch.Tensor | None]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> tuple[Buffers, torch.Tensor | None]:
        """Buffers of one view, and its target (1, h, w, 3) uint8 sRGB when there is one."""
        if index in self._cache:
            return self._cache[index]
        found = self._read(self.views[index])
        size = sum(tensor.nbytes for tensor in (*vars(found[0]).values(), found[1]) if tensor is not None)
        if self._bytes + size <= CACHE_BYTES:
            self._cache[index] = found
            self._bytes += size
        return found

    @staticmethod
    def _read(view: View) -> tuple[Buffers, torch.Tensor | None]:
        place = (view.step, view.camera)
        depth, normals, x_can, mask = (
            torch.from_numpy(view.buffers.picture(name, *place))[None] for name in ("depth", "normals", "x_can", "mask")
        )
        buffers = Buffers(depth, normals.float(), x_can, mask > 0, torch.from_numpy(view.z_exp)[None])
        target = view.targets and torch.from_numpy(view.targets.picture("rgb", *place))[None]
        return buffers, target

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes (N, E) of all views and depths (M,) of the head's pixels in up to STATISTICS_VIEWS of them."""
        codes = torch.from_numpy(np.stack([view.z_exp for view in self.views]))
        some = range(0, len(self), max(len(self) // STATISTICS_VIEWS, 1))
        depths = torch.cat([buffers.depth[buffers.mask] for buffers, _ in (self[index] for index in some)])
        if not len(depths):
            raise DataError(f"{self.views[0].buffers.paths[0]}: the head is in none of {len(some)} pictures")
        return codes, depths

    def batch(self, indices: list[int]) -> tuple[Buffers, torch.Tensor]:
        """Buffers and targets (B, h, w, 3) uint8 of several views."""
        parts = [self[index] for index in indices]
        return Buffers.stack([part for part, _ in parts]), torch.cat([target for _, target in parts])


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, h, w, 3) to float32 (B, 3, h, w) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pictures: torch.Tensor) -> torch.Tensor:
    """Float (B, 3, h, w) in [-1, 1] to uint8 (B, h, w, 3)."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
