"""Learnable feature planes on the canonical head: three on pairs of axes and one on the hyper coordinates."""

import torch
import torch.nn.functional as F
from torch import nn

PAIRS = ((0, 1), (0, 2), (1, 2), (3, 4))  # of (x, y, z, hyper 1, hyper 2)


class FeaturePlanes(nn.Module):
    """TriPlanes on (x, y), (x, z), (y, z) and an ambient plane on the hyper coordinates (DiffusionAvatars, 3.3).

    `values` (4, F, S, S) float32; the last axis is the first coordinate of the pair. The planes span [-1, 1], texel
    centres lie at (i + 0.5) / S of it; outside the border texel is continued.
    """

    def __init__(self, size: int, features: int, spread: float = 1.0):
        super().__init__()
        self.values = nn.Parameter(torch.randn(len(PAIRS), features, size, size) * spread)

    @property
    def channels(self) -> int:
        """Length of a looked-up feature vector."""
        return self.values.shape[0] * self.values.shape[1]

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Features (P, 4 F) at canonical points (P, 5) in unit coordinates, bilinear, one plane's after another's.

        All points form one row of one picture, so that the gradient is summed in one fixed order.
        """
        where = torch.stack([points[:, pair] for pair in PAIRS])[:, None]  # (4, 1, P, 2)
        found = F.grid_sample(self.values, where, mode="bilinear", padding_mode="border", align_corners=False)
        return found[:, :, 0].flatten(0, 1).T  # (4 F, P) -> (P, 4 F)

    @staticmethod
    def colours(features: torch.Tensor) -> torch.Tensor:
        """Colours (P, 3) in about [-1, 1] in features (P, 4 F): each plane's first three channels, summed."""
        return features.unflatten(1, (len(PAIRS), -1))[:, :, :3].sum(1)
