"""Focal lengths of photographs by their EXIF, in pixels of the picture as it is shown."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import IFD, Base

DIAGONAL_35 = 43.267  # millimetres of a 36 x 24 mm picture, which equivalent focal lengths are told for
MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0}  # per unit of the sensor's resolution


def focal_pixels(path: Path) -> float | None:
    """The focal length of a picture file in pixels; None where it does not say, or is no picture that holds EXIF."""
    try:
        with Image.open(path) as picture:
            width, height, tags = picture.width, picture.height, picture.getexif().get_ifd(IFD.Exif)
    except UnidentifiedImageError:
        return None
    equivalent = float(tags.get(Base.FocalLengthIn35mmFilm) or 0)
    if equivalent > 0:
        return equivalent / DIAGONAL_35 * (width**2 + height**2) ** 0.5
    focal, resolution = (float(tags.get(tag) or 0) for tag in (Base.FocalLength, Base.FocalPlaneXResolution))
    unit = MILLIMETRES.get(tags.get(Base.FocalPlaneResolutionUnit, 0))
    # The resolution is that of the picture as it was taken: a resized one keeps the tags of its original.
    taken = tags.get(Base.ExifImageWidth)
    if focal > 0 and resolution > 0 and unit and taken in (width, height):
        return focal * resolution / unit
    return None
