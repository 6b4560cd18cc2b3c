"""The clouds of a sequence, read span by span, one time step at a time."""

from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import in_order, read_arrays, read_attributes


class Clouds:
    """The time steps of one sequence from its span files (any order). `len()` is the number of steps."""

    def __init__(self, paths: list[Path]):
        self.paths = in_order(paths)
        attributes = [read_attributes(path) for path in self.paths]
        names = {entry["sequence"] for entry in attributes}
        if len(names) != 1:
            raise DataError(f"{self.paths[0]}: clouds of several sequences {sorted(names)}; expected one")
        self.sequence = names.pop()
        self.starts = [entry["start"] for entry in attributes]
        self.stop = attributes[-1]["stop"]
        self._open: tuple[Path, tuple[np.ndarray, ...]] | None = None

    def __len__(self) -> int:
        return self.stop

    def frame(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Points and normals (N, 3) float64 of a step, world. Raises DataError naming the step when it is empty."""
        index = int(np.searchsorted(self.starts, step, side="right")) - 1
        path = self.paths[index]
        if self._open is None or self._open[0] != path:
            self._open = path, read_arrays(path, "points", "normals", "offsets")
        points, normals, offsets = self._open[1]
        rows = slice(offsets[step - self.starts[index]], offsets[step - self.starts[index] + 1])
        if rows.start == rows.stop:
            raise DataError(f"{path}: the cloud of step {step} of {self.sequence} is empty; expected points on a head")
        return points[rows].astype(float), normals[rows].astype(float)


def by_sequence(paths: list[Path]) -> list[Clouds]:
    """The clouds of several sequences, sorted by name."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(read_attributes(path)["sequence"], []).append(path)
    return [Clouds(groups[name]) for name in sorted(groups)]
