"""The last steps of a fit: lids are put where they were seen, at the least cost to everything else.

Clouds say little of lids, space is folded between shut ones, and joint steps over a sequence overshoot there. So each
time step ends with steps of its own, in its expression alone, that know the rest of the face as a quadratic: many of
them cost less than one step of the whole fit.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from pipeline.head.fit.least_squares.residuals import Heads, Linearised, Samples, code_rows, gap_rows, linearise
from pipeline.head.fit.least_squares.solver import Free, Point, Schedule, normal_equations
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers, within_reach
from pipeline.head.model.regions import region

STEPS = 12
EVERY = 4  # so many of the points on the surface say how stiff a face is
DAMPING = 0.1  # at first: full steps leap out of the valley of half shut lids to where lids do not move at all
OFF_MM = 1.0  # rms: lids that end farther off are sought once more
NEAR_MM = 0.1  # gaps that all lie so near to what was seen need no further step
DRAWN = 24  # random expressions that say how lids move
FAR = (0.5, 1.0, 2.0)  # shares of the step that they advise which are tried


class Lids(NamedTuple):
    """Heads, what their lids cost, and the residuals (R,) and derivatives (R, J) of `_lids`."""

    energy: float
    heads: Heads
    residual: np.ndarray
    slope: np.ndarray


def usual_slopes(prior: HeadPrior, identity: np.ndarray, head_from_world: np.ndarray) -> np.ndarray:
    """How the gaps (4, J) of heads with identity weights (I,) change with the expression, on average, head units.

    Where a network's answer does not change at all, as the shipped prior's lids near rest, its own derivatives show no
    way to shut an eye; those at other expressions do.
    """
    drawn = np.random.default_rng(0).normal(size=(DRAWN, prior.config.expression_modes))
    heads = Heads(identity, _within(prior, drawn), np.repeat(head_from_world[:1], DRAWN, 0))
    return gap_rows(prior, heads, np.zeros((DRAWN, 4)), False)[2][..., pose.POSE :].mean(0)


def _within(prior: HeadPrior, expression: np.ndarray) -> np.ndarray:
    """Expressions (F, J) whose codes are no lower than what the prior knows, as near as its directions come."""
    if prior.config.least_code is None:
        return expression
    mean, basis = (numbers(part) for part in (prior.expression.mean, prior.expression.basis))
    known = within_reach(prior, mean + expression @ basis.T)
    return np.linalg.lstsq(basis, (known - mean).T, rcond=None)[0].T


def shut_lids(prior: HeadPrior, heads: Heads, samples: Samples, schedule: Schedule, usual: np.ndarray) -> Heads:
    """Heads of one frame (F = 1) with the gaps between lids as they were seen; see `move_lids`.

    A change of the expression costs what it does to the other residuals and the expression's own prior, in second
    order; points round the eyes say where lids are now, and are left out.
    """
    if not np.isfinite(samples.gaps).any():
        return heads
    stiff = _stiffness(prior, heads, replace(samples, gaps=samples.gaps[:, :0]), schedule)
    return move_lids(prior, heads, samples.gaps, stiff, schedule.lid_mm, usual)


def move_lids(
    prior: HeadPrior, heads: Heads, gaps: np.ndarray, stiff: np.ndarray, lid_mm: float, usual: np.ndarray
) -> Heads:
    """Heads of one frame (F = 1) with `gaps` (1, 4) between lids, world metres, by Levenberg-Marquardt steps.

    They begin where the energy is least along the step that the `usual` slopes (4, J) advise; where that ends too far
    off, again at several places along the step advised there: between an open eye and one half shut the energy has a
    hill. Minimises the squared gaps' residuals over `lid_mm`, plus x' stiff x, (J, J), of a change x from the nearest
    expression that the prior knows: below its codes, where lids do not move, a fit that strayed there was held (905:
    2.7 mm off in two steps, in one fit of four).
    """
    per_mm = float(pose.scale_of(heads.head_from_world)[0]) / 1e3
    start = _within(prior, heads.expression)[0]
    deviation = lid_mm * per_mm

    def looked_at(tried: Heads) -> Lids:
        residual, slope = _lids(prior, tried, gaps, deviation)
        moved = tried.expression[0] - start
        return Lids(float(residual @ residual + moved @ stiff @ moved), tried, residual, slope)

    def advised(heads: Heads) -> list[Lids]:
        off = gap_rows(prior, heads, gaps, False)[0][0] / deviation
        step = -np.linalg.solve(usual.T @ usual / deviation**2 + stiff, usual.T @ off / deviation)
        return [looked_at(replace(heads, expression=_within(prior, heads.expression + far * step))) for far in FAR]

    def descended(lids: Lids) -> Lids:
        damping = DAMPING
        for _ in range(STEPS):
            if np.abs(lids.residual).max() * lid_mm < NEAR_MM:
                break
            matrix = lids.slope.T @ lids.slope + stiff
            matrix = matrix + damping * np.diag(np.diag(matrix))
            away = lids.heads.expression[0] - start
            step = -np.linalg.solve(matrix, lids.slope.T @ lids.residual + stiff @ away)
            tried = looked_at(replace(lids.heads, expression=lids.heads.expression + step))
            better = tried.energy < lids.energy
            lids, damping = (tried, damping / 3) if better else (lids, damping * 8)
        return lids

    best = descended(min([looked_at(heads), *advised(heads)], key=lambda one: one.energy))
    if np.sqrt(np.mean(best.residual[: gaps.shape[1]] ** 2)) * lid_mm > OFF_MM:
        best = min([best, *map(descended, advised(best.heads))], key=lambda one: one.energy)
    return best.heads


def _lids(prior: HeadPrior, heads: Heads, gaps: np.ndarray, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (R,) of the gaps, and of codes that have a bound, in standard deviations (of gaps `deviation`, head
    units), and their derivatives (R, J) by the expression."""
    parts = [(gap_rows(prior, heads, gaps, False), deviation)]
    if prior.config.least_code is not None:
        parts.append((code_rows(prior, heads, False), Schedule.CODE))
    residuals = [rows[0][0] / unit for rows, unit in parts]
    return np.concatenate(residuals), np.concatenate([rows[2][0, :, pose.POSE :] / unit for rows, unit in parts])


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
    agreement[:, agreement.shape[1] - linear.codes :] = 0  # these are linearised anew in every step
    return replace(linear, agreement=agreement)
