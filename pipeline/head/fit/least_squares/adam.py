"""The reference that the Levenberg-Marquardt fit is measured against: the same energy descended with Adam."""

import numpy as np
import torch

from pipeline.head.fit.least_squares.residuals import Heads, Samples, canonical_landmarks, in_box, linearise
from pipeline.head.fit.least_squares.solver import Point, Schedule
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior


def adam(prior: HeadPrior, heads: Heads, samples: Samples, schedule: Schedule, steps: int, rate: float) -> Heads:
    """Heads of a held identity after `steps` Adam steps on expression and pose.

    The robust width shrinks geometrically over the first half; the learning rate is `rate` for expression weights and a
    tenth of it for the pose, and falls along a cosine. How far normals agree is looked up anew every tenth step.
    """
    units_per_mm = float(pose.scale_of(heads.head_from_world)[0]) / 1e3
    like = prior.identity.mean
    z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=like.dtype))
    expression = torch.tensor(heads.expression, dtype=like.dtype, requires_grad=True)
    motion = torch.zeros(len(heads.expression), pose.POSE, dtype=like.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [expression], "lr": rate}, {"params": [motion], "lr": rate / 10}])
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    points, count = samples.points.shape[1], samples.landmarks.shape[1]
    asked = np.concatenate([samples.points, np.nan_to_num(samples.landmarks)], 1)
    start = torch.as_tensor(pose.apply(heads.head_from_world, asked), dtype=like.dtype)
    canonical = canonical_landmarks(prior, heads.identity)[0] if count else np.zeros((0, 3))
    canonical = torch.as_tensor(canonical, dtype=like.dtype)
    shrink = (schedule.narrowest / schedule.widest) ** (2 / steps)
    for step in range(steps):
        width = max(schedule.narrowest, schedule.widest * shrink**step) * units_per_mm
        if step % 10 == 0:
            now = _heads(heads, expression, motion)
            linear = linearise(prior, now, samples, False)
            agreement = torch.as_tensor(linear.agreement, dtype=like.dtype)
            known = torch.as_tensor(in_box(prior, pose.apply(now.head_from_world, samples.points)))
        x = start @ torch.linalg.matrix_exp(_cross(motion[:, :3])).mT + motion[:, None, 3:]
        code = prior.z_exp_from(expression)
        x_can = prior.warp(x, z_id, code)
        distance = prior.sdf(x_can[:, :points], z_id)
        free = (known * distance.clamp(max=0))[:, linear.surface :]
        off = (x_can[:, points:, :3] - canonical).mT.flatten(1)
        least = prior.config.least_code
        below = code[:, :0] if least is None else (code - least).clamp(max=0)
        residual = torch.cat([distance[:, : linear.surface], free, off, below], 1)
        widths, scale = Point(now, linear).rows(np.full(len(residual), width), schedule)
        cost = agreement * residual**2 / (1 + (residual / torch.as_tensor(widths)) ** 2)
        loss = (torch.as_tensor(scale) * cost).sum() + expression.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
    return _heads(heads, expression, motion)


def _heads(start: Heads, expression: torch.Tensor, motion: torch.Tensor) -> Heads:
    moved = pose.moved(start.head_from_world, motion.detach().double().numpy())
    return Heads(start.identity, expression.detach().double().numpy(), moved)


def _cross(rotation: torch.Tensor) -> torch.Tensor:
    """Skew matrices (F, 3, 3) of rotation vectors (F, 3)."""
    x, y, z = rotation.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
