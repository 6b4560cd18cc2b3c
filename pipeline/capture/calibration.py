"""A capture's cameras turned into the rig at the working scale."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.distortion import without_lens
from pipeline.cameras.rig import Rig
from pipeline.capture.decode import probe_source
from pipeline.capture.formats.base import Capture, RecordedCamera
from pipeline.capture.plausible import check_rig
from pipeline.errors import DataError


def read_rig_of(capture: Capture, scale: float, names: Sequence[str] | None = None) -> Rig:
    """The rig of a capture at `scale` (0, 1], cameras sorted by name; `names`: only these of them.

    Raises DataError naming the file and camera when a file is missing or a number in it cannot be a camera's, or all
    of them together cannot be those of cameras round one person.
    """
    recorded = capture.calibration()
    cameras = [_pinhole(camera) for camera in recorded if names is None or camera.name in names]
    check_rig(cameras, capture.metric, str(next(iter(capture.calibration_files()), capture.folder)))
    return Rig(tuple(scaled(camera, scale) for camera in cameras))


def _pinhole(recorded: RecordedCamera) -> Camera:
    """A camera at the recorded size, straightened."""
    size = recorded.size
    if size is None:
        if recorded.sized_by is None:
            raise DataError(f"camera {recorded.name}: its picture size is not known; expected it in the calibration")
        info = probe_source(recorded.sized_by)
        size = (info.width, info.height)
    lens = recorded.lens and replace(recorded.lens, width=size[0], height=size[1])
    color = np.eye(3) if recorded.color is None else recorded.color
    camera = Camera(recorded.name, *size, recorded.intrinsics, recorded.camera_from_world, color, lens)
    try:
        return without_lens(camera)
    except DataError as error:
        raise DataError(f"camera {recorded.name}: {error}") from error


def scaled(camera: Camera, scale: float) -> Camera:
    """The same camera with round(size * scale) pixels."""
    return camera.resized(max(round(camera.width * scale), 1), max(round(camera.height * scale), 1))
