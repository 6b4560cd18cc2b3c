"""captures.tsv: the recordings, one row per subject and sequence."""

import csv
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import Capture, Film, whole
from pipeline.errors import ConfigError
from pipeline.planning.text import read_text

DRIVES = "~"  # between driver and sequence, in the name of a sequence that drives another head
COLUMNS = ("subject", "sequence", "folder", "frames")


@dataclass(frozen=True)
class Recording:
    """One sequence of one subject: `folder` is the subject's capture, `frames` what the table says that every camera
    recorded, 0 where it says nothing."""

    subject: str
    sequence: str
    folder: Path
    frames: int = 0


def read_table(path: Path) -> list[Recording]:
    """Read captures.tsv; lines that begin with # are skipped. Raises ConfigError naming row and column."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected a table with the columns {', '.join(COLUMNS)}")
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    rows = map(_cells, csv.reader(lines, delimiter="\t"))
    names = tuple(next(rows, []))
    if names not in (COLUMNS, COLUMNS[:-1]):
        raise ConfigError(
            f"{path}: columns are {list(names)}; expected {list(COLUMNS)}, separated by tabs; frames may be left out"
        )
    recordings = [_recording(row, len(names), f"{path}: row {number}") for number, row in enumerate(rows, start=1)]
    if not recordings:
        raise ConfigError(f"{path}: no rows; expected one per subject and sequence")
    pairs = [(recording.subject, recording.sequence) for recording in recordings]
    for number, pair in enumerate(pairs, start=1):
        if pair in pairs[: number - 1]:
            raise ConfigError(f"{path}: row {number}, column sequence: {pair[1]} of {pair[0]} was named before")
    return recordings


def _cells(row: list[str]) -> list[str]:
    """A row's cells without spaces at their ends, and without the empty columns that spreadsheets add behind."""
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _recording(cells: list[str], columns: int, where: str) -> Recording:
    if len(cells) > columns:
        raise ConfigError(f"{where}: more than {columns} columns")
    row = dict(zip(COLUMNS, cells + [""] * len(COLUMNS), strict=False))
    for column in COLUMNS[:-1]:
        if not row[column]:
            raise ConfigError(f"{where}, column {column}: empty; expected a value")
    for column in ("subject", "sequence"):
        if "/" in row[column] or DRIVES in row[column] or row[column].startswith("."):
            raise ConfigError(f"{where}, column {column}: {row[column]!r} cannot be the name of a folder")
    given = row["frames"]
    if given and (not given.isascii() or not given.isdigit() or int(given) < 1):
        raise ConfigError(f"{where}, column frames: {given!r}; expected a whole number of at least 1, or nothing")
    for column in COLUMNS[:-1]:
        if found := [sign for sign in "{}<>" if sign in row[column]]:
            raise ConfigError(f"{where}, column {column}: {row[column]!r} has a {found[0]} in it; expected none")
    if not Path(row["folder"]).is_dir():
        raise ConfigError(f"{where}, column folder: no folder {row['folder']}")
    return Recording(row["subject"], row["sequence"], Path(row["folder"]), int(given or 0))


@cache
def capture_of(folder: Path) -> Capture:
    """A folder as a capture."""
    return open_capture(folder)


@cache
def recorded_frames(folder: Path, sequence: str) -> int:
    """How many frames every camera of a recording has, counted. Raises ConfigError where they have not as many."""
    sources = capture_of(folder).pictures(sequence)
    known = capture_of(folder).frames(sequence)
    films = {name: source.path for name, source in sources.items() if isinstance(source, Film)}
    if known is not None and not films:
        return known
    # in a process of its own: no planning should wait for a library that reads videos when the table has the number
    command = [sys.executable, "-m", "pipeline.capture.pictures.video", *map(str, films.values())]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise ConfigError(f"{folder}: {sequence}: {done.stderr.strip().splitlines()[-1]}")
    counts = dict(zip(films, map(int, done.stdout.split()), strict=True))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise ConfigError(
            f"{folder}: {sequence}: cameras have different frame counts ({listed}); expected equal numbers"
        )
    return next(iter(counts.values()))


def frames_of(recording: Recording) -> int:
    """Frames of a sequence: the stretch that its name says, else what the table says, else counted."""
    name, part = whole(recording.sequence)
    if part is None:
        return recording.frames or recorded_frames(recording.folder, name)
    if not part:
        raise ConfigError(
            f"captures: sequence {recording.sequence}: an empty stretch; expected first-end, end not in it"
        )
    return len(part)
