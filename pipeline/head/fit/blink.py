"""The last steps of a fit: lids are put where they were seen, at the least cost to everything else.

Clouds say little of lids, space is folded between shut ones, and joint steps over a sequence overshoot there. So each
time step ends with steps of its own, in its expression alone, that know the rest of the face as a quadratic: many of
them cost less than one step of the whole fit.
"""

from dataclasses import replace

import numpy as np
import torch

from pipeline.head.fit.residuals import Heads, Linearised, Samples, gap_rows, linearise
from pipeline.head.fit.solver import Free, Point, Schedule, normal_equations
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior
from pipeline.head.model.regions import region

STEPS = 12
EVERY = 4  # so many of the points on the surface say how stiff a face is
NEAR_MM = 0.1  # gaps that all lie so near to what was seen need no further step


def shut_lids(prior: HeadPrior, heads: Heads, samples: Samples, schedule: Schedule) -> Heads:
    """Heads of one frame (F = 1) with the gaps between lids as they were seen, by Levenberg-Marquardt steps.

    Minimises the squared gaps' residuals over `lid_mm`, plus what a change of the expression costs the other residuals
    and the expression's own prior, in second order; points round the eyes say where lids are now, and are left out.
    """
    if not np.isfinite(samples.gaps).any():
        return heads
    stiff = _stiffness(prior, heads, replace(samples, gaps=samples.gaps[:, :0]), schedule)
    per_mm = float(pose.scale_of(heads.head_from_world)[0]) / 1e3
    start, damping = heads.expression[0], 1e-3
    residual, slope = _gaps(prior, heads, samples, schedule.lid_mm * per_mm)
    energy = float(residual @ residual)
    for _ in range(STEPS):
        if np.abs(residual).max() * schedule.lid_mm < NEAR_MM:
            break
        away = heads.expression[0] - start
        matrix = slope.T @ slope + stiff
        matrix = matrix + damping * np.diag(np.diag(matrix))
        step = -np.linalg.solve(matrix, slope.T @ residual + stiff @ away)
        tried = replace(heads, expression=heads.expression + step)
        tried_residual, tried_slope = _gaps(prior, tried, samples, schedule.lid_mm * per_mm)
        moved = tried.expression[0] - start
        after = float(tried_residual @ tried_residual + moved @ stiff @ moved)
        if after < energy:
            heads, residual, slope, energy, damping = tried, tried_residual, tried_slope, after, damping / 3
        else:
            damping *= 8
    return heads


def _gaps(prior: HeadPrior, heads: Heads, samples: Samples, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (4,) of the gaps in standard deviations (head units) and their derivatives (4, J) by the expression."""
    residual, _, frame, _ = gap_rows(prior, heads, samples.gaps, False)
    return residual[0] / deviation, frame[0, :, pose.POSE :] / deviation


def _stiffness(prior: HeadPrior, heads: Heads, samples: Samples, schedule: Schedule) -> np.ndarray:
    """(J, J): what everything but the lids holds against a change of the expression; the pose may give way."""
    surface = samples.normals.shape[1]
    samples = replace(samples, points=samples.points[:, :surface:EVERY], normals=samples.normals[:, ::EVERY])
    linear = linearise(prior, heads, samples, False)
    width = np.array([schedule.narrowest * float(pose.scale_of(heads.head_from_world)[0]) / 1e3])
    point = Point(heads, _without_eyes(heads, samples, linear))
    matrix = normal_equations(point, width, schedule, Free())[0][0]
    poses, coupling = matrix[: pose.POSE, : pose.POSE], matrix[: pose.POSE, pose.POSE :]
    return matrix[pose.POSE :, pose.POSE :] - coupling.T @ np.linalg.solve(poses, coupling)


def _without_eyes(heads: Heads, samples: Samples, linear: Linearised) -> Linearised:
    x = torch.from_numpy(pose.apply(heads.head_from_world, samples.points))
    agreement = linear.agreement.copy()
    agreement[:, : linear.points] *= ~region(x, "eyes").numpy()
    return replace(linear, agreement=agreement)
