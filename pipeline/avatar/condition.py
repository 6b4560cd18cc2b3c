"""From rasterised buffers to the picture-shaped condition of the ControlNet."""

from dataclasses import dataclass

import torch

from pipeline.avatar.planes import FeaturePlanes, unit_coordinates

GEOMETRY_CHANNELS = 9  # depth 1, canonical xyz 3, normals 3, hyper 2


@dataclass(frozen=True)
class Buffers:
    """Rasterised pictures of B views.

    `depth` (B, h, w) float32 metres; `normals` (B, h, w, 3) float32 world; `x_can` (B, h, w, 5) float32; `mask`
    (B, h, w) bool; `z_exp` (B, E) float32.
    """

    depth: torch.Tensor
    normals: torch.Tensor
    x_can: torch.Tensor
    mask: torch.Tensor
    z_exp: torch.Tensor


def geometry_channels(buffers: Buffers, depth_middle: torch.Tensor, depth_scale: torch.Tensor) -> torch.Tensor:
    """Depth, canonical xyz, normals and hyper coordinates of the masked pixels (P, 9), all about [-1, 1].

    `depth_middle`, `depth_scale` metres: depth becomes (depth - middle) / scale.
    """
    inside = buffers.mask
    unit = unit_coordinates(buffers.x_can[inside])
    depth = (buffers.depth[inside] - depth_middle) / depth_scale
    return torch.cat([depth[:, None], unit[:, :3], buffers.normals[inside], unit[:, 3:]], dim=1)


def as_picture(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Spread per-pixel values (P, K) over a mask (B, h, w) with P true pixels: (B, K, h, w), background zero."""
    picture = values.new_zeros(*mask.shape, values.shape[1])
    picture[mask] = values
    return picture.permute(0, 3, 1, 2)


def condition(
    buffers: Buffers, planes: FeaturePlanes, depth_middle: torch.Tensor, depth_scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ControlNet's condition (B, 9 + 4 F, h, w), background zero, and the masked pixels' features (P, 4 F)."""
    features = planes(buffers.x_can[buffers.mask])
    geometry = geometry_channels(buffers, depth_middle, depth_scale)
    return as_picture(torch.cat([geometry, features], dim=1), buffers.mask), features
