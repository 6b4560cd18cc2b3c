"""A span of a recorded sequence picture by picture: frames of all cameras, colour-corrected and matted."""

from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.distortion import Straightener
from pipeline.cameras.rig import Rig
from pipeline.capture.formats.base import Capture
from pipeline.capture.pictures.colour import correct_color, read_tint, tinted
from pipeline.capture.pictures.cover import check_alpha, check_mask
from pipeline.capture.pictures.decode import probe_source, read_masks, read_picture, read_source
from pipeline.capture.pictures.matting import Matter, alpha_from_score
from pipeline.capture.pictures.video import VideoInfo, check_rates
from pipeline.errors import DataError

FindPerson = Callable[[np.ndarray], np.ndarray]  # a picture (H, W, 3) uint8 to how surely each pixel is person (H, W)
PLATE = "the picture of the empty set seen by this camera"


def check_recording(capture: Capture, sequence: str, rig: Rig, frames: int, part: bool = False) -> None:
    """Raise DataError unless every camera recorded `frames` frames, or `part`: at least as many, of the rig's shape,
    and has masks or a plate like them, if any."""
    sources, masks, plates = capture.pictures(sequence), capture.masks(sequence), capture.plates()
    missing = [name for name in rig.names if name not in sources or not sources[name].files()[0].is_file()]
    if missing:
        raise DataError(
            f"{capture.folder}: sequence {sequence} has no recording of camera "
            f"{', '.join(missing)}; expected one of all {len(rig.cameras)} cameras of cameras.json"
        )
    infos = {}
    for camera in rig.cameras:
        infos[camera.name] = info = probe_source(sources[camera.name])
        _check_shape(sources[camera.name].files()[0], info, camera)
        if camera.name in masks:
            check_mask(masks[camera.name], sources[camera.name], info)
        elif plate := plates.get(camera.name):
            height, width = read_picture(plate, PLATE).shape[:2]
            if (width, height) != (info.width, info.height):
                raise DataError(f"{plate}: {width}x{height}; expected the video's size, {info.width}x{info.height}")
    where = f"{capture.folder}: {sequence}"
    _check_counts(where, {name: info.frames for name, info in infos.items()}, frames, part)
    check_rates(where, infos)


def read_span(
    capture: Capture,
    sequence: str,
    rig: Rig,
    numbers: range,
    matte_levels: tuple[float | None, float | None],
    find_person: FindPerson | None = None,
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Of the frames `numbers`, camera by camera: place in the span, camera, picture (h, w, 3) uint8 sRGB and alpha
    (h, w) uint8, person 255, of the camera's own size.

    One camera's files are open at a time: a decoder of full-size pictures holds many. Alpha comes from the capture's
    masks, else from its plates with `matte_levels`, else from where `find_person` sees one. Raises DataError
    with camera and frame where an alpha cannot be that of a person.
    """
    sources, masks, plates = capture.pictures(sequence), capture.masks(sequence), capture.plates()
    tints = capture.tints(sequence)
    for c, camera in enumerate(rig.cameras):
        develop = Developer(camera, tints.get(camera.name))
        own, plate = masks.get(camera.name), plates.get(camera.name)
        matter = Matter(develop(read_picture(plate, PLATE)), *matte_levels) if plate and not own else None
        covers = read_masks(own, numbers) if own else repeat(None)
        pictures = read_source(sources[camera.name], numbers)
        for t, (picture, cover) in enumerate(zip(pictures, covers, strict=own is not None)):
            try:
                rgb = develop(picture)
                if cover is not None:
                    alpha = develop.shape(cover)
                elif matter:
                    alpha = matter(rgb)
                elif find_person is not None:
                    alpha = alpha_from_score(rgb, find_person(rgb))
                else:
                    raise DataError("has neither masks nor a plate; expected one")
                check_alpha(alpha, own is not None)
            except DataError as error:
                place = f"{capture.folder}: {sequence}: camera {camera.name}, frame {numbers[t]}"
                raise DataError(f"{place}: {error}") from error
            yield t, c, rgb, alpha


class Developer:
    """Makes recorded pictures of one camera straight, of its working size and in the rig's common colours."""

    def __init__(self, camera: Camera, tint: Path | None = None):
        """`tint`: a sequence's own correction of the camera's sRGB, instead of its colours in linear light."""
        self.camera = camera
        self.tint = None if tint is None else read_tint(tint)
        self.straighten = Straightener(camera) if camera.lens else None

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """A recorded picture (H, W, 3) uint8 sRGB."""
        picture = self.shape(picture)
        return correct_color(picture, self.camera.color) if self.tint is None else tinted(picture, self.tint)

    def shape(self, picture: np.ndarray) -> np.ndarray:
        """A recorded picture or mask (H, W, ...) uint8, only straightened and resized.

        Raises DataError where it has not the shape of the camera's pictures.
        """
        height, width = picture.shape[:2]
        if not _alike(width, height, self.camera):
            raise DataError(f"{width}x{height}; expected the shape of {self.camera.width}x{self.camera.height}")
        if self.straighten:
            picture = self.straighten(picture)
        size = (self.camera.width, self.camera.height)
        if picture.shape[1::-1] != size:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return picture


def _check_shape(path: Path, info: VideoInfo, camera: Camera) -> None:
    """Raise DataError unless one scale takes the video's size to the camera's, each side rounded."""
    enlarged = min(camera.width / info.width, camera.height / info.height) > 1  # in one direction: squashed pictures
    if enlarged or not _alike(info.width, info.height, camera):
        raise DataError(
            f"{path}: camera {camera.name} recorded {info.width}x{info.height}, which no scale makes "
            f"{camera.width}x{camera.height}; expected the size that cameras.json was made for"
        )


def _recorded(camera: Camera) -> tuple[int, int]:
    """Width and height of recorded pictures, but for their scale: those of the lens, which may be squashed."""
    return (camera.lens.width, camera.lens.height) if camera.lens else (camera.width, camera.height)


def _alike(width: int, height: int, camera: Camera) -> bool:
    """Whether a picture scaled to the width of a camera's recordings has their height, each side rounded."""
    across, down = _recorded(camera)
    return abs(height * across / width - down) <= 0.5 * (1 + max(1, across / width) * height / width)


def _check_counts(where: str, counts: dict[str, int], frames: int, part: bool) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"{where}: cameras have different frame counts ({listed}); expected {frames} each")
    found = next(iter(counts.values()))
    if found < frames if part else found != frames:
        raise DataError(f"{where}: the recordings have {found} frames; captures.tsv declares {frames}")
