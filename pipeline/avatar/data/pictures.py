"""Training and rendering pictures, or crops of them, read straight from the chunks."""

import copy
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

from pipeline.avatar.data.chosen import camera_places
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.eyes import SIZE
from pipeline.errors import DataError
from pipeline.raster.beyond import band, continued
from pipeline.raster.coding import read_buffers
from pipeline.store.chunk import read_all, read_attributes
from pipeline.store.reel import WHOLE, Reel, Window

CACHE_BYTES = 4 << 30
BYTES_PER_PIXEL = 42  # of Buffers and Target in memory
STATISTICS_VIEWS = 100
INSIDE_MARGIN = 6  # pixels by which the mesh may be wrong about the silhouette
TRUST_REACH = 2 * INSIDE_MARGIN  # pixels round a pixel that decide whether it is trusted


@dataclass(frozen=True)
class View:
    """One picture: the open chunks of its sequence, its time step and place on the camera axis, z_exp (E,), the eyes'
    pose (6,) and the subject's eyeballs (2, 4) as pipeline/avatar/model/eyes.py has them, NaN where unknown."""

    buffers: Reel
    targets: Reel | None
    step: int
    camera: int
    z_exp: np.ndarray
    eyes: np.ndarray
    eyeballs: np.ndarray


def eye_poses(track: Mapping[str, np.ndarray]) -> np.ndarray:
    """Poses (T, 6) float32 of the eyes in the arrays of a track, NaN for what it does not know."""
    steps = len(track["z_exp"])
    poses = np.full((steps, SIZE), np.nan, np.float32)
    if "gaze" in track:
        poses[:, :4] = track["gaze"].reshape(steps, 4)
    if "lids" in track:
        poses[:, 4:] = track["lids"]
    return poses


def sequence_views(buffers: Reel, targets: Reel | None, track: Path, cameras: list[int]) -> list[View]:
    """All views of one sequence, time step by time step, for the given places on the camera axis.

    Raises DataError when the files disagree about the sequence, its length or the size of the pictures.
    """
    arrays = read_all(track)
    codes = arrays["z_exp"]
    if read_attributes(track)["sequence"] != buffers.sequence or (
        len(codes) < buffers.steps if buffers.part else len(codes) != buffers.steps
    ):
        raise DataError(
            f"{track}: {len(codes)} codes of {read_attributes(track)['sequence']}; expected {buffers.steps} of "
            f"{buffers.sequence} as {buffers.paths[0]}"
        )
    shape = buffers.shape("depth")  # (C, h, w)
    if targets and (targets.steps != buffers.steps or targets.shape("rgb") != (*shape, 3)):
        raise DataError(
            f"{targets.paths[0]}: {targets.steps} steps of pictures {targets.shape('rgb')}; expected {buffers.steps} "
            f"of {(*shape, 3)} as {buffers.paths[0]}"
        )
    steps = range(buffers.start, buffers.steps)
    eyes, eyeballs = eye_poses(arrays), arrays.get("eyeballs", np.full((2, 4), np.nan, np.float32))
    return [
        View(buffers, targets, step, camera, codes[step], eyes[step], eyeballs) for step in steps for camera in cameras
    ]


@dataclass(frozen=True)
class Target:
    """Real pictures of B views: `rgb` (B, h, w, 3) uint8 sRGB, `head` and `trusted` (B, h, w) bool.

    Pixels well inside the mesh whose target is empty lie outside the source picture: not trusted, out of the loss.
    """

    rgb: torch.Tensor
    head: torch.Tensor
    trusted: torch.Tensor

    @staticmethod
    def from_pictures(rgb: torch.Tensor, alpha: torch.Tensor, mask: torch.Tensor) -> "Target":
        """From colours (B, h, w, 3) uint8, alpha (B, h, w) uint8 and the mesh's mask (B, h, w) bool."""
        square = np.ones((2 * INSIDE_MARGIN + 1,) * 2, np.uint8)
        seen = []
        for found, inside in zip(alpha.numpy(), mask.numpy(), strict=True):
            deep = cv2.erode(inside.astype(np.uint8), square)
            seen.append(cv2.dilate(deep * (found == 0), square) == 0)
        return Target(rgb, alpha > 127, torch.from_numpy(np.stack(seen)))


Rectangle = tuple[int, int, int, int]  # top, left, height, width in pixels
Part = TypeVar("Part", Buffers, Target)


def crop(pictures: Part, top: int, left: int, height: int, width: int) -> Part:
    """The same rectangle of every picture. Pixels are cut, never resampled, so geometry stays right."""
    window = (slice(None), slice(top, top + height), slice(left, left + width))
    cut = {name: tensor[window] if tensor.ndim > 2 else tensor for name, tensor in vars(pictures).items()}
    return type(pictures)(**cut)


def stack(parts: list[Part]) -> Part:
    """The views of several parts one after another."""
    names = vars(parts[0])
    return type(parts[0])(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def moved(part: Part, device: torch.device) -> Part:
    """The same on another device; from pinned memory without waiting for it."""
    return type(part)(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(part).items()})


def pinned(part: Part) -> Part:
    """The same in memory that a GPU can read by itself."""
    return type(part)(**{name: tensor.pin_memory() for name, tensor in vars(part).items()})


class Pictures:
    """Reads views one by one, in any thread. What is read stays in memory when all views fit there, if `keep`."""

    def __init__(self, views: list[View], keep: bool = True):
        self.views, self._keep = views, keep
        self._reels = threading.local()  # a thread's own, since a reel closes the files that it has not used for long
        self._opened: list[Reel] = []
        self._owner = threading.get_ident()
        self._cache: dict[int, tuple[Buffers, Target | None]] = {}

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> tuple[Buffers, Target | None]:
        """Buffers of one view (B = 1), and its target when there is one."""
        if index in self._cache:
            return self._cache[index]
        found = self._read(self.views[index], WHOLE)
        if self.fit_in_memory:
            self._cache[index] = found
        return found

    def with_target(self, index: int) -> tuple[Buffers, Target]:
        """Buffers and target of one view (B = 1), which has one, as all views of a training do."""
        buffers, target = self[index]
        return buffers, self._there(target, index)

    def _there(self, target: Target | None, index: int) -> Target:
        if target is None:
            raise DataError(f"{self.name(index)}: no real picture; expected targets of its sequence")
        return target

    def name(self, index: int) -> str:
        """What a view is called in messages."""
        view = self.views[index]
        camera = list(camera_places(view.buffers))[view.camera]
        return f"sequence {view.buffers.sequence}, step {view.step}, camera {camera}"

    def sides(self, index: int) -> tuple[int, int]:
        """Height and width of a view in pixels."""
        _, height, width = self.views[index].buffers.shape("depth")
        return height, width

    @cached_property
    def fit_in_memory(self) -> bool:
        """Whether all views together are small enough to be kept."""
        return self._keep and len(self) * math.prod(self.sides(0)) * BYTES_PER_PIXEL <= CACHE_BYTES

    def cropped(self, index: int, top: int, left: int, height: int, width: int) -> tuple[Buffers, Target]:
        """The same as a `crop` of a whole view; where views are not kept, only that part is read from the file."""
        if self.fit_in_memory:
            buffers, target = self.with_target(index)
            return crop(buffers, top, left, height, width), crop(target, top, left, height, width)
        reach = max(TRUST_REACH, band(self.sides(index)[0]) + 1)
        above, before = max(top - reach, 0), max(left - reach, 0)
        rows, columns = slice(above, top + height + reach), slice(before, left + width + reach)
        buffers, target = self._read(self.views[index], (rows, columns))
        inner = (top - above, left - before, height, width)
        return crop(buffers, *inner), crop(self._there(target, index), *inner)

    def _own(self, reel: Reel) -> Reel:
        """The reel itself where these pictures were opened, in another thread one of the same files."""
        if threading.get_ident() == self._owner:
            return reel
        copies: dict[int, Reel] = vars(self._reels).setdefault("copies", {})
        if id(reel) not in copies:
            copies[id(reel)] = copy.copy(reel)
            self._opened.append(copies[id(reel)])
        return copies[id(reel)]

    def close(self) -> None:
        """Close the files that threads have opened, once they have ended."""
        while self._opened:
            self._opened.pop().close()

    def _read(self, view: View, window: Window) -> tuple[Buffers, Target | None]:
        def read(reel: Reel, name: str) -> torch.Tensor:
            return torch.from_numpy(self._own(reel).picture(name, view.step, view.camera, window))[None]

        stored = read_buffers(self._own(view.buffers), view.step, view.camera, window=window)
        reach = band(view.buffers.shape("depth")[1])
        stored["depth"], stored["x_can"] = continued(stored["depth"], stored["x_can"], stored["mask"], reach)
        geometry = (torch.from_numpy(stored[name])[None] for name in ("depth", "normals", "x_can", "mask"))
        buffers = Buffers(*geometry, *(torch.from_numpy(part)[None] for part in (view.z_exp, view.eyes)))
        if view.targets is None:
            return buffers, None
        return buffers, Target.from_pictures(read(view.targets, "rgb"), read(view.targets, "alpha"), buffers.mask)

    def batch(self, indices: list[int], rectangle: Rectangle | None = None) -> tuple[Buffers, Target]:
        """Buffers and targets of several views, whole or the same rectangle of each."""
        parts = [self.cropped(index, *rectangle) if rectangle else self.with_target(index) for index in indices]
        return stack([buffers for buffers, _ in parts]), stack([target for _, target in parts])

    def codes(self) -> torch.Tensor:
        """z_exp (N, E) of all views."""
        return torch.from_numpy(np.stack([view.z_exp for view in self.views]))

    def statistics(self) -> tuple[torch.Tensor, ...]:
        """Codes (N, E) of all views, depths (M,) and x_can (M, 5) of the head's pixels in some of them, poses of the
        eyes (N, 6) of all views, and the eyeballs (2, 4)."""
        some = [self[index][0] for index in range(0, len(self), max(len(self) // STATISTICS_VIEWS, 1))]
        depth, x_can = (torch.cat([getattr(part, name)[part.mask] for part in some]) for name in ("depth", "x_can"))
        if len(depth) < 2:
            raise DataError(f"{self.views[0].buffers.paths[0]}: the head is in none of {len(some)} pictures")
        eyes = torch.from_numpy(np.stack([view.eyes for view in self.views]))
        return self.codes(), depth, x_can, eyes, torch.from_numpy(self.views[0].eyeballs)


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (B, h, w, 3) to float32 (B, 3, h, w) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pictures: torch.Tensor) -> torch.Tensor:
    """Float (B, 3, h, w) in [-1, 1] to uint8 (B, h, w, 3)."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
