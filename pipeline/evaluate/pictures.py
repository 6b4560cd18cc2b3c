"""The figures of every picture: one row per split, method, sequence, camera and step; their table."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.store.chunk import publish

PLACE = ("split", "method", "sequence", "camera", "step")  # columns that say which picture
HEADLINE = "heldout_both"


@dataclass(frozen=True)
class Picture:
    """The figures of one picture by one method."""

    split: str
    method: str
    sequence: str
    camera: str
    step: int
    figures: dict[str, float]


def films_of(pictures: list[Picture]) -> list[list[Picture]]:
    """The pictures of each sequence and camera by themselves, in the order of their steps."""
    films: dict[tuple[str, str], list[Picture]] = {}
    for picture in pictures:
        films.setdefault((picture.sequence, picture.camera), []).append(picture)
    return [sorted(film, key=lambda picture: picture.step) for film in films.values()]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table of figures, tabs between columns. Raises DataError naming the file when it is missing or
    lacks columns."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected what the stage evaluate writes")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not set(columns) <= set(rows[0]):
        raise DataError(f"{path}: no table of figures; expected the columns {', '.join(columns)}")
    return rows


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Iterable[str | int | float]]) -> None:
    """Publish a table of figures, tabs between columns; floats with four decimals."""
    with publish(path) as partial, partial.open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(columns)
        for row in rows:
            table.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in row])


def write_pictures(path: Path, pictures: list[Picture]) -> None:
    """Write every picture's figures as a table, tabs between columns; empty where a picture lacks one."""
    names = sorted({name for picture in pictures for name in picture.figures})
    rows = (
        (
            *(getattr(picture, key) for key in PLACE),
            *(float(picture.figures[name]) if name in picture.figures else "" for name in names),
        )
        for picture in pictures
    )
    write_rows(path, (*PLACE, *names), rows)


def read_pictures(path: Path) -> list[Picture]:
    """Read what `write_pictures` wrote. Raises DataError naming the file when it is no such table."""
    return [
        Picture(
            **{key: row[key] for key in PLACE[:-1]},
            step=int(row[PLACE[-1]]),
            figures={name: float(text) for name, text in row.items() if name not in PLACE and text},
        )
        for row in read_rows(path, PLACE)
    ]
