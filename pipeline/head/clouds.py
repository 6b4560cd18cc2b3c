"""The time steps of a sequence from its span files: clouds, and the silhouettes they were made from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import read_attributes
from pipeline.store.reel import Reel


@dataclass(frozen=True)
class Frame:
    """One time step: its cloud's `points`, `normals` (N, 3) float64, world metres; `alpha` (C, H, W) uint8, person 255,
    C the cameras of cameras.json in order."""

    sequence: str
    step: int
    points: np.ndarray
    normals: np.ndarray
    alpha: np.ndarray

    def named(self, error: DataError) -> DataError:
        """The error with the name of the frame before it."""
        return DataError(f"step {self.step} of {self.sequence}: {error}")


class Clouds:
    """The time steps of one sequence from the span files (any order) of its clouds and its frames.

    `len()` is the number of steps.
    """

    def __init__(self, clouds: list[Path], frames: list[Path]):
        self.clouds, self.frames = Reel(clouds), Reel(frames)
        self.sequence = self.clouds.sequence
        if (self.frames.sequence, self.frames.steps) != (self.sequence, self.clouds.steps):
            raise DataError(
                f"{frames[0]}: frames of {self.frames.steps} steps of {self.frames.sequence}; expected"
                f" {self.clouds.steps} steps of {self.sequence}, as {clouds[0]} and its like"
            )

    def __len__(self) -> int:
        return self.clouds.steps

    def frame(self, step: int) -> Frame:
        """A time step. Raises DataError naming it when its cloud is empty."""
        points, normals = self.clouds.rows(step, "offsets", "points", "normals")
        if not len(points):
            raise DataError(
                f"{self.clouds.path(step)}: the cloud of step {step} of {self.sequence} is empty; "
                "expected points on a head"
            )
        alpha = self.frames.pictures("alpha", step)
        return Frame(self.sequence, step, points.astype(float), normals.astype(float), alpha)


def by_sequence(clouds: list[Path], frames: list[Path]) -> list[Clouds]:
    """The steps of several sequences, sorted by name. Raises DataError where one has clouds or frames only."""
    groups: dict[str, tuple[list[Path], list[Path]]] = {}
    for which, paths in enumerate((clouds, frames)):
        for path in paths:
            groups.setdefault(read_attributes(path)["sequence"], ([], []))[which].append(path)
    for name, (some, others) in groups.items():
        if not some or not others:
            raise DataError(f"{(some + others)[0]}: {name} has clouds or frames only; expected both")
    return [Clouds(*groups[name]) for name in sorted(groups)]
