"""What is to be made: the capture table's subjects and sequences, cut into spans of time steps."""

import csv
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import Capture, RecordedCamera, Stills
from pipeline.errors import ConfigError, PipelineError
from pipeline.planning.text import read_text

DRIVES = "~"  # between driver and sequence, in the name of a sequence that drives another head
LARGEST = 3840 * 2160  # pixels of a picture whose size nobody knows yet
COLUMNS = ("subject", "sequence", "folder", "frames")


@dataclass(frozen=True)
class Recording:
    """One sequence of one subject: `folder` is the subject's capture, `frames` what every camera's video holds."""

    subject: str
    sequence: str
    folder: Path
    frames: int


def read_table(path: Path) -> list[Recording]:
    """Read captures.tsv; lines that begin with # are skipped. Raises ConfigError naming row and column."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected a table with the columns {', '.join(COLUMNS)}")
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    rows = csv.DictReader(lines, delimiter="\t")
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise ConfigError(f"{path}: columns are {rows.fieldnames}; expected {list(COLUMNS)}, separated by tabs")
    recordings = [_recording(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1)]
    if not recordings:
        raise ConfigError(f"{path}: no rows; expected one per subject and sequence")
    pairs = [(recording.subject, recording.sequence) for recording in recordings]
    for number, pair in enumerate(pairs, start=1):
        if pair in pairs[: number - 1]:
            raise ConfigError(f"{path}: row {number}, column sequence: {pair[1]} of {pair[0]} was named before")
    return recordings


def _recording(row: dict[str, str], where: str) -> Recording:
    if None in row:
        raise ConfigError(f"{where}: more than {len(COLUMNS)} columns")
    for column in COLUMNS:
        if not row[column]:
            raise ConfigError(f"{where}, column {column}: empty; expected a value")
    for column in ("subject", "sequence"):
        if "/" in row[column] or DRIVES in row[column] or row[column].startswith("."):
            raise ConfigError(f"{where}, column {column}: {row[column]!r} cannot be the name of a folder")
    if not row["frames"].isascii() or not row["frames"].isdigit() or int(row["frames"]) < 1:
        raise ConfigError(f"{where}, column frames: {row['frames']!r}; expected a whole number of at least 1")
    if found := [sign for sign in "{}<>" if sign in row["folder"]]:
        raise ConfigError(f"{where}, column folder: {row['folder']!r} has a {found[0]} in it; expected none")
    if not Path(row["folder"]).is_dir():
        raise ConfigError(f"{where}, column folder: no folder {row['folder']}")
    return Recording(row["subject"], row["sequence"], Path(row["folder"]), int(row["frames"]))


def driver_of(sequence: str) -> str:
    """Who plays a sequence `driver~sequence` that drives another head; empty when the subject does."""
    return sequence.rpartition(DRIVES)[0]


def spans(steps: int, length: int) -> list[str]:
    """Half-open spans such as "000008-000016" that tile [0, steps), all `length` long but for the last."""
    return [f"{start:06d}-{min(start + length, steps):06d}" for start in range(0, steps, length)]


@dataclass(frozen=True)
class Plan:
    """The recordings with the split into training and held-out ones; every answer keeps the table's order."""

    recordings: list[Recording]
    stride: int
    span: int
    held_out_cameras: list[str]
    held_out_sequences: list[str]
    motions: dict[str, int] = field(default_factory=dict)  # time steps of what drives a head and was never recorded

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """{subject: folder}, the first that the table names."""
        return {recording.subject: recording.folder for recording in reversed(self.recordings)}

    @cached_property
    def _frames(self) -> dict[str, dict[str, int]]:
        """{subject: {sequence: frames}} in the table's order; every job asks, so the table is not searched again."""
        result: dict[str, dict[str, int]] = {}
        for recording in self.recordings:
            result.setdefault(recording.subject, {})[recording.sequence] = recording.frames
        return result

    def subjects(self) -> list[str]:
        """All subjects."""
        return list(self._frames)

    def folder(self, subject: str) -> Path:
        """The subject's capture."""
        return self._folders[subject]

    def sequences(self, subject: str) -> list[str]:
        """All sequences of a subject."""
        return list(self._frames[subject])

    def training(self, subject: str) -> list[str]:
        """The sequences of a subject that training sees."""
        return [sequence for sequence in self.sequences(subject) if sequence not in self.held_out_sequences]

    def actor(self, subject: str, sequence: str) -> tuple[str, str]:
        """Who plays a sequence, and its name there: the driver of `driver~sequence`, else the subject."""
        return driver_of(sequence) or subject, sequence.rpartition(DRIVES)[2]

    def frames(self, subject: str, sequence: str) -> int:
        """Frames of the videos, as the table says."""
        actor, played = self.actor(subject, sequence)
        return self._frames[actor][played]

    def steps(self, subject: str, sequence: str) -> int:
        """Time steps of a sequence: frames 0, stride, 2 stride, ..."""
        if sequence in self.motions:
            return self.motions[sequence]
        return -(-self.frames(subject, sequence) // self.stride)

    def spans(self, subject: str, sequence: str) -> list[str]:
        """The spans of a sequence."""
        return spans(self.steps(subject, sequence), self.span)

    def capture(self, subject: str) -> Capture:
        """The subject's capture. Raises ConfigError where no format knows its folder."""
        return _capture(self.folder(subject))

    def format(self, subject: str) -> str:
        """The module that reads the subject's capture."""
        return type(self.capture(subject)).__module__

    def cameras(self, subject: str) -> list[str]:
        """Names of a subject's calibrated cameras, sorted; of the calibration nothing else is checked here."""
        return self.capture(subject).cameras()

    def calibration(self, subject: str) -> list[Path]:
        """Files that say where a subject's cameras stand, how they see, and how large their pictures are."""
        return self.capture(subject).calibration_files()

    def largest_picture(self, subject: str) -> int:
        """Pixels of the largest picture that a subject's cameras record, before any scaling.

        LARGEST where a film alone tells, or a calibration at fault, which `calibrate` will say more about.
        """
        try:
            cameras = self.capture(subject).calibration()
        except PipelineError:
            return LARGEST
        return max(map(_pixels, cameras))

    def recording(self, subject: str, sequence: str, span: str) -> list[Path]:
        """Files with the pictures, masks and plates of a span."""
        start, stop = (int(bound) * self.stride for bound in span.split("-"))
        return self.capture(subject).files(sequence, range(start, stop, self.stride))

    def landmarks(self, subject: str, sequence: str) -> list[Path]:
        """A sequence's landmarks, one file per camera; none where the capture has no landmarks."""
        return list(self.capture(subject).landmarks(sequence).values())

    def check_captures(self) -> None:
        """Raise ConfigError naming the first file that a capture lacks.

        Snakemake itself would say "nothing to be done" of a new sequence that lacks a video, as long as old figures
        and an old report lie there.
        """
        for subject in self.subjects():
            capture = self.capture(subject)
            _require_files(capture.calibration_files(), f"the calibration of subject {subject}")
            for sequence in self.sequences(subject):
                for camera, source in capture.pictures(sequence).items():
                    what = f"a recording of calibrated camera {camera} of subject {subject} in sequence {sequence}"
                    _require_files(source.files(), what)
                _require_files(capture.files(sequence), f"a file of sequence {sequence} of subject {subject}")

    def check(self) -> None:
        """Raise ConfigError when the split names what no subject has, or leaves nothing to train on."""
        everything = sorted({recording.sequence for recording in self.recordings})
        require_known("split.sequences", self.held_out_sequences, everything)
        for subject in self.subjects():
            if len({r.folder for r in self.recordings if r.subject == subject}) > 1:
                raise ConfigError(f"captures: subject {subject} lies in several folders; expected one capture each")
            require_known("split.cameras", self.held_out_cameras, self.cameras(subject), f" for subject {subject}")
            if not self.training(subject):
                raise ConfigError(f"split.sequences: holds out all of subject {subject}; nothing is left to train on")


def _pixels(camera: RecordedCamera) -> int:
    if camera.size:
        return camera.size[0] * camera.size[1]
    if not isinstance(camera.sized_by, Stills) or not camera.sized_by.paths[0].is_file():
        return LARGEST
    try:
        with Image.open(camera.sized_by.paths[0]) as picture:  # reads the header alone
            return picture.width * picture.height
    except UnidentifiedImageError:
        return LARGEST


@cache
def _capture(folder: Path) -> Capture:
    return open_capture(folder)


def _require_files(paths: list[Path], what: str) -> None:
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; expected {what}")


def require_known(key: str, names: list[str], allowed: list[str], where: str = "") -> None:
    """Raise ConfigError naming the key, the first unknown name and what is allowed."""
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{key}: unknown {name!r}; allowed{where}: {', '.join(allowed)}")
