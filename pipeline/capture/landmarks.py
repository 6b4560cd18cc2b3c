"""A detector's facial landmarks of a sequence, as a capture keeps them: 68 points per camera and frame."""

from pathlib import Path

import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.errors import DataError

DETECTED = 68  # points in the order of iBUG's 300-W: jaw 0-16, brows, nose, eyes, lips
# The jaw's points lie where each camera sees the face end, so they are no points of the head; the others are.
FIXED = slice(17, DETECTED)
COUNT = DETECTED - 17


def read_landmarks(files: dict[str, Path], rig: Rig, frames: int) -> np.ndarray:
    """What the cameras of `rig` saw of the fixed landmarks in every frame of a sequence: (frames, C, COUNT, 3) float64.

    `files`: of each camera that has one, by its name.
    x and y in pixels of the recorded picture (the centre of the top left one is (0.5, 0.5)) and a confidence, which is
    0 where a landmark was not seen. Cameras without a file saw nothing. Raises DataError naming the file that is of no
    camera, or that holds something else than (frames, 68, 3) numbers.
    """
    seen = np.zeros((frames, len(rig.cameras), COUNT, 3))
    for name, path in files.items():
        if name not in rig.names:
            raise DataError(f"{path}: of no calibrated camera; expected one of {', '.join(rig.names)}")
        seen[:, rig.index(name)] = _read_camera(path, frames)
    return seen


def _read_camera(path: Path, frames: int) -> np.ndarray:
    """(frames, COUNT, 3) of one camera's file, zero where a landmark was not seen."""
    expected = f"expected ({frames}, {DETECTED}, 3): x, y and confidence of each landmark in each frame of the video"
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not an array ({error}); {expected}") from error
    if values.shape != (frames, DETECTED, 3) or not np.issubdtype(values.dtype, np.number):
        raise DataError(f"{path}: {values.dtype} of shape {values.shape}; {expected}")
    values = values[:, FIXED].astype(float)
    values[~np.isfinite(values).all(-1)] = 0
    values[..., 2] = np.maximum(values[..., 2], 0)
    return values
