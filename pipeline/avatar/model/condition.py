"""From rasterised buffers to the picture-shaped condition of the ControlNet."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.avatar.model.eyes import EyePose
from pipeline.avatar.model.planes import FeaturePlanes
from pipeline.head.model.regions import LOWER, UPPER

# Bounds of x, y, z in x_can, head units (docs/formats.md).
LEAST_HYPER_SPREAD = 1e-3  # of bounds of 0.2: a hyper coordinate that a head prior hardly uses is not blown up
GEOMETRY_CHANNELS = 9  # depth 1, canonical xyz 3, normals 3, hyper 2


@dataclass(frozen=True)
class Buffers:
    """Rasterised pictures of B views.

    `depth` (B, h, w) float32 metres; `normals` (B, h, w, 3) float32 world; `x_can` (B, h, w, 5) float32; `mask`
    (B, h, w) bool. In a band beside the mesh x_can is that of its nearest pixel and depth minus the distance to it, in
    shares of the band's width (pipeline/raster/beyond.py); all else is 0 off the mesh. `z_exp` (B, E) float32; `eyes`
    (B, 6) float32 where both eyes look and how far their lids are apart,
    as pipeline/avatar/model/eyes.py has it, NaN where unknown.
    """

    depth: torch.Tensor
    normals: torch.Tensor
    x_can: torch.Tensor
    mask: torch.Tensor
    z_exp: torch.Tensor
    eyes: torch.Tensor


class Units(nn.Module):
    """Brings rasterised buffers into about [-1, 1]; the statistics of the training data are saved as buffers.

    x, y, z of x_can by their bounds. The hyper coordinates by their spread in the data, since how much of their range
    a head prior uses is its own matter (0.5 % in one that was measured). Depth by its range.
    """

    depth_middle: torch.Tensor
    depth_scale: torch.Tensor
    hyper_middle: torch.Tensor
    hyper_scale: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("depth_middle", torch.zeros(()))
        self.register_buffer("depth_scale", torch.ones(()))
        self.register_buffer("hyper_middle", torch.zeros(2))
        self.register_buffer("hyper_scale", torch.ones(2))

    def measure(self, depth: torch.Tensor, x_can: torch.Tensor) -> None:
        """Take the statistics of head pixels: depths (M,) in metres, x_can (M, 5)."""
        self.depth_middle.copy_((depth.min() + depth.max()) / 2)
        self.depth_scale.copy_(((depth.max() - depth.min()) / 2).clamp_min(1e-3))
        self.hyper_middle.copy_(x_can[:, 3:].mean(0))
        self.hyper_scale.copy_((2 * x_can[:, 3:].std(0)).clamp_min(LEAST_HYPER_SPREAD))

    def points(self, x_can: torch.Tensor) -> torch.Tensor:
        """Canonical coordinates (..., 5) in units."""
        # Bounds as plain numbers: a tensor of them would be copied to the GPU in every step, which waits for it.
        bounds = zip(x_can[..., :3].unbind(-1), LOWER[:3], UPPER[:3], strict=True)
        xyz = [(x - low) * (2 / (high - low)) - 1 for x, low, high in bounds]
        hyper = (x_can[..., 3:] - self.hyper_middle) / self.hyper_scale
        return torch.cat([torch.stack(xyz, -1), hyper], -1)

    def depth(self, depth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Depths (B, h, w) in units, with a meaning where the mask (B, h, w) is true.

        A head nearer or farther than training ever saw one is moved to where it did: beyond, the networks render a grid
        (neighbouring pixels differ by 2.4 levels at 0.6 m and by 10 at 2 m, trained at 1 m; by 0.4 once it is moved).
        """
        units = (depth - self.depth_middle) / self.depth_scale
        low = units.masked_fill(~mask, math.inf).amin((1, 2), keepdim=True)
        high = units.masked_fill(~mask, -math.inf).amax((1, 2), keepdim=True)
        inside = (-1 - low).clamp_min(0) + (1 - high).clamp_max(0)  # what brings it to the range that is -1 to 1
        return units + torch.where(high - low > 2, -(low + high) / 2, inside)


def condition_channels(planes: FeaturePlanes, mask_channel: bool = False) -> int:
    """Channels of `condition`'s picture: 73 with the paper's planes."""
    return GEOMETRY_CHANNELS + planes.channels + mask_channel


def looked_up(x_can: torch.Tensor, poses: torch.Tensor, units: Units, eyes: EyePose | None) -> torch.Tensor:
    """Where the planes are read of x_can (B, ..., 5) under poses of the eyes (B, 6): canonical points (B, ..., 5) in
    units, with `eyes` (B, ..., 8) on eyeballs too."""
    points = units.points(x_can)
    return points if eyes is None else torch.cat([points, eyes.coordinates(x_can, poses)], -1)


def condition(
    buffers: Buffers,
    units: Units,
    planes: FeaturePlanes,
    mask_channel: bool = False,
    eyes: EyePose | None = None,
    beyond: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ControlNet's condition (B, 9 + K F, h, w), and the pixels' features (B, h, w, K F); background zero in both.

    Channels: depth 1, canonical xyz 3, world normals 3, hyper 2, features, and the mask (0 or 1) if asked for. Planes
    that have one on the eyeballs need `eyes`. A CPU computes the head's pixels alone; a GPU computes all: how many the
    mask has is known there alone, and asking for that waits for it. With `beyond` the band beside the mesh has
    coordinates, features and, as depth, how far off the mesh it lies; normals and mask, zero there, tell which it is.
    """
    inside, spares = buffers.mask, buffers.mask.device.type == "cpu"
    depth = units.depth(buffers.depth, buffers.mask)
    if beyond:
        inside = inside | (buffers.depth < 0)
        depth = torch.where(buffers.mask, depth, -buffers.depth)

    def rows(values: torch.Tensor) -> torch.Tensor:
        return values[inside] if spares else values.flatten(0, 2)

    poses = rows(buffers.eyes[:, None, None].expand(*inside.shape, -1))
    places = looked_up(rows(buffers.x_can), poses, units, eyes)
    mask = rows(buffers.mask)[:, None].to(depth.dtype)[:, : int(mask_channel)]
    parts = [rows(depth)[:, None], places[:, :3], rows(buffers.normals), places[:, 3:5], planes(places), mask]
    values = torch.cat(parts, dim=-1)
    if spares:
        filled = values.new_zeros(*inside.shape, values.shape[-1])
        filled[inside] = values
    else:  # filled, not torch.where with a 0, which would be copied to the GPU and waited for
        filled = values.unflatten(0, inside.shape).masked_fill(~inside[..., None], 0)
    features = filled[..., GEOMETRY_CHANNELS : GEOMETRY_CHANNELS + planes.channels]
    return filled.permute(0, 3, 1, 2), features
