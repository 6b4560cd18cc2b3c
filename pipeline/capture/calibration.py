"""A capture's cameras turned into the rig at the working scale."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.distortion import square, without_lens
from pipeline.cameras.rig import Rig
from pipeline.capture.formats.base import Capture, RecordedCamera
from pipeline.capture.pictures.decode import probe_source
from pipeline.capture.pictures.video import VideoInfo
from pipeline.capture.plausible import check_rig
from pipeline.cli import log
from pipeline.errors import DataError

SQUASHED = 1.05  # ratio of focal lengths: solving for cameras leaves 1 or 2 %


def read_rig_of(capture: Capture, scale: float, names: Sequence[str] | None = None) -> Rig:
    """The rig of a capture at `scale` (0, 1], cameras sorted by name; `names`: only these of them.

    Raises DataError naming the file and camera when a file is missing or a number in it cannot be a camera's, or all
    of them together cannot be those of cameras round one person.
    """
    recorded = capture.calibration()
    chosen = [camera for camera in recorded if names is None or camera.name in names]
    cameras = [_pinhole(camera) for camera in chosen]
    other = [
        (of, own) for of, own in zip(chosen, cameras, strict=True) if of.size not in (None, (own.width, own.height))
    ]
    if other:
        of, own = other[0]
        log.warning(
            "%s: %d cameras are calibrated for other sizes than their pictures have, as %s for %dx%d of %dx%d: scaled",
            capture.folder, len(other), own.name, *(of.size or ()), own.width, own.height,
        )  # fmt: skip
    check_rig(cameras, bool(capture.metric), str(next(iter(capture.calibration_files()), capture.folder)))
    return Rig(tuple(scaled(camera, scale) for camera in _squared(cameras, str(capture.folder))))


def _squared(cameras: list[Camera], where: str) -> list[Camera]:
    """The cameras with square pixels; a line says so where pictures are squashed."""
    ratios = {camera.name: camera.intrinsics[0, 0] / camera.intrinsics[1, 1] for camera in cameras}
    result = {c.name: c if 1 / SQUASHED < ratios[c.name] < SQUASHED else square(c) for c in cameras}
    squashed = [camera for camera in cameras if result[camera.name] is not camera]
    if not squashed:
        return cameras
    first, shown = squashed[0], result[squashed[0].name]
    log.warning(
        "%s: %d cameras have focal lengths that differ, as %s by a factor of %.3f, so their pictures were squashed: "
        "%dx%d are stretched to %dx%d; are the focal lengths right?",
        where, len(squashed), first.name, ratios[first.name], first.width, first.height, shown.width, shown.height,
    )  # fmt: skip
    return list(result.values())


def _pinhole(recorded: RecordedCamera) -> Camera:
    """A camera at the recorded size, straightened."""
    shown = probe_source(recorded.sized_by) if recorded.sized_by else None
    size = recorded.size or (shown and (shown.width, shown.height))
    if size is None:
        raise DataError(f"camera {recorded.name}: its picture size is not known; expected it in the calibration")
    lens = recorded.lens and replace(recorded.lens, width=size[0], height=size[1])
    color = np.eye(3) if recorded.color is None else recorded.color
    camera = Camera(recorded.name, *size, recorded.intrinsics, recorded.camera_from_world, color, lens)
    try:
        straight = without_lens(camera)
    except DataError as error:
        raise DataError(f"camera {recorded.name}: {error}") from error
    return straight if shown is None else _fitted(straight, shown, recorded)


def _fitted(camera: Camera, shown: VideoInfo, recorded: RecordedCamera) -> Camera:
    """The camera for pictures as they are: of another size than was calibrated, but of its shape. Raises DataError."""
    if (shown.width, shown.height) == (camera.width, camera.height):
        return camera
    path = next(iter(recorded.sized_by.files())) if recorded.sized_by else recorded.name
    found, expected = f"{shown.width}x{shown.height}", f"{camera.width}x{camera.height}"
    if abs(shown.width * camera.height / camera.width - shown.height) > 1:
        turned = (shown.width > shown.height) != (camera.width > camera.height)
        hint = ": turned by its EXIF, or after it was calibrated?" if turned else ""
        raise DataError(
            f"{path}: camera {camera.name} recorded {found}, and is calibrated for {expected}; expected one shape{hint}"
        )
    return camera.resized(shown.width, shown.height)


def scaled(camera: Camera, scale: float) -> Camera:
    """The same camera with round(size * scale) pixels."""
    return camera.resized(max(round(camera.width * scale), 1), max(round(camera.height * scale), 1))
