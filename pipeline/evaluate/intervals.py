"""Figures by split, sequence, camera and method, with intervals over time steps; their table."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.evaluate.pictures import Picture, read_rows, write_rows

RESAMPLES = 1000
WITHIN = (0.05, 0.95)
EVERY = "all"
UNKNOWN = ("", "")  # an interval that there is none of
COLUMNS = ("split", "sequence", "camera", "method", "figure", "mean", "low", "high", "pictures")


def interval(values: np.ndarray, moments: np.ndarray, seed: int = 0) -> tuple[float, float] | None:
    """Where the mean of values (P,) lies in nine of ten resamples of the `moments` (P, ...) that they belong to.

    Bootstrap (Efron 1979) of whole moments, since pictures of one moment are not independent of each other. None of a
    single moment, such as the JOD of a single film: its resamples are all alike, which says nothing of others.
    """
    _, index = np.unique(moments, axis=0, return_inverse=True)
    index = index.reshape(-1)
    total, count = np.bincount(index, values), np.bincount(index)
    if len(total) == 1:
        return None
    drawn = np.random.default_rng(seed).integers(len(total), size=(RESAMPLES, len(total)))
    low, high = np.quantile(total[drawn].sum(1) / count[drawn].sum(1), WITHIN)
    return float(low), float(high)


def moments_of(pictures: list[Picture]) -> np.ndarray:
    """Which moment each picture shows: (P, 2), sequence and step."""
    return np.array([(picture.sequence, str(picture.step)) for picture in pictures])


def groups(pictures: list[Picture]) -> dict[tuple[str, str, str, str], list[Picture]]:
    """Pictures by split, sequence, camera and method, each sequence and camera also joined into `all`."""
    result: dict[tuple[str, str, str, str], list[Picture]] = {}
    for picture in pictures:
        for sequence in (EVERY, picture.sequence):
            for camera in (EVERY, picture.camera):
                result.setdefault((picture.split, sequence, camera, picture.method), []).append(picture)
    return result


def rows(pictures: list[Picture]) -> Iterator[tuple[str | float | int, ...]]:
    """The table's rows: a mean of each figure of each group, between which bounds, and of how many pictures."""
    for place, group in groups(pictures).items():
        for name in sorted({name for picture in group for name in picture.figures}):
            having = [picture for picture in group if name in picture.figures]
            values = np.array([picture.figures[name] for picture in having])
            yield *place, name, float(values.mean()), *(interval(values, moments_of(having)) or UNKNOWN), len(having)


def read_intervals(path: Path) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Bounds of the means over all sequences and cameras, by split, method and figure, that `write_figures` wrote.

    Raises DataError naming the file when it is no such table.
    """
    return {
        (row["split"], row["method"], row["figure"]): (float(row["low"]), float(row["high"]))
        for row in read_rows(path, COLUMNS)
        if row["sequence"] == row["camera"] == EVERY and row["low"]
    }


def write_figures(path: Path, pictures: list[Picture]) -> None:
    """Publish the table, tabs between columns."""
    write_rows(path, COLUMNS, rows(pictures))
