"""Numbers of a calibration file, checked: matrices that a camera can have."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError

# Published poses are written with 6 digits or more; a scaled or sheared "rotation" is off by far more than this.
ORTHONORMAL_TOLERANCE = 1e-4


def read_json(path: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError saying what was expected."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {expected}")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); expected {expected}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected an object with {expected}")
    return content


def matrix(value: Any, rows: int, columns: tuple[int, ...], what: str) -> np.ndarray:
    """A matrix (rows, one of columns) float64 of finite numbers. Raises DataError that begins with `what`."""
    shapes = f"{rows}x{columns[0]}" if len(columns) == 1 else f"{rows}xN with N in {', '.join(map(str, columns))}"
    try:
        result = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} is not a matrix of numbers; expected {shapes}") from error
    if result.ndim != 2 or result.shape[0] != rows or result.shape[1] not in columns:
        raise DataError(f"{what} has shape {result.shape}; expected {shapes}")
    if not np.isfinite(result).all():
        raise DataError(f"{what} holds non-finite numbers; expected {shapes}")
    return result


def intrinsics(value: Any, what: str) -> np.ndarray:
    """Intrinsics (3, 3). Raises DataError that begins with `what`."""
    result = matrix(value, 3, (3,), what)
    lower = (result[1, 0], result[2, 0], result[2, 1])
    if any(lower) or result[2, 2] != 1:
        raise DataError(f"{what} are {result.tolist()}; expected an upper triangular matrix with last row 0 0 1")
    if result[0, 0] <= 0 or result[1, 1] <= 0:
        raise DataError(f"{what} are singular or mirrored: {result.tolist()}; expected positive focal lengths")
    return result


def pose(value: Any, what: str) -> np.ndarray:
    """A rigid pose (4, 4). Raises DataError that begins with `what`."""
    result = matrix(value, 4, (4,), what)
    rotation = result[:3, :3]
    if not _rotates(rotation):
        size = np.cbrt(np.linalg.det(rotation))
        hint = f": it also scales by {size:.4g}" if size > 0 and _rotates(rotation / size) else ""
        raise DataError(
            f"{what} does not rotate: {rotation.tolist()}; expected an orthonormal, right-handed 3x3 part{hint}"
        )
    if (result[3] != (0, 0, 0, 1)).any():
        raise DataError(f"{what} has last row {result[3].tolist()}; expected 0 0 0 1")
    return result


def _rotates(part: np.ndarray) -> bool:
    """Whether a matrix (3, 3) is a rotation's, as exactly as files have it."""
    return bool(np.abs(part @ part.T - np.eye(3)).max() <= ORTHONORMAL_TOLERANCE and np.linalg.det(part) > 0)


def rotation(vector: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of a Rodrigues vector (3,): its axis times the angle in radians."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * across @ across


def is_nothing(value: Any) -> bool:
    """Whether all numbers in a value of a JSON file are zero."""
    if isinstance(value, dict | list):
        return all(map(is_nothing, value.values() if isinstance(value, dict) else value))
    return not value
