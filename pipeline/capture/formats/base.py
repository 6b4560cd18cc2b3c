"""What a capture says about itself, whatever its folders look like: the protocol that every format follows.

A format only lists: planning asks it in every run, so it opens no picture and imports nothing that takes long.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.cameras.camera import Lens


@dataclass(frozen=True)
class Film:
    """A video; its frames are numbered as they are shown, from 0."""

    path: Path

    def files(self, numbers: range | None = None) -> list[Path]:
        """The files that hold the frames with these numbers, or all."""
        return [self.path]


@dataclass(frozen=True)
class Stills:
    """A picture file per frame, frame n is `paths[n]`; `upright`: turned as the files' EXIF says, as they are shown."""

    paths: tuple[Path, ...]
    upright: bool = False

    def files(self, numbers: range | None = None) -> list[Path]:
        """The files that hold the frames with these numbers, or all."""
        return list(self.paths if numbers is None else (self.paths[n] for n in numbers if n < len(self.paths)))


Source = Film | Stills
PART = re.compile(r"(.+)@(\d+)-(\d+)")  # a stretch of a recording as a sequence of its own: talk@0-80


def whole(sequence: str) -> tuple[str, range | None]:
    """The recording that a sequence lies in, and the frames [a, b) that `recording@a-b` names; None: all."""
    part = PART.fullmatch(sequence)
    return (part[1], range(int(part[2]), int(part[3]))) if part else (sequence, None)


@dataclass(frozen=True)
class RecordedCamera:
    """A camera as the capture knows it, for its full pictures.

    `intrinsics` (3, 3) pixels, the centre of the top left one is (0.5, 0.5); `camera_from_world` (4, 4) OpenCV axes,
    in the capture's unit; `size` (width, height), None where only the picture `sized_by` has it; `lens` where straight
    lines are bent; `color` (3, n) linear-light correction, None: none is known.
    """

    name: str
    intrinsics: np.ndarray
    camera_from_world: np.ndarray
    size: tuple[int, int] | None
    sized_by: Source | None = None
    lens: Lens | None = None
    color: np.ndarray | None = None


class Capture(ABC):
    """One person's recordings in one folder. A format is a subclass in a file of its own in this package.

    What a capture may lack has an answer here; what it must hold is abstract. Methods that list raise ConfigError,
    `calibration` raises DataError, naming file and camera.
    """

    kind: ClassVar[str]  # the format's name
    metric: ClassVar[bool | None] = True  # whether its poses are in metres; None: the format does not say
    fallback: ClassVar[bool] = False  # whether it takes a folder only where no other format recognises it
    precedes: ClassVar[tuple[str, ...]] = ()  # formats that a folder may show too, and that say less of it
    posed: ClassVar[bool] = True  # whether it knows its cameras; if not, structure from motion finds them

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    @abstractmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether a folder is laid out in this format."""

    @abstractmethod
    def cameras(self) -> list[str]:
        """Names of the calibrated cameras, sorted."""

    @abstractmethod
    def calibration(self) -> list[RecordedCamera]:
        """The cameras, in the order of `cameras`."""

    @abstractmethod
    def calibration_files(self) -> list[Path]:
        """What `calibration` reads, pictures that tell a size included."""

    @abstractmethod
    def sequences(self) -> list[str]:
        """Names of what was recorded, sorted."""

    @abstractmethod
    def pictures(self, sequence: str) -> dict[str, Source]:
        """The recording of each camera by name; files that are missing are listed all the same."""

    def frames(self, sequence: str) -> int | None:
        """How many frames a sequence has, where that is known without opening a video."""
        counts = {len(source.paths) for source in self.pictures(sequence).values() if isinstance(source, Stills)}
        return min(counts, default=None)

    def masks(self, sequence: str) -> dict[str, Source]:
        """Alpha of the person, of the cameras that have some: white is person."""
        return {}

    def unused(self, sequence: str) -> list[str]:
        """What of a sequence cannot be used, and why, a line each."""
        return []

    def ignored(self) -> list[str]:
        """What lies in the folder and looks as if it belonged to the capture, but is not read, a line each."""
        return []

    def plates(self) -> dict[str, Path]:
        """Pictures of the empty set, of the cameras that have one."""
        return {}

    def landmarks(self, sequence: str) -> dict[str, Path]:
        """A detector's landmarks (docs/formats.md), of the cameras that have some."""
        return {}

    def clouds(self, sequence: str) -> dict[int, Path]:
        """Point clouds with normals and colours (PCD, world metres) by frame, of the frames that have one."""
        return {}

    def tints(self, sequence: str) -> dict[str, Path]:
        """Affine corrections of sRGB in one sequence ((3 or 4, 4) as .npy), of the cameras that have one."""
        return {}

    def files(self, sequence: str, numbers: range | None = None) -> list[Path]:
        """What a job reads that needs a sequence's frames with these numbers: pictures, masks, plates, tints."""
        sources = [*self.pictures(sequence).values(), *self.masks(sequence).values()]
        found = [path for source in sources for path in source.files(numbers)]
        return [*found, *self.plates().values(), *self.tints(sequence).values()]
