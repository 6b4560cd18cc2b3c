"""The time steps of a sequence: clouds, the silhouettes they were made from, and landmarks where there are any."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.cli import log
from pipeline.errors import DataError
from pipeline.head.model.prior import HeadPrior
from pipeline.settings.prior_config import WITHOUT_LANDMARKS
from pipeline.store.chunk import read_arrays, read_attributes
from pipeline.store.reel import Reel

LEAST_POINTS = 150  # of a cloud; those of the captures here have 10,000 and more
MOST_THIN = 0.5  # share of a sequence's clouds
Landmarks = dict[str, np.ndarray]  # (T, L, 3) float64, world metres, NaN where unknown, of sequences by name


@dataclass(frozen=True)
class Frame:
    """One time step: its cloud's `points`, `normals` (N, 3) float64, world metres; `alpha` (C, H, W) uint8, person 255,
    C the cameras of cameras.json in order; `landmarks` (L, 3) float64, world metres, NaN where unknown, L is zero
    without landmarks."""

    sequence: str
    step: int
    points: np.ndarray
    normals: np.ndarray
    alpha: np.ndarray
    landmarks: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    def named(self, error: DataError) -> DataError:
        """The error with the name of the frame before it."""
        return DataError(f"step {self.step} of {self.sequence}: {error}")


class Clouds:
    """The time steps of one sequence from the span files (any order) of its clouds and its frames, and from the
    landmarks of all sequences by name, if any has some.

    `len()` is the number of steps.
    """

    def __init__(self, clouds: list[Path], frames: list[Path], landmarks: Landmarks | None = None):
        self.clouds, self.frames = Reel(clouds), Reel(frames)
        self.sequence = self.clouds.sequence
        if (self.frames.sequence, self.frames.steps) != (self.sequence, self.clouds.steps):
            raise DataError(
                f"{frames[0]}: frames of {self.frames.steps} steps of {self.frames.sequence}; expected"
                f" {self.clouds.steps} steps of {self.sequence}, as {clouds[0]} and its like"
            )
        count = max((points.shape[1] for points in (landmarks or {}).values()), default=0)
        self.landmarks = (landmarks or {}).get(self.sequence, np.full((len(self), count, 3), np.nan))
        if len(self.landmarks) != len(self):
            raise DataError(f"landmarks of {len(self.landmarks)} steps of {self.sequence}; expected {len(self)}")

    def __len__(self) -> int:
        return self.clouds.steps

    def require_plausible(self) -> None:
        """Raise DataError naming the sequence and the share where most clouds hold too few points for a head."""
        sizes = self._sizes()
        thin = sizes < LEAST_POINTS
        if thin.mean() > MOST_THIN:
            raise DataError(
                f"{self.clouds.paths[0]}: {thin.sum()} of {len(sizes)} clouds of {self.sequence} hold less than"
                f" {LEAST_POINTS} points ({np.median(sizes):.0f} in the median); expected a head in more than half;"
                " are the calibration and the sizes of the pictures right?"
            )

    def require_filled(self, steps: Iterable[int]) -> None:
        """Raise DataError naming the first of some steps whose cloud is empty: before hours of fitting, not after."""
        sizes = self._sizes()
        for step in steps:
            if not sizes[step]:
                raise self._empty(step)

    def _sizes(self) -> np.ndarray:
        """Points of every cloud, (T,) int."""
        return np.concatenate([np.diff(read_arrays(path, "offsets")[0]) for path in self.clouds.paths])

    def _empty(self, step: int) -> DataError:
        return DataError(
            f"{self.clouds.path(step)}: the cloud of step {step} of {self.sequence} is empty; expected points on a head"
        )

    def with_landmarks(self, landmarks: np.ndarray) -> "Clouds":
        """The same steps with other landmarks (T, L, 3), world metres, NaN where unknown."""
        result = copy(self)
        result.landmarks = landmarks
        return result

    def frame(self, step: int) -> Frame:
        """A time step. Raises DataError naming it when its cloud is empty."""
        points, normals = self.clouds.rows(step, "offsets", "points", "normals")
        if not len(points):
            raise self._empty(step)
        alpha = self.frames.pictures("alpha", step)
        return Frame(self.sequence, step, points.astype(float), normals.astype(float), alpha, self.landmarks[step])


def read_landmarks(paths: list[Path], prior: HeadPrior) -> Landmarks:
    """What the stage landmarks wrote. Raises DataError where the prior knows of no landmarks, or of others."""
    found = {}
    for path in paths:
        if not prior.config.landmarks:
            raise DataError(f"{path}: {WITHOUT_LANDMARKS}; expected one that does, or a capture without landmarks")
        points, views = read_arrays(path, "points", "views")
        if points.shape[1:] != (prior.config.landmarks, 3):
            raise DataError(f"{path}: points of shape {points.shape}; expected (T, {prior.config.landmarks}, 3)")
        found[read_attributes(path)["sequence"]] = np.where(views[..., None] > 0, points, np.nan)
    return found


def read_points(paths: list[Path], prior: HeadPrior) -> Landmarks:
    """What the stage triangulate wrote of the landmarks; nothing, and a line says so, where the prior knows of none."""
    if paths and not prior.config.landmarks:
        log.warning("%s: detected landmarks, lids and gaze are left out", WITHOUT_LANDMARKS)
        return {}
    return read_landmarks(paths, prior)


def by_sequence(clouds: list[Path], frames: list[Path], landmarks: Landmarks | None = None) -> list[Clouds]:
    """The steps of several sequences, sorted by name, with landmarks where there are any.

    Raises DataError where one has clouds or frames only.
    """
    groups: dict[str, tuple[list[Path], list[Path]]] = {}
    for which, paths in enumerate((clouds, frames)):
        for path in paths:
            groups.setdefault(read_attributes(path)["sequence"], ([], []))[which].append(path)
    for name, (some, others) in groups.items():
        if not some or not others:
            raise DataError(f"{(some + others)[0]}: {name} has clouds or frames only; expected both")
    return [Clouds(*groups[name], landmarks) for name in sorted(groups)]
