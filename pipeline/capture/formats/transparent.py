"""Whether a picture brings its mask along: an alpha channel that is transparent somewhere."""

from functools import cache
from pathlib import Path

from PIL import Image


@cache
def has_alpha(path: Path) -> bool:
    """Whether a PNG or WebP picture has an alpha channel and a pixel that is wholly transparent.

    Only pictures whose header promises alpha are decoded, by Pillow, since planning asks: programs write opaque alpha
    channels too, and those are no masks.
    """
    if path.suffix.lower() not in (".png", ".webp") or not path.is_file():
        return False
    try:
        with Image.open(path) as picture:
            return picture.mode in ("LA", "RGBA") and picture.getchannel("A").getextrema()[0] == 0
    except OSError:
        return False  # not readable: whoever needs its pixels says so
