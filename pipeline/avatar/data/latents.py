"""Latents of whole training pictures, kept where neither what is learned nor a random scale changes them."""

import torch

from pipeline.avatar.data.pictures import Rectangle

LARGEST = 4 << 30  # bytes; latents of a 512x512 picture are 64 KB, so those of 65,536 pictures


class KeptLatents:
    """Latents (C, h', w') by picture in the host's memory, up to LARGEST bytes: the first that come, then no more.

    Pictures come in whole epochs, where dropping old ones for new would have none of them found again.
    """

    def __init__(self, factor: int, largest: int = LARGEST):
        self.factor, self._left = factor, largest
        self._kept: dict[int, torch.Tensor] = {}
        self._arriving: dict[int, torch.Tensor] = {}

    def keep(self, index: int, latents: torch.Tensor) -> None:
        """Keep latents (C, h', w') on any device. From a GPU they arrive later: see `settle`."""
        size = latents.numel() * latents.element_size()
        if index not in self._kept and index not in self._arriving and size <= self._left:
            self._left -= size
            host = latents.to("cpu", non_blocking=True)
            (self._arriving if latents.is_cuda else self._kept)[index] = host

    def settle(self) -> None:
        """The host has waited for the GPU: what it sent until then is there."""
        self._kept.update(self._arriving)
        self._arriving.clear()

    def whole(self, index: int) -> torch.Tensor | None:
        """Latents (C, h', w') of a picture, if they are kept."""
        return self._kept.get(index)

    def cut(self, indices: list[int], window: Rectangle) -> torch.Tensor | None:
        """Latents (B, C, h', w') of a window (in pixels) of pictures; None when not all of them are kept."""
        if not all(index in self._kept for index in indices):
            return None
        top, left, height, width = (length // self.factor for length in window)
        cut = (slice(None), slice(top, top + height), slice(left, left + width))
        return torch.stack([self._kept[index][cut] for index in indices])
