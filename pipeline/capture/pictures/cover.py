"""Whether a mask can be that of a person in a picture: found before matching, in one line."""

import numpy as np

from pipeline.capture.formats.base import Source
from pipeline.capture.pictures.decode import probe_source
from pipeline.capture.pictures.video import VideoInfo
from pipeline.errors import DataError

WHOLE_BORDER = 0.5  # of a border's pixels: a person may touch any border, but not most of all four


def check_alpha(alpha: np.ndarray, given: bool) -> None:
    """Raise DataError when an alpha (H, W) uint8 is empty, covers most of every border, or covers the borders more than
    the middle, as a mask of the background does. `given`: it is a mask that somebody made."""
    person = alpha > 127
    if not person.any():
        found = f"the mask's values end at {alpha.max()}" if given else "the alpha is empty"
        raise DataError(f"{found}; expected the person in it{', 255 where it surely is' if given else ''}")
    borders = {"top": person[0], "bottom": person[-1], "left": person[:, 0], "right": person[:, -1]}
    covered = ", ".join(f"{name} {border.mean():.0%}" for name, border in borders.items())
    if all(border.mean() > WHOLE_BORDER for border in borders.values()):
        hint = "is it the other way round?" if given else "does the plate show the same set in the same light?"
        raise DataError(
            f"the alpha covers most of every border ({covered}); expected background beside the person: {hint}"
        )
    height, width = person.shape
    middle = person[height // 4 : height - height // 4, width // 4 : width - width // 4].mean()
    ring = np.concatenate(list(borders.values())).mean()
    if ring > WHOLE_BORDER and middle < ring:
        raise DataError(
            f"the alpha covers {ring:.0%} of the borders ({covered}) and {middle:.0%} of the middle; "
            "expected the person, not the background"
        )


def check_mask(masks: Source, source: Source, info: VideoInfo) -> None:
    """Raise DataError where a camera has not as many masks as pictures, or its masks have another shape."""
    found, where = probe_source(masks), masks.files()[0]
    if found.frames != info.frames:
        raise DataError(f"{where}: {found.frames} masks; expected {info.frames}, as {source.files()[0]} has pictures")
    if abs(found.width * info.height - found.height * info.width) > max(found.width, found.height):
        shape = f"{info.width}x{info.height}"
        raise DataError(f"{where}: {found.width}x{found.height}; expected the picture's shape, {shape}")
