"""The deformation the other way round: where points of the canonical head go under an expression."""

import torch
from torch import Tensor

from pipeline.head.model.prior import HeadPrior

STEPS = 12
LONGEST = 0.04  # head units (1 cm) that a step may go: the deformation is steep beside closed lips
DIFFERENCE = 1e-3  # head units, of the first Jacobian
DONE = 2e-5  # head units, 5 micrometres


@torch.no_grad()
def unwarp(prior: HeadPrior, x_can: Tensor, z_id: Tensor, z_exp: Tensor, start: Tensor | None = None) -> Tensor:
    """Posed points (P, 3) whose canonical place is x_can (P, 3), for one z_id (D,) and z_exp (E,).

    Newton's method with Broyden's updates of each point's own Jacobian, from `start` (P, 3) or x_can itself. The
    deformation is trained near the surface; a point that comes to no rest stays at the best place that it has seen.
    """
    best = (x_can if start is None else start).clone()

    def error(points: Tensor, rows: Tensor) -> Tensor:
        return prior.warp(points, z_id, z_exp)[:, :3] - x_can[rows]

    rows = torch.arange(len(best), device=best.device)  # of the points that still move
    x, found = best.clone(), error(best, rows)
    least = found.norm(dim=-1)
    unit = torch.eye(3, dtype=x.dtype, device=x.device)
    jacobian = unit.expand(len(x), 3, 3)
    for step in range(STEPS):
        moving = least[rows] > DONE
        rows, x, found, jacobian = rows[moving], x[moving], found[moving], jacobian[moving]
        if not len(rows):
            break
        if step == 0:
            jacobian = torch.stack([(error(x + DIFFERENCE * axis, rows) - found) / DIFFERENCE for axis in unit], -1)
        move = -torch.linalg.solve(jacobian + 1e-4 * unit, found[..., None])[..., 0]
        move = move * (LONGEST / move.norm(dim=-1, keepdim=True).clamp_min(LONGEST))
        now = error(x + move, rows)
        missed = now - found - (jacobian @ move[..., None])[..., 0]
        length = move.square().sum(-1).clamp_min(1e-12)
        jacobian = jacobian + missed[..., None] * move[..., None, :] / length[:, None, None]
        better = now.norm(dim=-1) < least[rows]
        x, found = torch.where(better[:, None], x + move, x), torch.where(better[:, None], now, found)
        best[rows], least[rows] = x, found.norm(dim=-1)
    return best
