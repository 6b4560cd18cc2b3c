"""What is to be made: the capture table's subjects and sequences, cut into spans of time steps."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.capture.formats.base import Capture, RecordedCamera, Source, Stills, whole
from pipeline.errors import ConfigError, PipelineError
from pipeline.planning.table import DRIVES, Recording, capture_of, frames_of
from pipeline.settings.calibrate import CalibrateSettings

LARGEST = 3840 * 2160  # pixels of a picture whose size nobody knows yet
SHORTEST = 8  # time steps of a span: fewer, and a job mostly starts up
MOST_SPANS = 32  # of a sequence: every job costs Snakemake 4 ms of planning, six and more jobs a span


def driver_of(sequence: str) -> str:
    """Who plays a sequence `driver~sequence` that drives another head; empty when the subject does."""
    return sequence.rpartition(DRIVES)[0]


def span_length(steps: int) -> int:
    """How long the spans of a sequence are where nobody says: SHORTEST, doubled until there are at most MOST_SPANS.

    Doubled, so that a recording that grows a little keeps its spans."""
    length = SHORTEST
    while -(-steps // length) > MOST_SPANS:
        length *= 2
    return length


def spans(steps: int, length: int) -> list[str]:
    """Half-open spans such as "000008-000016" that tile [0, steps), all `length` long but for the last."""
    return [f"{start:06d}-{min(start + length, steps):06d}" for start in range(0, steps, length)]


@dataclass(frozen=True)
class Plan:
    """The recordings with the split into training and held-out ones; every answer keeps the table's order."""

    recordings: list[Recording]
    stride: int
    span: int | None
    held_out_cameras: list[str]
    held_out_sequences: list[str]
    motions: dict[str, int] = field(default_factory=dict)  # time steps of what drives a head and was never recorded

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """{subject: folder}, the first that the table names."""
        return {recording.subject: recording.folder for recording in reversed(self.recordings)}

    @cached_property
    def _rows(self) -> dict[str, dict[str, Recording]]:
        """{subject: {sequence: row}} in the table's order; every job asks, so the table is not searched again."""
        result: dict[str, dict[str, Recording]] = {}
        for recording in self.recordings:
            result.setdefault(recording.subject, {})[recording.sequence] = recording
        return result

    def _row(self, subject: str, sequence: str) -> Recording:
        """The row of a sequence. Raises ConfigError where the table has none: somebody asks for a file of another."""
        if subject not in self._rows:
            raise ConfigError(f"captures: no subject {subject}; there are {', '.join(self._rows)}")
        if sequence not in self._rows[subject]:
            has = ", ".join([*self._rows[subject], *self.motions])
            raise ConfigError(f"captures: no sequence {sequence} of subject {subject}; there are {has}")
        return self._rows[subject][sequence]

    def subjects(self) -> list[str]:
        """All subjects."""
        return list(self._rows)

    def names(self) -> list[str]:
        """All sequences of whichever subject, and the motions."""
        return list(dict.fromkeys([*(recording.sequence for recording in self.recordings), *self.motions]))

    def all_cameras(self) -> list[str]:
        """All cameras of whichever subject."""
        return list(dict.fromkeys(camera for subject in self.subjects() for camera in self.cameras(subject)))

    def folder(self, subject: str) -> Path:
        """The subject's capture."""
        return self._folders[subject]

    def sequences(self, subject: str) -> list[str]:
        """All sequences of a subject."""
        return list(self._rows[subject])

    def training(self, subject: str) -> list[str]:
        """The sequences of a subject that training sees."""
        return [sequence for sequence in self.sequences(subject) if sequence not in self.held_out_sequences]

    def unseen(self, subject: str) -> list[str]:
        """The sequences of a subject that are held out: of several subjects each has its own."""
        return [sequence for sequence in self.sequences(subject) if sequence in self.held_out_sequences]

    def actor(self, subject: str, sequence: str) -> tuple[str, str]:
        """Who plays a sequence, and its name there: the driver of `driver~sequence`, else the subject."""
        return driver_of(sequence) or subject, sequence.rpartition(DRIVES)[2]

    def frames(self, subject: str, sequence: str) -> int:
        """Frames of a sequence, as the table says or as they are counted."""
        actor, played = self.actor(subject, sequence)
        return frames_of(self._row(actor, played))

    def declared(self, subject: str, sequence: str) -> int:
        """Frames that every camera should have recorded, a stretch's whole recording counted."""
        _, part = whole(sequence)
        return part.stop if part else frames_of(self._row(subject, sequence))

    def steps(self, subject: str, sequence: str) -> int:
        """Time steps of a sequence: frames 0, stride, 2 stride, ..."""
        if sequence in self.motions:
            return self.motions[sequence]
        return -(-self.frames(subject, sequence) // self.stride)

    def longest(self) -> int:
        """Time steps of the longest sequence or motion of all."""
        recorded = (self.steps(recording.subject, recording.sequence) for recording in self.recordings)
        return max([*recorded, *self.motions.values()])

    def spans(self, subject: str, sequence: str) -> list[str]:
        """The spans of a sequence."""
        steps = self.steps(subject, sequence)
        return spans(steps, self.span or span_length(steps))

    def capture(self, subject: str) -> Capture:
        """The subject's capture. Raises ConfigError where no format knows its folder."""
        return capture_of(self.folder(subject))

    def format(self, subject: str) -> str:
        """The module that reads the subject's capture."""
        return type(self.capture(subject)).__module__

    def cameras(self, subject: str) -> list[str]:
        """Names of a subject's cameras that recorded all of its sequences, sorted; the others are left out."""
        return [name for name in self.capture(subject).cameras() if name not in self.left_out(subject)]

    def left_out(self, subject: str) -> dict[str, str]:
        """Cameras that recorded some of a subject's sequences only, each with the first that it lacks."""
        return self._left_out[subject]

    @cached_property
    def _left_out(self) -> dict[str, dict[str, str]]:
        result: dict[str, dict[str, str]] = {subject: {} for subject in self.subjects()}
        for row in self.recordings:
            sources = self._sources(row.subject, row.sequence)
            for name in self.capture(row.subject).cameras():
                if name not in sources:
                    result[row.subject].setdefault(name, row.sequence)
        return result

    def first_recording(self, subject: str) -> str:
        """The recording that calibrate looks at."""
        return whole(self.sequences(subject)[0])[0]

    def seeks_unit(self, subject: str, settings: CalibrateSettings) -> bool:
        """Whether a capture's unit has to be found in its pictures."""
        return not settings.unit_known and not self.capture(subject).metric

    def notes(self) -> list[str]:
        """What a person should know before anything runs, a line each."""
        return [
            f"captures: subject {subject}: camera {name} recorded nothing of {sequence}: left out of all its sequences"
            for subject in self.subjects()
            for name, sequence in self.left_out(subject).items()
        ]

    def _sources(self, subject: str, sequence: str) -> dict[str, Source]:
        return self.capture(subject).pictures(whole(sequence)[0])

    def calibration(self, subject: str) -> list[Path]:
        """Files that say where a subject's cameras stand, how they see, and how large their pictures are."""
        return self.capture(subject).calibration_files()

    def largest_picture(self, subject: str) -> int:
        """Pixels of the largest picture that a subject's cameras record, before any scaling.

        LARGEST where only a film has the size, or where the calibration is faulty, which `calibrate` reports.
        """
        capture = self.capture(subject)
        if not capture.posed:
            return max(map(_pixels_of, capture.pictures(self.first_recording(subject)).values()))
        try:
            return max(map(_pixels, capture.calibration()))
        except PipelineError:
            return LARGEST

    def recording(self, subject: str, sequence: str, span: str) -> list[Path]:
        """Files with the pictures, masks and plates of a span."""
        name, numbers = self._frames_of(sequence, span)
        return self.capture(subject).files(name, numbers)

    def clouds(self, subject: str, sequence: str, span: str) -> list[Path]:
        """The capture's own clouds of a span, one per time step; none where any is missing."""
        name, numbers = self._frames_of(sequence, span)
        found = self.capture(subject).clouds(name)
        own = [found[number] for number in numbers if number in found]
        return own if len(own) == len(numbers) else []

    def _frames_of(self, sequence: str, span: str) -> tuple[str, range]:
        """The recording of a sequence and the numbers of a span's frames in it."""
        name, part = whole(sequence)
        start, stop = (int(bound) * self.stride + (part.start if part else 0) for bound in span.split("-"))
        return name, range(start, stop, self.stride)

    def landmarks(self, subject: str, sequence: str) -> list[Path]:
        """A sequence's landmarks, one file per camera; none where the capture has no landmarks."""
        return list(self.capture(subject).landmarks(whole(sequence)[0]).values())

    def check_captures(self) -> None:
        """Raise ConfigError naming the first file that a capture lacks.

        Snakemake itself would say "nothing to be done" of a new sequence that lacks a video, as long as old figures
        and an old report lie there.
        """
        for subject in self.subjects():
            capture = self.capture(subject)
            _require_files(capture.calibration_files(), f"the calibration of subject {subject}")
            for name in dict.fromkeys(whole(sequence)[0] for sequence in self.sequences(subject)):
                what = f"a file of sequence {name} of subject {subject}"
                _require_files(capture.files(name), what)

    def check_split(self, avatars: list[str]) -> None:
        """Raise ConfigError where a subject that gets an avatar lacks a held-out camera, or has no other."""
        for name in self.held_out_cameras:
            if "," in name:
                raise ConfigError(f"split.cameras: {name!r} has a comma in it; expected a camera whose name has none")
        for subject in avatars:
            require_known("split.cameras", self.held_out_cameras, self.cameras(subject), f" for subject {subject}")
            if not set(self.cameras(subject)) - set(self.held_out_cameras):
                raise ConfigError(
                    f"split.cameras: holds out all cameras of subject {subject}; none is left to train on"
                )

    def check(self) -> None:
        """Raise ConfigError when the split names what no subject has, or leaves nothing to train on."""
        everything = sorted({recording.sequence for recording in self.recordings})
        require_known("split.sequences", self.held_out_sequences, everything)
        for subject in self.subjects():
            if len({r.folder for r in self.recordings if r.subject == subject}) > 1:
                raise ConfigError(f"captures: subject {subject} lies in several folders; expected one capture each")
            unknown = [s for s in self.sequences(subject) if not self._sources(subject, s)]
            if unknown:
                has = ", ".join(self.capture(subject).sequences())
                raise ConfigError(f"captures: subject {subject} has no sequence {unknown[0]}; its folder has {has}")
            if not self.training(subject):
                raise ConfigError(f"split.sequences: holds out all of subject {subject}; nothing is left to train on")


def _pixels(camera: RecordedCamera) -> int:
    return camera.size[0] * camera.size[1] if camera.size else _pixels_of(camera.sized_by)


def _pixels_of(source: Source | None) -> int:
    if not isinstance(source, Stills) or not source.paths[0].is_file():
        return LARGEST
    try:
        with Image.open(source.paths[0]) as picture:  # reads the header alone
            return picture.width * picture.height
    except UnidentifiedImageError:
        return LARGEST


def _require_files(paths: list[Path], what: str) -> None:
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; expected {what}")


def require_known(key: str, names: list[str], allowed: list[str], where: str = "") -> None:
    """Raise ConfigError naming the key, the first unknown name and what is allowed."""
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{key}: unknown {name!r}; allowed{where}: {', '.join(allowed)}")
