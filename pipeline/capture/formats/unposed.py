"""Videos or photographs of a person whose cameras nobody knows yet: docs/captures/unposed.md."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pipeline.capture.formats.base import Capture, RecordedCamera, Source, Stills
from pipeline.capture.formats.folders import mask_sources, picture_sources, sequences, unread_folders
from pipeline.capture.formats.names import own_counts
from pipeline.errors import ConfigError, DataError


class UnposedCapture(Capture):
    """`videos/` or `images/` alone; structure from motion finds the cameras."""

    kind: ClassVar[str] = "unposed"
    metric: ClassVar[bool | None] = False
    posed: ClassVar[bool] = False
    fallback: ClassVar[bool] = True

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Recordings of any kind."""
        return bool(sequences(folder))

    @cached_property
    def _pictures(self) -> dict[str, dict[str, Source]]:
        found = {name: picture_sources(self.folder, name) for name in sequences(self.folder)}
        # Nobody's calibration speaks of the pictures as they are stored, so they are taken as they are shown.
        return {
            sequence: {n: replace(s, upright=True) if isinstance(s, Stills) else s for n, s in sources.items()}
            for sequence, sources in found.items()
        }

    def sequences(self) -> list[str]:
        """Folders of videos, or of folders of pictures."""
        return sorted(self._pictures)

    def cameras(self) -> list[str]:
        """Named as their videos, folders or pictures are."""
        return sorted({name for sources in self._pictures.values() for name in sources})

    def calibration(self) -> list[RecordedCamera]:
        """Nothing is known."""
        raise DataError(f"{self.folder}: no calibration; expected the cameras that structure from motion has found")

    def calibration_files(self) -> list[Path]:
        """None."""
        return []

    def pictures(self, sequence: str) -> dict[str, Source]:
        """One per camera."""
        if sequence not in self._pictures:
            raise ConfigError(f"{self.folder}: no sequence {sequence}; it has {', '.join(self.sequences())}")
        return self._pictures[sequence]

    def masks(self, sequence: str) -> dict[str, Source]:
        """Laid out as the pictures are, in masks/."""
        return mask_sources(self.folder, sequence, self.pictures(sequence))

    def ignored(self) -> list[str]:
        """Calibrations and masks of layouts that are not read, and cameras that number their pictures by themselves."""
        apart = [line for sources in self._pictures.values() for line in own_counts(sources)]
        return [*unread_folders(self.folder), *apart]
