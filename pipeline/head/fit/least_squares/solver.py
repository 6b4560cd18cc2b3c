"""Robust Levenberg-Marquardt over heads: frames apart, frames with one shared identity, frames smooth in time."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.linalg import solveh_banded

from pipeline.errors import DataError
from pipeline.head.fit.least_squares.residuals import Heads, Linearised, Samples, linearise
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior


@dataclass(frozen=True)
class Schedule:
    """How the robust width shrinks: from `widest` to `narrowest` (mm) by `shrink` a step; `steps` in all. (To narrow it
    faster where most residuals are small loses a wide open mouth: the rest of the face fits long before the lips do.)

    `worth` is the effective number of independent points per frame, against the standard normal prior of the codes;
    each has a standard deviation of width / WIDTH_IN_DEVIATIONS. Each coordinate of a landmark is one measurement more,
    with that standard deviation or `landmark_mm`, whichever is larger; so is each gap between lids, with `lid_mm` and a
    kernel that is always LID_WIDTH wide, because in a blink lids move as far as they can. Codes beyond what the prior
    knows are penalised with the standard deviation CODE, without a kernel.
    """

    WIDTH_IN_DEVIATIONS: ClassVar[float] = 2.5
    CODE: ClassVar[float] = 0.02  # of the unit in which an expression is full
    CODE_WIDTH: ClassVar[float] = 1e3
    LID_WIDTH: ClassVar[float] = 15.0  # millimetres
    widest: float
    narrowest: float
    steps: int
    worth: float
    shrink: float = 0.6
    landmark_mm: float = 3.0
    lid_mm: float = 0.5


@dataclass(frozen=True)
class Free:
    """What may move beside the pose."""

    expression: bool = True
    identity: bool = False


def millimetres(heads: Heads, linear: Linearised) -> np.ndarray:
    """Unsigned distances (F, P) of the surface points in millimetres."""
    return np.abs(linear.distance) * 1e3 / pose.scale_of(heads.head_from_world)[:, None]


def kernel_weight(residual: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Geman-McClure: the weight of a squared residual in the next least squares problem, in (0, 1].

    residual and width have one unit and shapes that broadcast, as in `kernel`.
    """
    return 1 / (1 + (residual / width) ** 2) ** 2


def kernel(residual: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Geman-McClure: what a residual costs, its square for small ones and at most width^2."""
    return residual**2 / (1 + (residual / width) ** 2)


EXPECTED = "; expected clouds of a head with finite points, and a prior with finite weights"


@dataclass(frozen=True)
class Point:
    """Heads with their residuals; width (F,) in head units is the robust width of each frame."""

    heads: Heads
    linear: Linearised

    def rows(self, width: np.ndarray, schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
        """Robust widths (F, S) of all rows, and factors (F, S) that turn their squared head units into negative log
        likelihood (times two)."""
        frames, rows = self.linear.residual.shape
        points, lids, deviations = self.linear.points, rows - self.linear.gaps, Schedule.WIDTH_IN_DEVIATIONS
        codes = slice(lids - self.linear.codes, lids)
        per_mm = pose.scale_of(self.heads.head_from_world) / 1e3
        widths = np.repeat(width[:, None], rows, 1)
        widths[:, points:lids] = np.maximum(width, deviations * schedule.landmark_mm * per_mm)[:, None]
        widths[:, lids:] = Schedule.LID_WIDTH * per_mm[:, None]
        widths[:, codes] = Schedule.CODE_WIDTH
        deviation = widths / deviations
        deviation[:, lids:] = schedule.lid_mm * per_mm[:, None]
        deviation[:, codes] = Schedule.CODE
        scale = np.ones((frames, rows))
        scale[:, :points] = schedule.worth / self.linear.surface
        return widths, scale / deviation**2

    def energy(self, width: np.ndarray, schedule: Schedule) -> np.ndarray:
        """(F,) robust data term and expression prior; the weights of points come from `self`'s own normals.

        A point without agreement costs the kernel's maximum, so that turning normals away is never a gain.
        """
        widths, scale = self.rows(width, schedule)
        agree = self.linear.agreement
        cost = agree * kernel(self.linear.residual, widths) + (1 - agree) * widths**2
        points = self.linear.points
        data = scale[:, 0] * cost[:, :points].sum(-1) + (scale * cost)[:, points:].sum(-1)
        return data + (self.heads.expression**2).sum(-1)


def normal_equations(
    point: Point, width: np.ndarray, schedule: Schedule, free: Free
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Gauss-Newton blocks: frame matrices (F, n, n) and right sides (F, n), and for a shared identity the couplings
    (F, n, m), the shared matrix (m, m) and its right side (m,); n = 6 + J, m = I. Priors included."""
    linear, heads = point.linear, point.heads
    widths, scale = point.rows(width, schedule)
    weight = linear.agreement * kernel_weight(linear.residual, widths) * scale
    weighted = linear.frame * weight[..., None]
    matrix = np.swapaxes(weighted, -1, -2) @ linear.frame
    right = -np.einsum("fpn,fp->fn", weighted, linear.residual)
    diagonal = np.arange(pose.POSE, matrix.shape[-1])
    matrix[:, diagonal, diagonal] += 1
    right[:, pose.POSE :] -= heads.expression
    if not free.expression:
        _hold(matrix, right, diagonal)
    by_identity = linear.shared if free.identity else None
    if by_identity is None:
        return matrix, right, None, None, None
    coupling = np.swapaxes(weighted, -1, -2) @ by_identity
    if not free.expression:
        coupling[:, diagonal] = 0
    shared_weighted = by_identity * weight[..., None]
    shared = np.einsum("fpm,fpk->mk", shared_weighted, by_identity, optimize=True)
    shared_right = -np.einsum("fpm,fp->m", shared_weighted, linear.residual)
    shared[np.diag_indices_from(shared)] += 1
    shared_right -= heads.identity
    return matrix, right, coupling, shared, shared_right


def _hold(matrix: np.ndarray, right: np.ndarray, columns: np.ndarray) -> None:
    """Make the unknowns `columns` stay where they are."""
    matrix[:, columns] = 0
    matrix[:, :, columns] = 0
    matrix[:, columns, columns] = 1
    right[:, columns] = 0


def _damped(matrix: np.ndarray, damping: np.ndarray) -> np.ndarray:
    diagonal = np.arange(matrix.shape[-1])
    result = matrix.copy()
    result[..., diagonal, diagonal] *= 1 + damping[..., None]
    return result


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError as error:
        raise DataError(f"the equations of a pose have no solution ({error}){EXPECTED}") from error


def solve_step(blocks: tuple, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Steps (F, n) of the frames and (m,) of what they share: the shared block by Schur's complement."""
    matrix, right, coupling, shared, shared_right = blocks
    matrix = _damped(matrix, damping)
    if coupling is None:
        return _solved(matrix, right[..., None])[..., 0], None
    inverse = _solved(matrix, np.concatenate([coupling, right[..., None]], -1))
    reduced = _damped(shared, damping[0]) - np.einsum("fnm,fnk->mk", coupling, inverse[..., :-1], optimize=True)
    shared_step = _solved(reduced, shared_right - np.einsum("fnm,fn->m", coupling, inverse[..., -1]))
    return inverse[..., -1] - inverse[..., :-1] @ shared_step, shared_step


def levenberg(
    prior: HeadPrior, heads: Heads, samples: Samples, schedule: Schedule, free: Free
) -> tuple[Heads, Linearised]:
    """The best heads found and their residuals (linearised without the shared part where the identity is held).

    Frames of a held identity are independent: each has its own damping and keeps its own best. A shared identity moves
    all frames together.
    """
    together = free.identity
    units_per_mm = float(pose.scale_of(heads.head_from_world)[0]) / 1e3
    width = np.full(len(heads.expression), schedule.widest * units_per_mm)
    damping = np.full(len(width), 1e-3)
    best = Point(heads, linearise(prior, heads, samples, together))
    for _ in range(schedule.steps):
        blocks = normal_equations(best, width, schedule, free)
        step = solve_step(blocks, damping)
        moved = best.heads.moved(*step)
        tried = Point(moved, linearise(prior, moved, samples, together))
        before, after = best.energy(width, schedule), tried.energy(width, schedule)
        if together:
            before = np.full_like(before, before.sum() + (best.heads.identity**2).sum())
            after = np.full_like(after, after.sum() + (tried.heads.identity**2).sum())
        better = after < before
        damping = np.where(better, damping / 3, damping * 8)
        best = _chosen(tried, best, better, together)
        width = np.maximum(width * schedule.shrink, schedule.narrowest * units_per_mm)
    return best.heads, best.linear


def _chosen(tried: Point, best: Point, better: np.ndarray, together: bool) -> Point:
    """Frame by frame the tried point where it is better."""
    if better.all():
        return tried
    if together or not better.any():
        return best

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    heads = Heads(
        best.heads.identity,
        pick(tried.heads.expression, best.heads.expression),
        pick(tried.heads.head_from_world, best.heads.head_from_world),
    )
    names = ("residual", "agreement", "frame")
    linear = {name: pick(getattr(tried.linear, name), getattr(best.linear, name)) for name in names}
    return Point(heads, replace(best.linear, **linear))


def smooth_step(matrix: np.ndarray, right: np.ndarray, heads: Heads, stiffness: np.ndarray) -> np.ndarray:
    """Steps (T, n) of all frames of a sequence at once under a penalty of second differences in time.

    `matrix` (T, n, n) and `right` (T, n) are the frames' own equations; `stiffness` (n,) weighs the squared second
    difference of each unknown. Between neighbours motions are small (a few degrees), so that differences of poses are
    taken as linear in the motions. Block pentadiagonal, hence linear in T.
    """
    frames, n = right.shape
    second = np.zeros((max(frames - 2, 0), frames))
    rows = np.arange(len(second))
    for offset, value in enumerate((1, -2, 1)):
        second[rows, rows + offset] = value
    gram = second.T @ second
    turn = np.concatenate(
        [np.zeros((1, pose.POSE)), pose.motion_between(heads.head_from_world[:-1], heads.head_from_world[1:])]
    )
    track = np.concatenate([np.cumsum(turn, 0), heads.expression], -1)
    right = right - (gram @ track) * stiffness
    banded = np.zeros((2 * n + 1, frames * n))
    for row in range(n):
        for column in range(row + 1):
            banded[row - column, np.arange(frames) * n + column] = matrix[:, row, column]
    for offset in range(min(3, frames)):
        values = np.diagonal(gram, -offset)[:, None] * stiffness
        banded[offset * n, : values.size] += values.reshape(-1)
    try:
        return solveh_banded(banded, right.reshape(-1), lower=True).reshape(frames, n)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise DataError(f"the equations of the whole sequence have no solution ({error}){EXPECTED}") from error
