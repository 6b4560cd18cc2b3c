"""Small pictures of what the stages made: mattes, clouds, meshes over frames, canonical coordinates, errors."""

import base64

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError
from pipeline.head.model.pose import scale_of

CANONICAL_REACH = 0.6  # head units (15 cm) from the head's origin to a colour channel's end
ERROR_LEVELS = 64  # 8-bit levels at the end of the error colours
INK = np.array([58, 134, 201])  # tint of the shaded mesh


def encode(picture: np.ndarray, quality: int = 92) -> str:
    """A picture (h, w, 3) or (h, w) uint8 as a JPEG data URI, colours unsubsampled."""
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", stored, options)
    if not done:
        raise DataError(f"a picture of shape {picture.shape} and {picture.dtype} cannot be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def crop_like(frame: np.ndarray, source: Camera, crop: Camera) -> np.ndarray:
    """What `crop` sees of a `source` frame (H, W, ...) uint8, both standing in the same place: (h, w, ...)."""
    crop_from_source = crop.intrinsics @ np.linalg.inv(source.intrinsics)
    centres = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV puts pixel centres at whole numbers
    matrix = np.linalg.inv(centres) @ crop_from_source @ centres
    fill = (255, 255, 255) if frame.ndim == 3 else 0
    flags = cv2.INTER_AREA if matrix[0, 0] < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(frame, matrix[:2], (crop.width, crop.height), flags=flags, borderValue=fill)


def enlarged(camera: Camera, factor: int) -> Camera:
    """The same view with `factor` times the pixels per side."""
    return camera.crop(0, 0, 1 / factor, camera.width * factor, camera.height * factor)


def cloud(camera: Camera, points: np.ndarray, colors: np.ndarray, reach: int = 1) -> np.ndarray:
    """Points (N, 3) world metres in colors (N, 3) uint8 as squares of 2 * reach + 1 pixels, nearest in front."""
    pixels, depth = camera.project(points.astype(np.float64))
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), -1).reshape(-1, 1, 2)
    places = (np.floor(pixels).astype(int) + offsets).reshape(-1, 2)
    depth, owner = np.tile(depth, len(offsets)), np.tile(np.arange(len(points)), len(offsets))
    inside, (column, row) = camera.inside(places, depth), places.T
    far_to_near = np.flatnonzero(inside)[np.argsort(-depth[inside], kind="stable")]
    picture = np.full((camera.height, camera.width, 3), 255, np.uint8)
    picture[row[far_to_near], column[far_to_near]] = colors[owner[far_to_near]]
    return picture


def normal_colors(normals: np.ndarray, head_from_world: np.ndarray) -> np.ndarray:
    """World normals (..., 3) turned to head space (4, 4 similarity), x y z as red green blue uint8."""
    rotation = head_from_world[:3, :3] / scale_of(head_from_world)
    return np.clip((normals.astype(np.float64) @ rotation.T * 0.5 + 0.5) * 255, 0, 255).astype(np.uint8)


def over_white(colors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Colors (h, w, 3) of any range, clipped to uint8, where mask (h, w) is not 0; white elsewhere."""
    return np.where(mask[..., None] > 0, np.clip(colors, 0, 255), 255).astype(np.uint8)


def canonical_colors(x_can: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Canonical x y z of buffers (h, w, 5) as red green blue uint8 over white, mid grey at the head's origin."""
    return over_white((x_can[..., :3] / CANONICAL_REACH * 0.5 + 0.5) * 255, mask)


def shaded(camera: Camera, normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mesh lit from the camera, (h, w, 3) uint8 over white; normals (h, w, 3) world."""
    rays = camera.rays()
    cosine = np.clip(-(rays * normals).sum(-1) / np.linalg.norm(rays, axis=-1), 0, 1)
    return over_white(INK * (0.25 + 0.75 * cosine[..., None]) + 60 * cosine[..., None] ** 8, mask)


def overlay(frame: np.ndarray, mesh: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The shaded mesh half transparent over the frame, its outline drawn; pictures (h, w, 3), mask (h, w) uint8."""
    blend = np.where(mask[..., None] > 0, 0.45 * frame + 0.55 * mesh, frame).astype(np.uint8)
    outlines, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(blend), outlines, -1, (255, 200, 40), 1, cv2.LINE_AA)


def error_colors(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the channels in magma colours (h, w, 3) uint8, bright from ERROR_LEVELS up."""
    error = np.abs(prediction.astype(np.int16) - truth).mean(-1)
    return magma(np.clip(error / ERROR_LEVELS, 0, 1))


def magma(values: np.ndarray) -> np.ndarray:
    """Values (h, w) in [0, 1] as magma colours (h, w, 3) uint8."""
    levels = np.rint(values * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
