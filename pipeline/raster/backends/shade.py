"""What nvdiffrast saw of a mesh, made into pictures where it lies: all cameras at once, nothing goes to the host."""

import torch

from pipeline.raster.fragments import BACKGROUND


def shade(
    raster: torch.Tensor, in_camera: torch.Tensor, faces: torch.Tensor, attributes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures of C cameras: triangle (C, h, w) int32, barycentric (C, h, w, 3), depth (C, h, w), values (C, h, w, K).

    `raster` (C, h, w, 4) float32 is nvdiffrast's: weights of a triangle's first two corners, depth in clip space, and
    the triangle's row in `faces` (F, 3) plus one, 0 for the background. `in_camera` (C, V, 3) metres, `attributes`
    (V, K). As `fragments.resolve` and `interpolate`: where a ray first meets the inside of a surface, background.
    """
    triangle = raster[..., 3].long() - 1
    hit = triangle >= 0
    corner = faces.long()[triangle.clamp_min(0)]  # (C, h, w, 3)
    camera = torch.arange(len(raster), device=raster.device)[:, None, None, None]
    corners = in_camera[camera, corner]  # (C, h, w, 3 corners, 3)
    one, two = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    outward = (torch.linalg.cross(one, two) * corners[..., 0, :]).sum(-1) < 0  # the camera stands at the origin
    hit = hit & outward
    first, second = raster[..., 0], raster[..., 1]
    weights = torch.stack([first, second, 1 - first - second], -1) * hit[..., None]
    depth = (weights * corners[..., 2]).sum(-1)
    first, second, third = (weights[..., k, None] * attributes[corner[..., k]] for k in range(3))
    values = first + second + third
    return torch.where(hit, triangle, BACKGROUND).int(), weights, depth, values
