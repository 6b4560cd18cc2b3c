"""A span of a recorded sequence picture by picture: frames of all cameras, colour-corrected and matted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.distortion import Straightener
from pipeline.cameras.rig import Rig
from pipeline.capture.colour import correct_color, read_tint, tinted
from pipeline.capture.decode import probe_source, read_masks, read_picture, read_source
from pipeline.capture.formats.base import Capture, Source
from pipeline.capture.matting import Matter, alpha_from_score
from pipeline.capture.video import VideoInfo
from pipeline.errors import DataError

WHOLE_BORDER = 0.5  # of a border's pixels: a person may touch any border, but not most of all four
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
    counts = {}
    for camera in rig.cameras:
        info = probe_source(sources[camera.name])
        counts[camera.name] = info.frames
        _check_shape(sources[camera.name].files()[0], info, camera)
        if camera.name in masks:
            _check_mask(masks[camera.name], sources[camera.name], info)
        elif plate := plates.get(camera.name):
            height, width = read_picture(plate, PLATE).shape[:2]
            if (width, height) != (info.width, info.height):
                raise DataError(f"{plate}: {width}x{height}; expected the video's size, {info.width}x{info.height}")
    _check_counts(f"{capture.folder}: {sequence}", counts, frames, part)


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
        pictures = map(develop, read_source(sources[camera.name], numbers))
        if camera.name in masks:
            alphas = map(develop.shape, read_masks(masks[camera.name], numbers))
            for t, (rgb, alpha) in enumerate(zip(pictures, alphas, strict=True)):
                yield t, c, rgb, _plausible(alpha, _place(capture, sequence, camera, numbers[t]))
        elif camera.name in plates:
            matter = Matter(develop(read_picture(plates[camera.name], PLATE)), *matte_levels)
            for t, rgb in enumerate(pictures):
                place = _place(capture, sequence, camera, numbers[t])
                try:
                    alpha = matter(rgb)
                except DataError as error:
                    raise DataError(f"{place}: {error}") from error
                yield t, c, rgb, _plausible(alpha, place)
        elif find_person is not None:
            for t, rgb in enumerate(pictures):
                place = _place(capture, sequence, camera, numbers[t])
                yield t, c, rgb, _plausible(alpha_from_score(rgb, find_person(rgb)), place)
        else:
            raise DataError(f"{capture.folder}: camera {camera.name} has neither masks nor a plate; expected one")


def _place(capture: Capture, sequence: str, camera: Camera, number: int) -> str:
    return f"{capture.folder}: {sequence}: camera {camera.name}, frame {number}"


def _plausible(alpha: np.ndarray, place: str) -> np.ndarray:
    """The alpha (H, W) uint8; raises DataError when nobody is in it, or the person is all round the picture."""
    person = alpha > 127
    if not person.any():
        raise DataError(f"{place}: the alpha is empty; expected the person in it")
    borders = {"top": person[0], "bottom": person[-1], "left": person[:, 0], "right": person[:, -1]}
    if all(border.mean() > WHOLE_BORDER for border in borders.values()):
        covered = ", ".join(f"{name} {border.mean():.0%}" for name, border in borders.items())
        raise DataError(
            f"{place}: the alpha covers most of every border ({covered}); expected background beside the person: "
            "does the plate show the same set in the same light?"
        )
    return alpha


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
        """A recorded picture or mask (H, W, ...) uint8, only straightened and resized."""
        if self.straighten:
            picture = self.straighten(picture)
        size = (self.camera.width, self.camera.height)
        if picture.shape[1::-1] != size:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return picture


def _check_mask(masks: Source, source: Source, info: VideoInfo) -> None:
    """Raise DataError where a camera has not as many masks as pictures, or its masks have another shape."""
    found, where = probe_source(masks), masks.files()[0]
    if found.frames != info.frames:
        raise DataError(f"{where}: {found.frames} masks; expected {info.frames}, as {source.files()[0]} has pictures")
    if abs(found.width * info.height - found.height * info.width) > max(found.width, found.height):
        shape = f"{info.width}x{info.height}"
        raise DataError(f"{where}: {found.width}x{found.height}; expected the picture's shape, {shape}")


def _check_shape(path: Path, info: VideoInfo, camera: Camera) -> None:
    """Raise DataError unless one scale takes the video's size to the camera's, each side rounded."""
    scale = camera.width / info.width
    if scale > 1 or abs(info.height * scale - camera.height) > 0.5 * (1 + info.height / info.width):
        raise DataError(
            f"{path}: camera {camera.name} recorded {info.width}x{info.height}, which no scale makes "
            f"{camera.width}x{camera.height}; expected the size that cameras.json was made for"
        )


def _check_counts(where: str, counts: dict[str, int], frames: int, part: bool) -> None:
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"{where}: cameras have different frame counts ({listed}); expected {frames} each")
    found = next(iter(counts.values()))
    if found < frames if part else found != frames:
        raise DataError(f"{where}: the recordings have {found} frames; captures.tsv declares {frames}")
