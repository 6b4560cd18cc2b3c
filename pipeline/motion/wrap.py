"""One template of a head wrapped onto every expression: the same vertices and faces for all time steps."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from pipeline.head.model.prior import HeadPrior
from pipeline.head.model.unwarp import unwarp
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head

PARTS = 2  # of the way to an expression, each started from the one before: a wide open mouth is not found at once
ASTRAY_MM = 0.5  # a vertex whose canonical place is missed by more than this moves with its neighbours instead


@dataclass(frozen=True)
class Template:
    """The head at rest: `vertices` (V, 3) float32 head units, their canonical places `x_can` (V, 3), `faces` (F, 3)."""

    vertices: np.ndarray
    x_can: np.ndarray
    faces: np.ndarray


def make_template(prior: HeadPrior, z_id: torch.Tensor, rest: torch.Tensor, voxel_mm: float, neck: Plane) -> Template:
    """The surface of a head (D,) at its code at rest (E,), as finely meshed as `voxel_mm` says."""
    mesh = mesh_head(prior, z_id, rest, np.eye(4), voxel_mm, neck)
    return Template(mesh.vertices, mesh.x_can[:, :3], mesh.faces)


@torch.inference_mode()
def wrap(
    prior: HeadPrior, template: Template, z_id: torch.Tensor, rest: np.ndarray, z_exp: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the template's vertices go under a code (E,): (V, 3) float32 head units, and which went astray (V,)."""
    x_can, places = torch.from_numpy(template.x_can), torch.from_numpy(template.vertices)
    for part in range(1, PARTS + 1):
        code = torch.from_numpy((rest + part / PARTS * (z_exp - rest)).astype(np.float32))
        places = unwarp(prior, x_can, z_id, code, start=places)
    missed = (prior.warp(places, z_id, code)[:, :3] - x_can).norm(dim=-1).numpy()
    astray = missed > ASTRAY_MM * 1e-3 * prior.config.units_per_metre
    moves = places.numpy() - template.vertices
    return template.vertices + filled(moves, astray, template.faces), astray


def filled(moves: np.ndarray, astray: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Moves (V, 3) whose rows `astray` (V,) are what their neighbours on the mesh do, as a membrane would."""
    if not astray.any() or astray.all():
        return moves
    count = len(moves)
    ends = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    near = sparse.coo_matrix((np.ones(len(ends)), ends.T), (count, count)).tocsr()
    near = ((near + near.T) > 0).astype(float)
    laplacian = sparse.diags(np.asarray(near.sum(1)).ravel() + 1e-9) - near
    inner, outer = laplacian[astray][:, astray], laplacian[astray][:, ~astray]
    result = moves.copy()
    result[astray] = sparse.linalg.spsolve(inner.tocsc(), -outer @ moves[~astray]).reshape(-1, 3)
    return result
