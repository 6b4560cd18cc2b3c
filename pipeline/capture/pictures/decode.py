"""The pictures that a format lists, decoded: frames of a film or picture files, alike."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from pipeline.capture.formats.base import Film, Source
from pipeline.capture.pictures.video import VideoInfo, probe, read_frames
from pipeline.errors import DataError

OF_CAMERA = "a picture of this camera"
ON_SIDE = (5, 6, 7, 8)  # values of EXIF's orientation that swap width and height
START_OF_SCAN = b"\xda"  # the marker in a JPEG that the picture itself follows, after 0xff


def read_picture(path: Path, expected: str, upright: bool = False) -> np.ndarray:
    """A picture file (H, W, 3) uint8 sRGB as it is stored, or `upright`, as it is shown. Raises DataError, saying what
    was expected."""
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.cvtColor(_load(path, flags, expected), cv2.COLOR_BGR2RGB)


def read_grey(path: Path, expected: str) -> np.ndarray:
    """A mask file (H, W) uint8: its alpha where it has one that is not opaque, its grey otherwise.

    A mask of two values, one of them 0, is one of 0 and 255: labels 0 and 1, or two colours.
    """
    picture = _load(path, cv2.IMREAD_UNCHANGED, expected)
    full = np.iinfo(picture.dtype).max if picture.dtype.kind in "ui" else 1.0
    if picture.ndim == 3:
        colour, alpha = picture[..., :3], picture[..., 3:]
        # programs write opaque alpha channels beside grey masks; a photograph's own alpha is its mask, opaque or not
        grey = not alpha.size or (alpha.min() == full and (colour == colour[..., :1]).all())
        picture = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY) if grey else alpha[..., 0]
    highest = picture.max()
    if 0 < highest < full and ((picture == 0) | (picture == highest)).all():
        return np.where(picture > 0, np.uint8(255), np.uint8(0))
    return picture if picture.dtype == np.uint8 else (np.clip(picture / full, 0, 1) * 255 + 0.5).astype(np.uint8)


def _load(path: Path, flags: int, expected: str) -> np.ndarray:
    content = _content(path, expected)
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if picture is None:
        raise DataError(f"{path}: not a readable picture; expected {expected}")
    return picture


def _content(path: Path, expected: str) -> bytes:
    """The bytes of a picture file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {expected}")
    content = path.read_bytes()
    if cut_short(content):
        raise DataError(f"{path}: the JPEG is cut short at {len(content)} bytes; expected {expected}")
    return content


def cut_short(content: bytes) -> bool:
    """Whether a JPEG ends before its picture does: OpenCV fills such a picture up with grey."""
    at = 2
    while content[:2] == b"\xff\xd8" and content[at : at + 1] == b"\xff":
        if content[at + 1 : at + 2] == START_OF_SCAN:
            return content.find(b"\xff\xd9", at) < 0  # within the scan itself 0xff is followed by 0 or a restart
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return False


def probe_source(source: Source) -> VideoInfo:
    """Number of frames and size of a recording; of picture files the first one's size, by its header."""
    if isinstance(source, Film):
        return probe(source.path)
    content = _content(source.paths[0], OF_CAMERA)
    try:
        with Image.open(BytesIO(content)) as picture:
            width, height = picture.size
            on_side = source.upright and picture.getexif().get(Base.Orientation) in ON_SIDE
    except OSError as error:  # Pillow's own is one
        raise DataError(f"{source.paths[0]}: not a readable picture; expected {OF_CAMERA}") from error
    return VideoInfo(len(source.paths), *((height, width) if on_side else (width, height)))


def read_source(source: Source, numbers: range) -> Iterator[np.ndarray]:
    """The frames with these numbers (ascending, from 0), each (H, W, 3) uint8 sRGB."""
    if isinstance(source, Film):
        yield from read_frames(source.path, numbers)
    else:
        for path in source.files(numbers):
            yield read_picture(path, OF_CAMERA, source.upright)


def read_masks(source: Source, numbers: range) -> Iterator[np.ndarray]:
    """The masks with these numbers (ascending, from 0), each (H, W) uint8, person 255."""
    if isinstance(source, Film):
        for picture in read_frames(source.path, numbers):
            yield cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    else:
        for path in source.files(numbers):
            yield read_grey(path, "a mask of this camera")
