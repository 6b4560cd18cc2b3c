"""The spans of a sequence read as one long sequence, a picture at a time."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.errors import DataError
from pipeline.store.chunk import in_order, open_chunk


@dataclass(frozen=True)
class Reel:
    """All time steps of one sequence over its open span files; only what is asked for is decoded.

    `paths`, `groups` and `starts` are parallel, in time order, and tile [0, steps).
    """

    sequence: str
    steps: int
    paths: tuple[Path, ...]
    groups: tuple[zarr.Group, ...]
    starts: tuple[int, ...]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the first span (subject, cameras, ...)."""
        return dict(self.groups[0].attrs)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of array `name` without its time axis."""
        return self._array(0, name).shape[1:]

    def picture(self, name: str, step: int, camera: int) -> np.ndarray:
        """One picture (height, width, ...) of array `name` with axes (time, camera, ...)."""
        span, local = self._locate(step)
        return self._array(span, name)[local, camera]

    def rows(self, step: int, offsets: str, *names: str) -> tuple[np.ndarray, ...]:
        """The rows of the concatenated arrays `names` that `step` owns by the array `offsets` (T + 1,)."""
        span, local = self._locate(step)
        first, last = self._array(span, offsets)[local : local + 2]
        return tuple(self._array(span, name)[first:last] for name in names)

    def _locate(self, step: int) -> tuple[int, int]:
        if not 0 <= step < self.steps:
            raise DataError(f"{self.paths[0]}: no time step {step}; sequence {self.sequence} has {self.steps}")
        span = bisect_right(self.starts, step) - 1
        return span, step - self.starts[span]

    def _array(self, span: int, name: str) -> zarr.Array:
        if name not in self.groups[span]:
            held = sorted(self.groups[span].array_keys())
            raise DataError(f"{self.paths[span]}: no array {name}; it holds {held}")
        return self.groups[span][name]


@contextmanager
def open_reels(paths: list[Path]) -> Iterator[dict[str, Reel]]:
    """Open span files of any number of sequences; yields one reel per sequence, in order of name.

    Raises DataError when a file is no chunk or the spans of a sequence have a gap.
    """
    with ExitStack() as stack:
        by_sequence = defaultdict(list)
        for path in paths:
            with open_chunk(path) as group:
                by_sequence[group.attrs["sequence"]].append(path)
        reels = {}
        for sequence in sorted(by_sequence):
            spans = in_order(by_sequence[sequence])
            groups = tuple(stack.enter_context(open_chunk(path)) for path in spans)
            starts = tuple(int(group.attrs["start"]) for group in groups)
            reels[sequence] = Reel(sequence, int(groups[-1].attrs["stop"]), tuple(spans), groups, starts)
        yield reels
