"""What evaluation reads, checked once: renders, targets, buffers and tracks of all sequences, and the split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.head.model.regions import region
from pipeline.raster.coding import read_buffers
from pipeline.store.chunk import read_arrays, read_attributes
from pipeline.store.reel import Reel

SPLITS = ("heldout_both", "heldout_camera", "heldout_sequence")


@dataclass(frozen=True)
class Track:
    """Motion of one sequence: `z_exp` (T, E) float32; `head_from_world` (T, 4, 4) float64 similarity."""

    z_exp: np.ndarray
    head_from_world: np.ndarray


@dataclass(frozen=True)
class Footage:
    """Pictures and motion by sequence. Targets and buffers have the rig's cameras; renders name theirs."""

    rig: Rig
    renders: dict[str, Reel]
    targets: dict[str, Reel]
    buffers: dict[str, Reel]
    tracks: dict[str, Track]
    heldout_cameras: tuple[str, ...]
    heldout_sequences: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.heldout_cameras:
            self.rig.index(name)
        for name in self.heldout_sequences:
            if name not in self.targets:
                raise DataError(f"no targets of held-out sequence {name}; there are {', '.join(self.targets)}")
        size = (self.rig.cameras[0].height, self.rig.cameras[0].width)
        for sequence, target in self.targets.items():
            self._check_sequence(sequence, target.steps, size)
        if not self.training_cameras or not self.training_sequences:
            raise DataError("nothing is left to train on: every camera or every sequence is held out")

    def _check_sequence(self, sequence: str, steps: int, size: tuple[int, int]) -> None:
        """All four kinds of file cover the sequence's `steps` with pictures of `size` (height, width)."""
        for kind, reels, array in (
            ("targets", self.targets, "rgb"),
            ("renders", self.renders, "rgb"),
            ("buffers", self.buffers, "depth"),
        ):
            if sequence not in reels:
                raise DataError(f"no {kind} of sequence {sequence}; there are {', '.join(reels)}")
            reel = reels[sequence]
            if reel.steps != steps or reel.shape(array)[1:3] != size:
                raise DataError(
                    f"{reel.paths[0]}: {kind} of {sequence} have {reel.steps} steps of {reel.shape(array)[1:3]} "
                    f"pixels; expected {steps} steps of {size}"
                )
        if sequence not in self.tracks or len(self.tracks[sequence].z_exp) != steps:
            raise DataError(f"no track of sequence {sequence} with its {steps} steps")

    @property
    def training_cameras(self) -> list[str]:
        """Names of the cameras that training may see."""
        return [name for name in self.rig.names if name not in self.heldout_cameras]

    @property
    def training_sequences(self) -> list[str]:
        """Names of the sequences that training may see."""
        return [name for name in self.targets if name not in self.heldout_sequences]

    def split(self, name: str) -> list[tuple[str, str]]:
        """The (sequence, camera) films of a split that were rendered; empty when there are none."""
        from_heldout_sequence = name in ("heldout_both", "heldout_sequence")
        from_heldout_camera = name in ("heldout_both", "heldout_camera")
        return [
            (sequence, camera)
            for sequence in self.targets
            for camera in self.renders[sequence].attributes["cameras"]
            if (sequence in self.heldout_sequences) == from_heldout_sequence
            and (camera in self.heldout_cameras) == from_heldout_camera
        ]

    def target(self, sequence: str, step: int, camera: str) -> np.ndarray:
        """The true picture (h, w, 3) uint8 sRGB, the head over white."""
        return self.targets[sequence].picture("rgb", step, self.rig.index(camera))

    def head(self, sequence: str, step: int, camera: str) -> np.ndarray:
        """Where the true picture shows the head, (h, w) bool."""
        return self.targets[sequence].picture("alpha", step, self.rig.index(camera)) > 127

    def region(self, sequence: str, step: int, camera: str, name: str) -> np.ndarray:
        """Where the mesh shows the region "eyes" or "mouth" of the face, (h, w) bool."""
        found = read_buffers(self.buffers[sequence], step, self.rig.index(camera), ("x_can",))
        return region(torch.from_numpy(found["x_can"]), name).numpy()

    def render(self, sequence: str, step: int, camera: str) -> np.ndarray:
        """The avatar's picture (h, w, 3) uint8 sRGB over white."""
        reel = self.renders[sequence]
        return reel.picture("rgb", step, reel.attributes["cameras"].index(camera))


def read_tracks(paths: list[Path]) -> dict[str, Track]:
    """Tracks by sequence. Raises DataError naming the file when one is no track."""
    return {read_attributes(path)["sequence"]: Track(*read_arrays(path, "z_exp", "head_from_world")) for path in paths}
