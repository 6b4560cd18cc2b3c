"""The pictures that cameras are judged by or found from: a few moments of a sequence, the person roughly masked."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.cameras.rig import Rig
from pipeline.capture.formats.base import Capture
from pipeline.capture.pictures.decode import probe_source, read_masks, read_picture, read_source
from pipeline.capture.pictures.ingest import PLATE, Developer
from pipeline.capture.pictures.matting import lit_plate
from pipeline.capture.sfm.matching.matches import View
from pipeline.errors import DataError

# Levels that a picture differs from its plate by where the person is; roughly is enough: no edge is matched anyway.
DIFFERENT = 20.0


MOMENTS = 3  # that cameras are judged by: one moment's matches are too few on small pictures


def shortest(capture: Capture, sequence: str) -> int:
    """Frames of a sequence that all its recordings have."""
    return min(probe_source(source).frames for source in capture.pictures(sequence).values())


def few_moments(capture: Capture, sequence: str, count: int = MOMENTS) -> list[int]:
    """`count` frames spread over a sequence, as many as its shortest recording has at most."""
    frames = shortest(capture, sequence)
    return sorted({round(share * (frames - 1)) for share in np.linspace(0.1, 0.9, count)})


def views_of(
    capture: Capture,
    sequence: str,
    rig: Rig,
    moments: Sequence[int],
    find_person: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[View]:
    """Each camera's pictures (working size) at the frames `moments`.

    Masks are the capture's own, else what differs from the plate, else where `find_person` sees one (H, W) in [0, 1];
    without any of them the whole picture counts: what stands still beside the person ties cameras that stand still.
    """
    sources, masks, plates = capture.pictures(sequence), capture.masks(sequence), capture.plates()
    views = []
    for camera in rig.cameras:
        shape = Developer(camera).shape  # colours, which no match needs, stay
        plate = shape(read_picture(plates[camera.name], PLATE)) if camera.name in plates else None
        pictures, covers = [], []
        for moment in moments:
            at = range(moment, moment + 1)
            picture = shape(next(iter(read_source(sources[camera.name], at))))
            cover = None
            if camera.name in masks:
                cover = shape(next(iter(read_masks(masks[camera.name], at))))
            elif plate is not None:
                try:
                    cover = _differing(picture, plate)
                except DataError as error:
                    raise DataError(f"{capture.folder}: camera {camera.name}, frame {moment}: {error}") from error
            elif find_person is not None:
                cover = (find_person(picture) > 0.5).astype(np.uint8) * 255
            pictures.append(picture)
            covers.append(cover)
        views.append(View(camera.name, tuple(pictures), tuple(covers)))
    return views


def _differing(picture: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 255 where a picture differs from its plate, both (H, W, 3)."""
    smooth, wall = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), 1.0) for p in (picture, plate))
    distance = np.linalg.norm(smooth - lit_plate(smooth, wall)[0], axis=2)
    return (distance > DIFFERENT).astype(np.uint8) * 255
