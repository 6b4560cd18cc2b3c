"""Pictures seen through a cropped camera, area-correct, and put back to where they were cropped out."""

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError


def coverage(first: float, ratio: float, new: int, old: int) -> np.ndarray:
    """Share of each old pixel in each new one along an axis, (new, old) float32.

    New pixel i covers [first + i ratio, first + (i + 1) ratio) of the old axis; a row sums to 1 where that lies inside
    [0, old), to less at the border, to 0 outside.
    """
    edges = first + ratio * np.arange(new + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(old)[None]
    return (np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) / ratio).astype(np.float32)


def crop_weights(source: Camera, crop: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Row weights (h, H) and column weights (w, W): crop = rows @ picture @ columns.T.

    Raises DataError when `crop` is not `source` cropped and scaled.
    """
    source_from_crop = source.intrinsics @ np.linalg.inv(crop.intrinsics)
    scale = np.diag([source_from_crop[0, 0], source_from_crop[1, 1], 1.0])
    shear = source_from_crop - scale
    shear[:2, 2] = 0
    if np.abs(shear).max() > 1e-6 or np.abs(source.camera_from_world - crop.camera_from_world).max() > 1e-9:
        raise DataError(f"camera {crop.name}: the rig's camera is not a crop of the capture's camera {source.name}")
    left, top = source_from_crop[:2, 2]
    rows = coverage(top, scale[1, 1], crop.height, source.height)
    columns = coverage(left, scale[0, 0], crop.width, source.width)
    return rows, columns


def resample(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A picture (H, W, K) float32 averaged over the pixels of a crop, (h, w, K); outside the picture lies 0."""
    return np.einsum("hH,HWk,wW->hwk", rows, picture, columns, optimize=True)


def placed(head: np.ndarray, camera: Camera, view: Camera) -> np.ndarray:
    """The picture (h, w, 3) of a camera that was cropped out of a view, in the view's picture (H, W, 3) over white."""
    scale = view.intrinsics[0, 0] / camera.intrinsics[0, 0]
    left, top = view.intrinsics[:2, 2] - scale * camera.intrinsics[:2, 2]
    reach = 2 * scale + 2  # of the cubic kernel: what lies farther out is white, and need not be computed
    low = np.floor([left - reach, top - reach]).clip(0, (view.width, view.height)).astype(int)
    ends = (left + scale * camera.width + reach, top + scale * camera.height + reach)
    high = np.ceil(ends).clip(low, (view.width, view.height)).astype(int)
    picture = np.full((view.height, view.width, 3), 255, np.uint8)
    if (high > low).all():
        x, y = (scale / 2 + first - 0.5 - start for first, start in zip((left, top), low, strict=True))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        white = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (255,) * 3}
        part = cv2.warpAffine(head, np.array([[scale, 0, x], [0, scale, y]]), tuple(high - low), flags=how, **white)
        picture[low[1] : high[1], low[0] : high[0]] = part
    return picture
