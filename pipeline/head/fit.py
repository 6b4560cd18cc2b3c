"""Fitting the head prior to clouds: one identity on key frames, then expression and pose through a sequence."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.capture.cameras import Rig
from pipeline.errors import DataError
from pipeline.head import pose
from pipeline.head.alignment import first_pose
from pipeline.head.clouds import Clouds
from pipeline.head.prior import HeadPrior
from pipeline.head.residuals import Heads, Linearised, Samples, draw, join, linearise
from pipeline.head.solver import Free, Point, Schedule, levenberg, normal_equations, smooth_step


@dataclass(frozen=True)
class KeyFrame:
    """One time step of one sequence with its cloud: `points`, `normals` (N, 3), world metres."""

    sequence: str
    step: int
    points: np.ndarray
    normals: np.ndarray


def key_frames(sequences: list[Clouds], count: int) -> list[KeyFrame]:
    """`count` time steps spread evenly over all sequences laid end to end (fewer when there are fewer steps)."""
    steps = [(clouds, step) for clouds in sequences for step in range(len(clouds))]
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(count, len(steps))).round().astype(int))
    return [KeyFrame(clouds.sequence, step, *clouds.frame(step)) for clouds, step in (steps[i] for i in chosen)]


def fit_identity(
    prior: HeadPrior, rig: Rig, frames: list[KeyFrame], schedule: Schedule, points: int, free_scale: bool, seed: int
) -> tuple[Heads, np.ndarray]:
    """The heads (one identity, a pose and an expression per key frame) and their residuals (F, points) in millimetres.

    Raises DataError naming a key frame whose cloud holds no head.
    """
    mean = np.zeros(prior.config.identity_modes)
    poses: list[np.ndarray] = []
    samples: list[Samples] = []
    for index, frame in enumerate(frames):
        try:
            poses.append(first_pose(prior, rig, mean, frame.points, frame.normals, seed + index))
            samples.append(draw(frame.points, frame.normals, poses[-1], prior, points, seed + index))
        except DataError as error:
            raise DataError(f"step {frame.step} of {frame.sequence}: {error}") from error
    heads = Heads(mean, np.zeros((len(frames), prior.config.expression_modes)), np.stack(poses))
    heads, linear = levenberg(prior, heads, join(samples), schedule, Free(identity=True, scale=free_scale))
    return heads, millimetres(heads, linear)


def millimetres(heads: Heads, linear: Linearised) -> np.ndarray:
    """Unsigned distances (F, P) in millimetres."""
    return np.abs(linear.residual) * 1e3 / pose.scale_of(heads.head_from_world)[:, None]


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
    prior: HeadPrior,
    identity: np.ndarray,
    rig: Rig,
    clouds: Clouds,
    schedule: Schedule,
    smoothness: Smoothness,
    points: int,
    seed: int,
) -> tuple[Heads, np.ndarray]:
    """Heads of every time step of one sequence and the median point-to-surface distance (T,) in millimetres.

    `identity` (I,) weights. Each frame starts from the one before; then joint steps over all frames make the track
    smooth. Raises DataError naming a step whose cloud holds no head.
    """
    tracked: list[Heads] = []
    samples: list[Samples] = []
    expression = np.zeros((1, prior.config.expression_modes))
    for step in range(len(clouds)):
        cloud = clouds.frame(step)
        try:
            if step == 0:
                heads = Heads(identity, expression, first_pose(prior, rig, identity, *cloud, seed)[None])
            samples.append(draw(*cloud, heads.head_from_world[0], prior, points, seed + step))
        except DataError as error:
            raise DataError(f"step {step} of {clouds.sequence}: {error}") from error
        widest = schedule if step else replace(schedule, widest=4 * schedule.widest, steps=2 * schedule.steps)
        heads, _ = levenberg(prior, heads, samples[-1], widest, Free())
        tracked.append(heads)
    whole = Heads(
        identity,
        np.concatenate([heads.expression for heads in tracked]),
        np.concatenate([heads.head_from_world for heads in tracked]),
    )
    return smooth(prior, whole, samples, schedule, smoothness)


def smooth(
    prior: HeadPrior, heads: Heads, samples: list[Samples], schedule: Schedule, smoothness: Smoothness
) -> tuple[Heads, np.ndarray]:
    """Joint Gauss-Newton steps over a sequence under second differences; heads and median distances (T,) in mm."""
    scale = float(pose.scale_of(heads.head_from_world)[0])
    width = np.array([schedule.narrowest * scale / 1e3])
    stiffness = smoothness.stiffness(heads.expression.shape[1], scale)
    for _ in range(smoothness.sweeps):
        blocks = [
            normal_equations(
                Point(heads.frames([t]), linearise(prior, heads.frames([t]), samples[t], False)),
                width,
                schedule.worth,
                Free(),
            )
            for t in range(len(samples))
        ]
        matrix, right = (np.concatenate([block[i] for block in blocks]) for i in range(2))
        heads = heads.moved(smooth_step(matrix, right, heads, stiffness), None)
    medians = [
        np.median(millimetres(heads.frames([t]), linearise(prior, heads.frames([t]), samples[t], False)))
        for t in range(len(samples))
    ]
    return heads, np.array(medians)
