"""A NeRSemble v2 participant's calibration files turned into the rig at the working scale."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.colour import CHEUNG_TERMS
from pipeline.errors import DataError

# Published poses are written with 6 digits or more; a scaled or sheared "rotation" is off by far more than this.
ORTHONORMAL_TOLERANCE = 1e-4


def plate_path(capture: Path, camera: str) -> Path:
    """Where a capture keeps the picture of the empty set seen by one camera."""
    return capture / "sequences" / "BACKGROUND" / f"image_{camera}.jpg"


def video_path(capture: Path, sequence: str, camera: str) -> Path:
    """Where a capture keeps one camera's video of a sequence."""
    return capture / "sequences" / sequence / "images" / f"cam_{camera}.mp4"


def read_plate(path: Path) -> np.ndarray:
    """A background plate (H, W, 3) uint8 RGB as the camera wrote it. Raises DataError when missing or unreadable."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the picture of the empty set seen by this camera")
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DataError(f"{path}: not a readable picture; expected a JPEG of the empty set")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_capture_rig(capture: Path, scale: float) -> Rig:
    """The rig of a capture folder at `scale` (0, 1], cameras sorted by name.

    The calibration does not tell how large the pictures are: the background plates do. Raises DataError naming the
    file and camera when a file is missing or a number in it cannot be a camera's.
    """
    geometry_file = capture / "calibration" / "camera_params.json"
    color_file = capture / "calibration" / "color_calibration.json"
    geometry = _read_json(geometry_file, "world_2_cam (4x4 per camera) and intrinsics (3x3)")
    colors = _read_json(color_file, "a 3xN colour matrix per camera")
    for key in ("world_2_cam", "intrinsics"):
        if not geometry.get(key):
            raise DataError(f"{geometry_file}: no {key}; expected world_2_cam (4x4 per camera) and intrinsics (3x3)")
    shared = geometry["intrinsics"]
    cameras = []
    for name in sorted(geometry["world_2_cam"]):
        if name not in colors:
            raise DataError(f"{color_file}: no camera {name}; expected a 3xN colour matrix for every calibrated camera")
        if isinstance(shared, dict) and name not in shared:
            raise DataError(f"{geometry_file}: intrinsics of camera {name} missing; expected a 3x3 matrix")
        height, width = read_plate(plate_path(capture, name)).shape[:2]
        camera = Camera(
            name=name,
            width=width,
            height=height,
            intrinsics=_intrinsics(shared[name] if isinstance(shared, dict) else shared, geometry_file, name),
            camera_from_world=_pose(geometry["world_2_cam"][name], geometry_file, name),
            color=_color(colors[name], color_file, name),
        )
        cameras.append(scaled(camera, scale))
    return Rig(tuple(cameras))


def scaled(camera: Camera, scale: float) -> Camera:
    """The same camera with round(size * scale) pixels.

    Sides are scaled by the whole-pixel size that results, so the picture's edges stay on the same rays and a point
    at (u, v) moves to (u * new width / width, v * new height / height), pixel centres being at + 0.5.
    """
    width, height = max(round(camera.width * scale), 1), max(round(camera.height * scale), 1)
    stretch = np.diag([width / camera.width, height / camera.height, 1.0])
    return Camera(camera.name, width, height, stretch @ camera.intrinsics, camera.camera_from_world, camera.color)


def _read_json(path: Path, expected: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {expected}")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected {expected}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected an object with {expected}")
    return content


def _matrix(value: Any, rows: int, columns: tuple[int, ...], what: str) -> np.ndarray:
    shapes = f"{rows}x{columns[0]}" if len(columns) == 1 else f"{rows}xN with N in {', '.join(map(str, columns))}"
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} is not a matrix of numbers; expected {shapes}") from error
    if matrix.ndim != 2 or matrix.shape[0] != rows or matrix.shape[1] not in columns:
        raise DataError(f"{what} has shape {matrix.shape}; expected {shapes}")
    if not np.isfinite(matrix).all():
        raise DataError(f"{what} holds non-finite numbers; expected {shapes}")
    return matrix


def _intrinsics(value: Any, path: Path, camera: str) -> np.ndarray:
    what = f"{path}: intrinsics of camera {camera}"
    matrix = _matrix(value, 3, (3,), what)
    lower = (matrix[1, 0], matrix[2, 0], matrix[2, 1])
    if any(lower) or matrix[2, 2] != 1:
        raise DataError(f"{what} are {matrix.tolist()}; expected an upper triangular matrix with last row 0 0 1")
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise DataError(f"{what} are singular or mirrored: {matrix.tolist()}; expected positive focal lengths")
    return matrix


def _pose(value: Any, path: Path, camera: str) -> np.ndarray:
    what = f"{path}: world_2_cam of camera {camera}"
    matrix = _matrix(value, 4, (4,), what)
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > ORTHONORMAL_TOLERANCE or np.linalg.det(rotation) < 0:
        raise DataError(f"{what} does not rotate: {rotation.tolist()}; expected an orthonormal, right-handed 3x3 part")
    if (matrix[3] != (0, 0, 0, 1)).any():
        raise DataError(f"{what} has last row {matrix[3].tolist()}; expected 0 0 0 1")
    return matrix


def _color(value: Any, path: Path, camera: str) -> np.ndarray:
    return _matrix(value, 3, CHEUNG_TERMS, f"{path}: colour matrix of camera {camera}")
