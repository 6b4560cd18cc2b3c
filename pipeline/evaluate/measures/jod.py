"""JOD of a film: what a viewer would notice of its errors, flicker included, by ColorVideoVDP."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class GaussianBlur(nn.Module):
    """A Gaussian blur of pictures (..., h, w), `size` taps (odd), mirrored at the edges: what torchvision's does."""

    weight: torch.Tensor

    def __init__(self, size: int, sigma: float):
        super().__init__()
        offset = torch.arange(size) - size // 2
        weight = torch.exp(-0.5 * (offset / sigma) ** 2)
        self.register_buffer("weight", weight / weight.sum())

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Blurred pictures of the same shape."""
        reach = len(self.weight) // 2
        weight = self.weight.to(pictures)
        flat = F.pad(pictures.reshape(-1, 1, *pictures.shape[-2:]), (reach,) * 4, mode="reflect")
        blurred = F.conv2d(F.conv2d(flat, weight.view(1, 1, -1, 1)), weight.view(1, 1, 1, -1))
        return blurred.reshape(pictures.shape)


@contextmanager
def _torchvision() -> Iterator[None]:
    """Give pycvvdp what it imports of torchvision, whose wheels bring CUDA, or fail beside torch's CPU build.

    The metric uses GaussianBlur alone; MLP belongs to variants of it that are not called here. Both are gone after the
    import: others ask whether there is a torchvision, and take a module without a specification for a broken one.
    """
    modules: dict[str, ModuleType] = {}
    if find_spec("torchvision") is None:
        modules = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.ops")}
        modules["torchvision.transforms"].GaussianBlur = GaussianBlur  # type: ignore[attr-defined]
        modules["torchvision.ops"].MLP = nn.Module  # type: ignore[attr-defined]
    sys.modules |= modules
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


@cache
def _metric(pixels_per_degree: float):
    with _torchvision():
        import pycvvdp  # takes seconds, and only a film's JOD needs it

    geometry = pycvvdp.vvdp_display_geometry([3840, 2160], ppd=pixels_per_degree)
    return pycvvdp.cvvdp(display_name="standard_4k", display_geometry=geometry, device=torch.device("cpu"), quiet=True)


def jod(prediction: np.ndarray, truth: np.ndarray, frames_per_second: float, pixels_per_degree: float) -> float:
    """Just-objectionable differences of a film to the true one: 10 for no difference, one less for each step of three
    quarters of the viewers (ColorVideoVDP, Mantiuk et al. 2024), on a standard 4K screen.

    Films (T, h, w, 3) uint8 sRGB of one camera; `pixels_per_degree` of visual angle.
    """
    with torch.inference_mode():
        value, _ = _metric(pixels_per_degree).predict(
            prediction, truth, dim_order="FHWC", frames_per_second=frames_per_second
        )
    return float(value)
