"""The pictures that a format lists, decoded: frames of a film or picture files, alike."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.formats.base import Film, Source
from pipeline.capture.video import VideoInfo, probe, read_frames
from pipeline.errors import DataError


def read_picture(path: Path, expected: str, upright: bool = False) -> np.ndarray:
    """A picture file (H, W, 3) uint8 sRGB as it is stored, or `upright`, as it is shown. Raises DataError, saying what
    was expected."""
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.cvtColor(_load(path, flags, expected), cv2.COLOR_BGR2RGB)


def read_grey(path: Path, expected: str) -> np.ndarray:
    """A mask file (H, W) uint8: its alpha where it has one, its grey otherwise."""
    picture = _load(path, cv2.IMREAD_UNCHANGED, expected)
    if picture.dtype != np.uint8:
        picture = (picture / np.iinfo(picture.dtype).max * 255 + 0.5).astype(np.uint8)
    if picture.ndim == 3:
        picture = picture[..., 3] if picture.shape[2] == 4 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return picture


def _load(path: Path, flags: int, expected: str) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {expected}")
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise DataError(f"{path}: not a readable picture; expected {expected}")
    return picture


def probe_source(source: Source) -> VideoInfo:
    """Number of frames and size of a recording; of picture files the first one's size."""
    if isinstance(source, Film):
        return probe(source.path)
    height, width = read_picture(source.paths[0], "a picture of this camera", source.upright).shape[:2]
    return VideoInfo(len(source.paths), width, height)


def read_source(source: Source, numbers: range) -> Iterator[np.ndarray]:
    """The frames with these numbers (ascending, from 0), each (H, W, 3) uint8 sRGB."""
    if isinstance(source, Film):
        yield from read_frames(source.path, numbers)
    else:
        for path in source.files(numbers):
            yield read_picture(path, "a picture of this camera", source.upright)


def read_masks(source: Source, numbers: range) -> Iterator[np.ndarray]:
    """The masks with these numbers (ascending, from 0), each (H, W) uint8, person 255."""
    if isinstance(source, Film):
        for picture in read_frames(source.path, numbers):
            yield cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    else:
        for path in source.files(numbers):
            yield read_grey(path, "a mask of this camera")
