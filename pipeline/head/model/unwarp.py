"""The deformation the other way round: where points of the canonical head go under an expression."""

import torch
from torch import Tensor

from pipeline.head.model.prior import HeadPrior

STEPS = 12
LONGEST = 0.04  # head units (1 cm) that a step may go: the deformation is steep beside closed lips
DONE = 2e-5  # head units, 5 micrometres


@torch.no_grad()
def unwarp(prior: HeadPrior, x_can: Tensor, z_id: Tensor, z_exp: Tensor, start: Tensor | None = None) -> Tensor:
    """Posed points (P, 3) whose canonical place is x_can (P, 3), for one z_id (D,) and z_exp (E,).

    Newton's method with Broyden's updates of each point's own Jacobian, from `start` (P, 3) or x_can itself. The
    deformation is trained near the surface; a point that comes to no rest stays at the best place that it has seen.
    """
    x = (x_can if start is None else start).clone()

    def error(points: Tensor) -> Tensor:
        return prior.warp(points, z_id, z_exp)[:, :3] - x_can

    found = error(x)
    step = 1e-3 * torch.eye(3, dtype=x.dtype, device=x.device)
    jacobian = torch.stack([(error(x + axis) - found) / 1e-3 for axis in step], -1)  # (P, 3, 3)
    best, least = x.clone(), found.norm(dim=-1)
    for _ in range(STEPS):
        if least.max() < DONE:
            break
        move = -torch.linalg.solve(jacobian + 1e-4 * torch.eye(3, device=x.device), found[..., None])[..., 0]
        length = move.norm(dim=-1, keepdim=True)
        move = move * (LONGEST / length.clamp_min(LONGEST))
        x = x + move
        before, found = found, error(x)
        change = found - before - (jacobian @ move[..., None])[..., 0]
        jacobian = (
            jacobian + change[..., None] * move[..., None, :] / move.square().sum(-1).clamp_min(1e-12)[:, None, None]
        )
        now = found.norm(dim=-1)
        better = now < least
        best[better], least[better] = x[better], now[better]
        x = torch.where(better[:, None], x, best)
        found = torch.where(better[:, None], found, error(best) if not better.all() else found)
    return best
