"""The lens of a frame of transforms.json, as one of COLMAP's models."""

import re
from typing import Any

from pipeline.cameras.camera import Lens
from pipeline.capture.formats import numbers
from pipeline.errors import DataError

BENDS = ("k1", "k2", "k3", "k4", "p1", "p2")
FISHEYE = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
# Models that BENDS are all of.
MODELS = (*FISHEYE, "OPENCV", "FULL_OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
# Other keys that bend a picture, in the files of Metashape, nerfstudio's FISHEYE624 and instant-ngp.
BENDING = re.compile(r"k[5-9]|p[3-9]|s[1-6]|b[12]|.*distortion.*|ftheta.*|latlong|equirectangular|rolling_shutter")


def lens_of(frame: dict[str, Any], pinhole: tuple[float, ...], bends: dict[str, float], where: str) -> Lens | None:
    """COLMAP's model for the coefficients; its size is 0 where the file has none."""
    k1, k2, k3, k4, p1, p2 = (bends[key] for key in BENDS)
    if str(frame.get("camera_model")).upper() in FISHEYE or frame.get("is_fisheye"):
        return Lens("OPENCV_FISHEYE", 0, 0, (*pinhole, k1, k2, k3, k4))  # bends without any coefficient
    if not any(bends.values()):
        return None
    if k4:
        raise DataError(f"{where}: k4 {k4} of a camera that is no fisheye; expected k1, k2, k3, p1, p2")
    if k3:
        return Lens("FULL_OPENCV", 0, 0, (*pinhole, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0))
    return Lens("OPENCV", 0, 0, (*pinhole, k1, k2, p1, p2))


def check_model(frame: dict[str, Any], where: str) -> None:
    """Raise DataError where a lens is described by more than BENDS."""
    model = frame.get("camera_model")
    if model is not None and str(model).upper() not in MODELS:
        raise DataError(f"{where}: camera_model {model!r}; expected one of {', '.join(MODELS)}")
    for key, value in frame.items():
        if BENDING.fullmatch(key) and not numbers.is_nothing(value):
            raise DataError(f"{where}: {key} {value!r} is not read; expected a lens of {', '.join(BENDS)}")
