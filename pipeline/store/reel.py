"""The spans of a sequence read as one long sequence, a picture at a time."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import Chunk, StoredArray, in_order, open_chunk, read_attributes

Window = tuple[slice, slice]  # rows and columns
WHOLE: Window = (slice(None), slice(None))
OPEN_SPANS = 16  # per reel; opening one costs milliseconds, training reads them in random order


class Reel:
    """All time steps of one sequence over its span files; only what is asked for is decoded.

    At most OPEN_SPANS spans are open at a time, so that thousands of spans do not use up the file descriptors. Raises
    DataError when the spans (`paths`, in any order) are of several sequences or do not tile [0, steps); a `part` of a
    sequence may begin later, at `start`.
    """

    def __init__(self, paths: list[Path], part: bool = False):
        self.paths = in_order(paths, part)
        attributes = [read_attributes(path) for path in self.paths]
        names = {span["sequence"] for span in attributes}
        if len(names) != 1:
            raise DataError(f"{self.paths[0]}: chunks of several sequences {sorted(names)}; expected one")
        self.sequence: str = names.pop()
        self.attributes: dict[str, Any] = attributes[0]  # of the first span: subject, cameras, settings, ...
        self.part = part
        self.start, self.steps = int(attributes[0]["start"]), int(attributes[-1]["stop"])
        self._starts = [int(span["start"]) for span in attributes]
        self._opened: dict[int, tuple[Chunk, ExitStack]] = {}
        self._bounds: dict[tuple[int, str], np.ndarray] = {}  # of the last span that `rows` read

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens its own files."""
        return vars(self) | {"_opened": {}}

    def path(self, step: int) -> Path:
        """The file that holds a time step."""
        return self.paths[self._locate(step)[0]]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of array `name` without its time axis."""
        return self._array(0, name).shape[1:]

    def picture(self, name: str, step: int, camera: int, window: Window = WHOLE) -> np.ndarray:
        """One picture of array `name` with axes (time, camera, ...), rows and columns among the others.

        `window`: the requested rows and columns; only the tiles that they touch are decoded.
        """
        span, local = self._locate(step)
        array, cut = self._array(span, name), dict(zip(("row", "column"), window, strict=True))
        return array[local, camera, *(cut.get(axis, slice(None)) for axis in array.attributes["axes"][2:])]

    def pictures(self, name: str, step: int) -> np.ndarray:
        """All cameras' pictures (camera, height, width, ...) of a time step."""
        span, local = self._locate(step)
        return self._array(span, name)[local]

    def rows(self, step: int, offsets: str, *names: str) -> tuple[np.ndarray, ...]:
        """The rows of the concatenated arrays `names` that `step` owns by the array `offsets` (T + 1,).

        Only the pieces that hold those rows are decoded.
        """
        span, local = self._locate(step)
        if (span, offsets) not in self._bounds:
            self._bounds = {(span, offsets): self._array(span, offsets)[...]}
        start, stop = self._bounds[span, offsets][local : local + 2]
        return tuple(self._array(span, name)[start:stop] for name in names)

    def close(self) -> None:
        """Close the spans that are open; the next read opens its own anew."""
        while self._opened:
            self._close_oldest()

    def _close_oldest(self) -> None:
        _, stack = self._opened.pop(next(iter(self._opened)))
        stack.close()

    def _locate(self, step: int) -> tuple[int, int]:
        if not self.start <= step < self.steps:
            raise DataError(f"{self.paths[0]}: no time step {step}; sequence {self.sequence} has {self.steps}")
        span = bisect_right(self._starts, step) - 1
        return span, step - self._starts[span]

    def _array(self, span: int, name: str) -> StoredArray:
        if span not in self._opened:
            if len(self._opened) == OPEN_SPANS:
                self._close_oldest()
            stack = ExitStack()
            chunk = stack.enter_context(open_chunk(self.paths[span]))
            self._opened[span] = chunk, stack
        return self._opened[span][0][name]


@contextmanager
def open_reels(paths: list[Path], part: bool = False) -> Generator[dict[str, Reel]]:
    """Yield one reel per sequence, in order of name, for span files of any number of sequences, or of a part of each.

    Raises DataError when a file is no chunk or the spans of a sequence have a gap.
    """
    by_sequence: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_sequence[read_attributes(path)["sequence"]].append(path)
    reels = {sequence: Reel(by_sequence[sequence], part) for sequence in sorted(by_sequence)}
    try:
        yield reels
    finally:
        for reel in reels.values():
            reel.close()
