"""The mesh of one fitted head: level set of the prior, canonical coordinates, neck cut, placed in the world."""

import numpy as np
import torch

from pipeline.errors import DataError
from pipeline.head.model.prior import HeadPrior
from pipeline.mesh.cut import Plane, clip, compact, largest_piece
from pipeline.mesh.mesh import Mesh
from pipeline.mesh.sparse import extract

# Head units: at the height of the cut only a chin lies so far in front, necks lie behind (tests/test_mesh.py)
CHIN = 0.2
RIM = 1e-4  # head units: nearer to the cut is on it


@torch.inference_mode()
def mesh_head(
    prior: HeadPrior,
    z_id: torch.Tensor,
    z_exp: torch.Tensor,
    head_from_world: np.ndarray,
    voxel_mm: float,
    neck: Plane,
) -> Mesh:
    """Mesh one time step.

    `z_id` (D,) and `z_exp` (E,) float32, on the prior's device, where the field is evaluated; `head_from_world` (4, 4)
    similarity. Raises DataError when the codes have no surface above the neck.
    """
    box = prior.config.box_min, prior.config.box_max
    voxel = voxel_mm * 1e-3 * prior.config.units_per_metre
    vertices, faces = extract(prior.field(z_id, z_exp), *box, voxel, z_id.device)
    x_can = prior.warp(torch.from_numpy(vertices).to(z_id.device), z_id, z_exp).cpu().numpy()
    height = neck.height(x_can)
    if not (height > 0).any():
        raise DataError("the fitted codes have no surface above the neck cut; expected a head")
    attributes, faces = clip(np.concatenate([vertices, x_can], -1), faces, height)
    attributes, faces = compact(attributes, largest_piece(faces, len(attributes)))
    world_from_head = np.linalg.inv(head_from_world)
    world = attributes[:, :3] @ world_from_head[:3, :3].T + world_from_head[:3, 3]
    return Mesh(world.astype(np.float32), attributes[:, 3:], faces)


def cut_through_chin(mesh: Mesh, neck: Plane) -> bool:
    """Whether the rim that the cut at `neck` left runs over the chin."""
    rim = np.abs(neck.height(mesh.x_can)) < RIM
    return bool((mesh.x_can[rim, 2] > CHIN).any())
