"""A span of a recorded sequence read into memory: frames of all cameras, colour-corrected and matted."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.colour import correct_color
from pipeline.capture.decode import probe_source, read_masks, read_picture, read_source
from pipeline.capture.formats.base import Capture, Source
from pipeline.capture.matting import alpha_from_plate
from pipeline.capture.video import VideoInfo
from pipeline.errors import DataError

PLATE = "the picture of the empty set seen by this camera"


def check_recording(capture: Capture, sequence: str, rig: Rig, frames: int) -> None:
    """Raise DataError unless every camera has a whole recording of `frames` frames, and plates, of the rig's shape."""
    sources, plates = capture.pictures(sequence), capture.plates()
    missing = {name: path for name in rig.names if not (path := sources[name].files()[0]).is_file()}
    if missing:
        raise DataError(
            f"{next(iter(missing.values())).parent}: sequence {sequence} has no recording of camera "
            f"{', '.join(missing)}; expected one of all {len(rig.cameras)} cameras of cameras.json"
        )
    counts = {}
    for camera in rig.cameras:
        info = probe_source(sources[camera.name])
        counts[camera.name] = info.frames
        _check_shape(sources[camera.name].files()[0], info, camera)
        if plate := plates.get(camera.name):
            height, width = read_picture(plate, PLATE).shape[:2]
            if (width, height) != (info.width, info.height):
                raise DataError(f"{plate}: {width}x{height}; expected the video's size, {info.width}x{info.height}")
    _check_counts(f"{capture.folder}: {sequence}", counts, frames)


def read_span(
    capture: Capture,
    sequence: str,
    rig: Rig,
    numbers: range,
    matte_levels: tuple[float, float],
    on_camera: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (T, C, H, W, 3) uint8 sRGB and alpha (T, C, H, W) uint8, person 255, of the frames `numbers`.

    `matte_levels` are `alpha_from_plate`'s thresholds; `on_camera` is told how many cameras are done. All cameras
    have the first one's size.
    """
    first = rig.cameras[0]
    shape = (len(numbers), len(rig.cameras), first.height, first.width)
    rgb, alpha = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
    sources, masks, plates = capture.pictures(sequence), capture.masks(sequence), capture.plates()
    for c, camera in enumerate(rig.cameras):
        for t, frame in enumerate(read_source(sources[camera.name], numbers)):
            rgb[t, c] = _develop(frame, camera)
        if camera.name in masks:
            alpha[:, c] = _masks(masks[camera.name], camera, numbers)
        elif camera.name in plates:
            plate = _develop(read_picture(plates[camera.name], PLATE), camera)
            for t in range(len(numbers)):
                alpha[t, c] = alpha_from_plate(rgb[t, c], plate, *matte_levels)
        else:
            raise DataError(f"{capture.folder}: camera {camera.name} has neither masks nor a plate; expected one")
        on_camera(c + 1)
    return rgb, alpha


def _develop(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """A recorded picture (H, W, 3) at the working size in the rig's common colours."""
    return correct_color(_resized(picture, camera), camera.color)


def _masks(source: Source, camera: Camera, numbers: range) -> np.ndarray:
    """(T, H, W) uint8 at the working size."""
    return np.stack([_resized(mask, camera) for mask in read_masks(source, numbers)])


def _resized(picture: np.ndarray, camera: Camera) -> np.ndarray:
    if picture.shape[:2] != (camera.height, camera.width):
        picture = cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return picture


def _check_shape(path: Path, info: VideoInfo, camera: Camera) -> None:
    """Raise DataError unless one scale takes the video's size to the camera's, each side rounded."""
    scale = camera.width / info.width
    if scale > 1 or abs(info.height * scale - camera.height) > 0.5 * (1 + info.height / info.width):
        raise DataError(
            f"{path}: camera {camera.name} recorded {info.width}x{info.height}, which no scale makes "
            f"{camera.width}x{camera.height}; expected the size that cameras.json was made for"
        )


def _check_counts(where: str, counts: dict[str, int], frames: int) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"{where}: cameras have different frame counts ({listed}); expected {frames} each")
    found = next(iter(counts.values()))
    if found != frames:
        raise DataError(f"{where}: the recordings have {found} frames; captures.tsv declares {frames}")
