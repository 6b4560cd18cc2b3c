"""Training and rendering pictures read straight from the chunks, with a bounded cache."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.avatar.condition import Buffers
from pipeline.errors import DataError
from pipeline.store.chunk import read_arrays, read_attributes
from pipeline.store.reel import Reel

CACHE_BYTES = 4 << 30
STATISTICS_VIEWS = 100
INSIDE_MARGIN = 6  # pixels by which the mesh may be wrong about the silhouette


@dataclass(frozen=True)
class View:
    """One picture: the open chunks of its sequence, its time step and place on the camera axis, and z_exp (E,)."""

    buffers: Reel
    targets: Reel | None
    step: int
    camera: int
    z_exp: np.ndarray


def camera_places(reel: Reel, array: str = "mask") -> dict[str, int]:
    """Places on the camera axis of an array by camera name."""
    names = reel.attributes.get("cameras")
    if names is None or len(names) != reel.shape(array)[0]:
        raise DataError(f"{reel.paths[0]}: cameras are {names}; expected {reel.shape(array)[0]} names")
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


@dataclass(frozen=True)
class Target:
    """Real pictures of B views: `rgb` (B, h, w, 3) uint8 sRGB, `head` and `trusted` (B, h, w) bool.

    Where the mesh has an inside but the picture has nothing at all, the camera's picture ends: not to be trusted.
    """

    rgb: torch.Tensor
    head: torch.Tensor
    trusted: torch.Tensor

    @staticmethod
    def from_pictures(rgb: torch.Tensor, alpha: torch.Tensor, mask: torch.Tensor) -> "Target":
        """From colours (B, h, w, 3) uint8, alpha (B, h, w) uint8 and the mesh's mask (B, h, w) bool."""
        inside = -_largest_near(-mask.float(), INSIDE_MARGIN)
        unseen = _largest_near(inside * (alpha == 0), INSIDE_MARGIN)
        return Target(rgb, alpha > 127, unseen == 0)


Part = TypeVar("Part", Buffers, Target)


def _largest_near(picture: torch.Tensor, reach: int) -> torch.Tensor:
    """Maximum of (B, h, w) over squares that reach `reach` pixels to all sides."""
    return F.max_pool2d(picture[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]


def crop(pictures: Part, top: int, left: int, height: int, width: int) -> Part:
    """The same rectangle of every picture. Pixels are cut, never resampled, so geometry stays right."""
    window = (slice(None), slice(top, top + height), slice(left, left + width))
    cut = {name: tensor[window] if tensor.ndim > 2 else tensor for name, tensor in vars(pictures).items()}
    return type(pictures)(**cut)


def stack(parts: list[Part]) -> Part:
    """The views of several parts one after another."""
    names = vars(parts[0])
    return type(parts[0])(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


class Pictures:
    """Reads views one by one; what has been read stays in memory up to a bound."""

    def __init__(self, views: list[View]):
        self.views = views
        self._cache: dict[int, tuple[Buffers, Target | None]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> tuple[Buffers, Target | None]:
        """Buffers of one view (B = 1), and its target when there is one."""
        if index in self._cache:
            return self._cache[index]
        found = self._read(self.views[index])
        size = sum(tensor.nbytes for part in found if part for tensor in vars(part).values())
        if self._bytes + size <= CACHE_BYTES:
            self._cache[index] = found
            self._bytes += size
        return found

    @staticmethod
    def _read(view: View) -> tuple[Buffers, Target | None]:
        def read(reel: Reel, name: str) -> torch.Tensor:
            return torch.from_numpy(reel.picture(name, view.step, view.camera))[None]

        depth, normals, x_can, mask = (read(view.buffers, name) for name in ("depth", "normals", "x_can", "mask"))
        buffers = Buffers(depth, normals.float(), x_can, mask > 0, torch.from_numpy(view.z_exp)[None])
        if view.targets is None:
            return buffers, None
        return buffers, Target.from_pictures(read(view.targets, "rgb"), read(view.targets, "alpha"), buffers.mask)

    def batch(self, indices: list[int]) -> tuple[Buffers, Target]:
        """Buffers and targets of several views."""
        parts = [self[index] for index in indices]
        return stack([buffers for buffers, _ in parts]), stack([target for _, target in parts])

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes (N, E) of all views, and depths (M,) and x_can (M, 5) of the head's pixels in some of them."""
        codes = torch.from_numpy(np.stack([view.z_exp for view in self.views]))
        some = [self[index][0] for index in range(0, len(self), max(len(self) // STATISTICS_VIEWS, 1))]
        depth, x_can = (torch.cat([getattr(part, name)[part.mask] for part in some]) for name in ("depth", "x_can"))
        if len(depth) < 2:
            raise DataError(f"{self.views[0].buffers.paths[0]}: the head is in none of {len(some)} pictures")
        return codes, depth, x_can


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, h, w, 3) to float32 (B, 3, h, w) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pictures: torch.Tensor) -> torch.Tensor:
    """Float (B, 3, h, w) in [-1, 1] to uint8 (B, h, w, 3)."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
