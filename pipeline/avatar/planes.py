"""Learnable feature planes on the canonical head: three on pairs of axes and one on the hyper coordinates."""

import torch
import torch.nn.functional as F
from torch import nn

# Bounds of x_can (docs/formats.md): x, y, z in head units and the two hyper coordinates.
LOWER = (-1.0, -1.0, -1.5, -0.2, -0.2)
UPPER = (1.0, 1.0, 0.5, 0.2, 0.2)
PAIRS = ((0, 1), (0, 2), (1, 2), (3, 4))


def unit_coordinates(x_can: torch.Tensor) -> torch.Tensor:
    """Canonical coordinates (..., 5) mapped from their bounds to [-1, 1]."""
    lower, upper = x_can.new_tensor(LOWER), x_can.new_tensor(UPPER)
    return (x_can - lower) * (2 / (upper - lower)) - 1


class FeaturePlanes(nn.Module):
    """TriPlanes on (x, y), (x, z), (y, z) and an ambient plane on the hyper coordinates (DiffusionAvatars, 3.3).

    `values` (4, F, S, S) float32; the last axis is the first coordinate of the pair. Texel centres lie at
    (i + 0.5) / S of the range; outside of it the border texel is continued.
    """

    def __init__(self, size: int, features: int, spread: float = 1.0):
        super().__init__()
        self.values = nn.Parameter(torch.randn(len(PAIRS), features, size, size) * spread)

    @property
    def channels(self) -> int:
        """Length of a looked-up feature vector."""
        return self.values.shape[0] * self.values.shape[1]

    def forward(self, x_can: torch.Tensor) -> torch.Tensor:
        """Features (P, 4 F) at canonical points (P, 5), bilinear, the planes' channels one after another.

        All points form one row of one picture, so that the gradient is summed in one fixed order.
        """
        unit = unit_coordinates(x_can)
        where = torch.stack([unit[:, pair] for pair in PAIRS])[:, None]  # (4, 1, P, 2)
        found = F.grid_sample(self.values, where, mode="bilinear", padding_mode="border", align_corners=False)
        return found[:, :, 0].flatten(0, 1).T  # (4 F, P) -> (P, 4 F)
