"""The time steps of a sequence from its span files: clouds, and the silhouettes they were made from."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import in_order, open_chunk, read_arrays, read_attributes


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
        self.clouds, self.frames = _Spans(clouds), _Spans(frames)
        self.sequence = self.clouds.sequence
        if (self.frames.sequence, len(self.frames)) != (self.sequence, len(self.clouds)):
            raise DataError(
                f"{frames[0]}: frames of {len(self.frames)} steps of {self.frames.sequence}; expected"
                f" {len(self.clouds)} steps of {self.sequence}, as {clouds[0]} and its like"
            )

    def __len__(self) -> int:
        return len(self.clouds)

    def frame(self, step: int) -> Frame:
        """A time step. Raises DataError naming it when its cloud is empty."""
        path, local = self.clouds.find(step)
        points, normals, offsets = _cloud(path)
        rows = slice(offsets[local], offsets[local + 1])
        if rows.start == rows.stop:
            raise DataError(f"{path}: the cloud of step {step} of {self.sequence} is empty; expected points on a head")
        path, local = self.frames.find(step)
        with open_chunk(path) as group:
            alpha = group["alpha"][local]
        return Frame(self.sequence, step, points[rows].astype(float), normals[rows].astype(float), alpha)


class _Spans:
    """The chunks of one sequence in order."""

    def __init__(self, paths: list[Path]):
        self.paths = in_order(paths)
        attributes = [read_attributes(path) for path in self.paths]
        names = {entry["sequence"] for entry in attributes}
        if len(names) != 1:
            raise DataError(f"{self.paths[0]}: chunks of several sequences {sorted(names)}; expected one")
        self.sequence = names.pop()
        self.starts = [entry["start"] for entry in attributes]
        self.stop = attributes[-1]["stop"]

    def __len__(self) -> int:
        return self.stop

    def find(self, step: int) -> tuple[Path, int]:
        """The chunk that holds a step, and the step's place in it."""
        index = bisect_right(self.starts, step) - 1
        return self.paths[index], step - self.starts[index]


@lru_cache(maxsize=1)
def _cloud(path: Path) -> tuple[np.ndarray, ...]:
    """Steps are read in order, hence the last chunk is kept."""
    return read_arrays(path, "points", "normals", "offsets")


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
