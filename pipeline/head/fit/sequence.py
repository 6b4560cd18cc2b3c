"""Fitting the head prior through a sequence: windows of frames one after another, then all of them smooth in time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from pipeline.head.fit.blink import shut_lids, usual_slopes
from pipeline.head.fit.clouds import Clouds
from pipeline.head.fit.fitter import Fitter, Tracked, face_median_mm, fit_beside, together
from pipeline.head.fit.least_squares.residuals import Heads, Samples, join, linearise
from pipeline.head.fit.least_squares.solver import Free, Point, normal_equations, smooth_step
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior
from pipeline.workers import Map

# A joint step that makes a frame so many times as dear has overshot there, as it does where lids touch: the frame stays
DEARER = 1.1
BESIDE = {"cpu": 1, "cuda": 16}  # windows at a time, and frames of a joint step: as many keep a GPU busy


@dataclass(frozen=True)
class Smoothness:
    """Standard deviations of second differences between time steps: expression weights, rotation (degrees),
    translation (millimetres); `sweeps` joint steps over the whole sequence."""

    expression: float
    degrees: float
    millimetres: float
    sweeps: int

    def stiffness(self, modes: int, scale: float) -> np.ndarray:
        """(6 + J,) weights of squared second differences."""
        deviation = np.concatenate(
            [
                np.full(3, np.radians(self.degrees)),
                np.full(3, self.millimetres * scale / 1e3),
                np.full(modes, self.expression),
            ]
        )
        return 1 / deviation**2


def fit_sequence(
    fitter: Fitter,
    identity: np.ndarray,
    clouds: Clouds,
    window: int,
    smoothness: Smoothness,
    run: Map,
    beside: int = BESIDE["cpu"],
) -> tuple[Heads, np.ndarray]:
    """Heads of every time step of one sequence and the median distance (T,) of their faces in millimetres.

    `identity` (I,) weights. Windows of `window` steps are tracked independently, `beside` of them at a time as one
    batch, and `run` maps these groups; then joint steps over all frames make the track smooth across windows too.
    Raises DataError naming a step whose cloud holds no head.
    """
    edges = [*range(0, len(clouds), window), len(clouds)]
    windows = [range(*edge) for edge in pairwise(edges)]
    groups = [windows[i : i + beside] for i in range(0, len(windows), beside)]
    tracked = [part for group in run(partial(_follow_windows, fitter, identity, clouds), groups) for part in group]
    samples = [join([one.samples for one in part]) for part in tracked]
    heads = together([one.heads for part in tracked for one in part])
    scale = float(pose.scale_of(heads.head_from_world)[0])
    stiffness = smoothness.stiffness(heads.expression.shape[1], scale)

    def parts(heads: Heads) -> list[tuple[Heads, Samples]]:
        return [(heads.frames(slice(w.start, w.stop)), part) for w, part in zip(windows, samples, strict=True)]

    def cost(heads: Heads) -> np.ndarray:
        return np.concatenate(list(run(partial(energies, fitter, beside), parts(heads))))

    energy = cost(heads)

    for _ in range(smoothness.sweeps):
        blocks = zip(*run(partial(equations, fitter, beside), parts(heads)), strict=True)
        moved = heads.moved(smooth_step(*(np.concatenate(block) for block in blocks), heads, stiffness), None)
        after = cost(moved)
        worse = after > DEARER * energy
        heads, energy = heads.instead(moved, ~worse), np.where(worse, energy, after)
    heads = replace(heads, expression=np.concatenate(list(run(partial(_with_lids, fitter), parts(heads)))))
    return heads, np.concatenate(list(run(partial(_medians, fitter.prior, beside), parts(heads))))


def _follow_windows(
    fitter: Fitter, identity: np.ndarray, clouds: Clouds, windows: Sequence[range]
) -> list[list[Tracked]]:
    """The frames of windows of which none is longer than the first, side by side: the first of all, the second, ..."""
    tracked: list[list[Tracked]] = [[] for _ in windows]
    for place in range(len(windows[0])):
        going = [(window, done) for window, done in zip(windows, tracked, strict=True) if place < len(window)]
        frames = [clouds.frame(window[place]) for window, _ in going]
        found = fit_beside(fitter, identity, frames, [done[-1].heads if done else None for _, done in going])
        for (_, done), one in zip(going, found, strict=True):
            done.append(one)
    return tracked


def _batches(heads: Heads, samples: Samples, size: int) -> Iterator[tuple[Heads, Samples]]:
    """So many frames at a time: the derivatives of one take megabytes."""
    for start in range(0, len(samples.points), size):
        part = slice(start, start + size)
        yield heads.frames(part), samples.frames(part)


def _point(fitter: Fitter, heads: Heads, samples: Samples) -> tuple[Point, np.ndarray]:
    """Frames' residuals and the narrowest robust width (F,)."""
    width = fitter.schedule.narrowest * pose.scale_of(heads.head_from_world) / 1e3
    return Point(heads, linearise(fitter.prior, heads, samples, False)), width


def energies(fitter: Fitter, size: int, part: tuple[Heads, Samples]) -> np.ndarray:
    """Energies (T,) of a window's frames at the narrowest robust width."""
    found = (_point(fitter, heads, samples) for heads, samples in _batches(*part, size))
    return np.concatenate([point.energy(width, fitter.schedule) for point, width in found])


def equations(fitter: Fitter, size: int, part: tuple[Heads, Samples]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton matrices (T, n, n) and right sides (T, n) of a window's frames at the narrowest robust width."""
    found = (_point(fitter, heads, samples) for heads, samples in _batches(*part, size))
    blocks = [normal_equations(point, width, fitter.schedule, Free())[:2] for point, width in found]
    matrix, right = zip(*blocks, strict=True)
    return np.concatenate(matrix), np.concatenate(right)


def _with_lids(fitter: Fitter, part: tuple[Heads, Samples]) -> np.ndarray:
    """Expressions (T, J) of a window's frames after the steps that put the lids where they were seen."""
    if not np.isfinite(part[1].gaps).any():
        return part[0].expression
    usual = usual_slopes(fitter.prior, part[0].identity, part[0].head_from_world)
    found = (shut_lids(fitter.prior, *frame, fitter.schedule, usual) for frame in _batches(*part, 1))
    return np.concatenate([heads.expression for heads in found])


def _medians(prior: HeadPrior, size: int, part: tuple[Heads, Samples]) -> np.ndarray:
    """Median distances (T,) of the faces of a window's frames in millimetres."""
    found = [
        face_median_mm(heads, samples, linearise(prior, heads, samples, False))
        for heads, samples in _batches(*part, size)
    ]
    return np.concatenate(found)
