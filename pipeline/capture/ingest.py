"""A span of a recorded sequence read into memory: frames of all cameras, colour-corrected and matted."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.calibration import plate_path, read_plate, video_path
from pipeline.capture.colour import correct_color
from pipeline.capture.matting import alpha_from_plate
from pipeline.capture.video import VideoInfo, probe, read_frames
from pipeline.errors import DataError


def check_videos(capture: Path, sequence: str, rig: Rig, frames: int) -> None:
    """Raise DataError unless every camera has a whole video of `frames` frames and a plate, both of the rig's shape."""
    paths = [video_path(capture, sequence, camera.name) for camera in rig.cameras]
    missing = [camera.name for camera, path in zip(rig.cameras, paths, strict=True) if not path.is_file()]
    if missing:
        raise DataError(
            f"{paths[0].parent}: sequence {sequence} has no video of camera {', '.join(missing)}; "
            f"expected cam_<serial>.mp4 for all {len(paths)} calibrated cameras"
        )
    counts = {}
    for camera, path in zip(rig.cameras, paths, strict=True):
        info = probe(path)
        counts[camera.name] = info.frames
        _check_shape(path, info, camera)
        plate = plate_path(capture, camera.name)
        height, width = read_plate(plate).shape[:2]
        if (width, height) != (info.width, info.height):
            raise DataError(f"{plate}: {width}x{height}; expected the video's size, {info.width}x{info.height}")
    _check_counts(paths[0].parent, counts, frames)


def read_span(
    capture: Path,
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
    for c, camera in enumerate(rig.cameras):
        plate = _develop(read_plate(plate_path(capture, camera.name)), camera)
        frames = read_frames(video_path(capture, sequence, camera.name), numbers)
        for t, frame in enumerate(frames):
            rgb[t, c] = _develop(frame, camera)
            alpha[t, c] = alpha_from_plate(rgb[t, c], plate, *matte_levels)
        on_camera(c + 1)
    return rgb, alpha


def _develop(picture: np.ndarray, camera: Camera) -> np.ndarray:
    """A recorded picture (H, W, 3) at the working size in the rig's common colours."""
    if picture.shape[:2] != (camera.height, camera.width):
        picture = cv2.resize(picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return correct_color(picture, camera.color)


def _check_shape(path: Path, info: VideoInfo, camera: Camera) -> None:
    """Raise DataError unless one scale takes the video's size to the camera's, each side rounded."""
    scale = camera.width / info.width
    if scale > 1 or abs(info.height * scale - camera.height) > 0.5 * (1 + info.height / info.width):
        raise DataError(
            f"{path}: camera {camera.name} recorded {info.width}x{info.height}, which no scale makes "
            f"{camera.width}x{camera.height}; expected the size that cameras.json was made for"
        )


def _check_counts(folder: Path, counts: dict[str, int], frames: int) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"{folder}: cameras have different frame counts ({listed}); expected {frames} each")
    found = next(iter(counts.values()))
    if found != frames:
        raise DataError(f"{folder}: the videos have {found} frames; captures.tsv declares {frames}")
