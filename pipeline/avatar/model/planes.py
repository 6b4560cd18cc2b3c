"""Learnable feature planes on the canonical head: TriPlanes or a sphere, one on the hyper coordinates, one on eyes."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

PAIRS = ((0, 1), (0, 2), (1, 2), (3, 4))  # of (x, y, z, hyper 1, hyper 2)


def _pair(pair: tuple[int, int]) -> Callable[[torch.Tensor], torch.Tensor]:
    # Not points[:, pair]: on a GPU a tuple of columns becomes a tensor, which is copied there and waited for.
    one, two = pair
    return lambda points: torch.stack([points[:, one], points[:, two]], 1)


def sphere(points: torch.Tensor) -> torch.Tensor:
    """Longitude and latitude (P, 2) in [-1, 1] of points (P, 5) seen from the origin; the seam is at the back (-z)."""
    x, y, z = points[:, :3].unbind(1)
    return torch.stack([torch.atan2(x, z) / math.pi, torch.atan2(y, torch.hypot(x, z)) * 2 / math.pi], dim=1)


CHARTS = {  # where each plane is read at points (P, 5) in unit coordinates: (P, 2) in [-1, 1]
    "triplanes": tuple(_pair(pair) for pair in PAIRS),
    "spherical": (sphere, _pair(PAIRS[-1])),
    "none": (),
}
EYEBALLS = (5, 6)  # coordinates on the eyeballs, which follow the others; the seventh is how surely it is one


class FeaturePlanes(nn.Module):
    """TriPlanes on (x, y), (x, z), (y, z) and an ambient plane on the hyper coordinates (DiffusionAvatars, 3.3).

    `values` (K, F, S, S) float32 for the K charts of `kind`; the last axis is a chart's first coordinate. The planes
    span [-1, 1], texel centres lie at (i + 0.5) / S of it; outside the border texel is continued. Kind "spherical" has
    one plane on directions in place of the three, "none" has no plane and no features. With `eyeballs` one more plane
    lies on them, for points (P, 8): its features fade away from them, and the others' on them, where an iris would stay
    that does not turn.
    """

    def __init__(self, size: int, features: int, spread: float = 1.0, kind: str = "triplanes", eyeballs: bool = False):
        super().__init__()
        self.eyeballs = eyeballs and kind != "none"
        self.charts = (*CHARTS[kind], *([_pair(EYEBALLS)] if self.eyeballs else []))
        self.values = nn.Parameter(torch.randn(len(self.charts), features, size, size) * spread)

    @property
    def channels(self) -> int:
        """Length of a looked-up feature vector."""
        return self.values.shape[0] * self.values.shape[1]

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Features (P, K F) at canonical points (P, 5 or 8) in unit coordinates, bilinear, one plane's after another's.

        All points form one row of one picture, so that the gradient is summed in one fixed order.
        """
        nowhere = points.new_zeros(0, len(points), 2)
        where = torch.cat([nowhere, *(chart(points)[None] for chart in self.charts)])[:, None]  # (K, 1, P, 2)
        found = F.grid_sample(self.values, where, mode="bilinear", padding_mode="border", align_corners=False)
        found = found[:, :, 0]  # (K, F, P)
        if self.eyeballs:
            surely = points[:, EYEBALLS[-1] + 1]
            found = torch.cat([found[:-1] * (1 - surely), found[-1:] * surely])
        return found.flatten(0, 1).T  # (K F, P) -> (P, K F)

    def everywhere(self, points: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features (B, h, w, K F) at points (B, h, w, 5 or 8), with a meaning where the mask (B, h, w) is true.

        A GPU looks all pixels up: how many the mask has is known there alone, and asking for that waits for the GPU. A
        CPU spares itself the others.
        """
        if points.device.type != "cpu":
            return self(points.flatten(0, 2)).unflatten(0, mask.shape)
        features = points.new_zeros(*mask.shape, self.channels)
        features[mask] = self(points[mask])
        return features

    def roughness(self) -> torch.Tensor:
        """Mean squared difference of neighbouring texels, a scalar; zero where there is no plane."""
        down, across = (self.values.diff(dim=axis).square().sum() for axis in (-2, -1))
        return (down + across) / max(self.values.numel(), 1)

    def colours(self, features: torch.Tensor) -> torch.Tensor:
        """Colours (..., 3) in about [-1, 1] in features (..., K F): each plane's first three channels, summed."""
        return features.unflatten(-1, self.values.shape[:2])[..., :3].sum(-2)
