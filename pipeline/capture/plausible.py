"""Whether a calibration can be that of cameras round one person: found before any picture is opened, in one line."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.errors import DataError

FEWEST = 3  # cameras: the person's hull, with which every cloud begins, needs three
SKEW = 1e-3  # shares of the focal length: what rounding leaves
UNEVEN = 2.0  # ratio of the focal lengths; pixels are square to 1 %, pictures made square from 16:9 squashed by 1.78
# Focal lengths as shares of the picture's longer side: of 136 degrees, and of 4. Normalised ones and millimetres are
# below, sensors' units above.
FOCAL = (0.2, 15.0)
FACTORS = (2.0, 4.0, 8.0, 0.5, 0.25, 0.125)  # between the calibration's pictures and the recorded ones
NEAR_FACTOR = 0.15  # by which a principal point may miss such a factor
# Metres from the cameras to what they look at. The rigs of this field stand 0.6 to 1.5 m away, phones 0.3.
DISTANCE = (0.15, 8.0)
UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254, "kilometres": 1e3}
ROUNDS = 10  # of reweighted least squares for the common point: it has settled after six
# Another reading of the poses is right when the cameras aim better by this factor, and these do not aim well: a share
# of the distance. Read the wrong way, 901 aims past by 0.088 and 904 by 0.1, right by 0; a phone walked round by 0.048.
MUCH_BETTER, AIMED = 0.5, 0.03
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
READINGS = {
    "as the inverse (world-from-camera)": np.linalg.inv,
    "in OpenGL's axes (y up, z backwards)": lambda pose: OPENGL @ pose,
    "as the inverse in OpenGL's axes": lambda pose: OPENGL @ np.linalg.inv(pose),
}


def check_rig(cameras: Sequence[Camera], metric: bool, where: str) -> None:
    """Raise DataError, beginning with `where`, unless the cameras (full size) can be a rig round one person.

    `metric`: the format states poses in metres.
    """
    for camera in cameras:
        check_intrinsics(camera, f"{where}: camera {camera.name}")
    check_count([camera.name for camera in cameras], where)
    check_poses(cameras, where)
    target = common_point(cameras)
    distance = float(np.median([np.linalg.norm(camera.centre - target) for camera in cameras]))
    if metric and not DISTANCE[0] <= distance <= DISTANCE[1]:
        units = [name for name, unit in UNITS.items() if DISTANCE[0] <= distance * unit <= DISTANCE[1]]
        hint = f"; {distance:.4g} {units[0]} would make sense" if units else ""
        raise DataError(
            f"{where}: the cameras stand {distance:.4g} m from what they look at; "
            f"expected {DISTANCE[0]} to {DISTANCE[1]:g} m{hint}"
        )


def check_count(names: Sequence[str], where: str) -> None:
    """Raise DataError, beginning with `where`, unless there are cameras enough for a surface."""
    if len(names) < FEWEST:
        found = f": {', '.join(names)}" if names else ""
        raise DataError(
            f"{where}: {len(names)} cameras; expected {FEWEST} at least, or no surface can be confirmed{found}"
        )


def check_intrinsics(camera: Camera, what: str) -> None:
    """Raise DataError, beginning with `what`, unless a picture of the camera's size can have its intrinsics."""
    matrix, half = camera.intrinsics, np.array([camera.width, camera.height]) / 2
    focal, point, size = matrix[[0, 1], [0, 1]], matrix[:2, 2], f"{camera.width}x{camera.height}"
    if abs(matrix[0, 1]) > SKEW * focal[0]:
        raise DataError(f"{what}: skew of {matrix[0, 1]:.4g} pixels; expected none: stereo cannot undo it")
    ratio = point / half
    for factor in FACTORS:
        if (np.abs(ratio / factor - 1) < NEAR_FACTOR).all():
            fitting = f"{camera.width * factor:g}x{camera.height * factor:g}"
            raise DataError(
                f"{what}: principal point ({point[0]:.4g}, {point[1]:.4g}) in a picture of {size}; "
                f"expected it near the centre: these intrinsics fit pictures of {fitting}"
            )
    if (point < 0).any() or (point > 2 * half).any():
        raise DataError(
            f"{what}: principal point ({point[0]:.4g}, {point[1]:.4g}) outside its picture of {size}; "
            f"expected it near ({half[0]:g}, {half[1]:g})"
        )
    longer = max(camera.width, camera.height)
    if not FOCAL[0] * longer <= min(focal) <= max(focal) <= FOCAL[1] * longer:
        raise DataError(
            f"{what}: focal lengths {focal[0]:.4g} and {focal[1]:.4g} in a picture of {size}; expected "
            f"{FOCAL[0] * longer:.4g} to {FOCAL[1] * longer:.4g} pixels: are they normalised, or millimetres?"
        )
    if max(focal) > UNEVEN * min(focal):
        raise DataError(f"{what}: focal lengths {focal[0]:.4g} and {focal[1]:.4g} pixels; expected two alike")


def check_poses(cameras: Sequence[Camera], where: str) -> None:
    """Raise DataError unless all cameras look at one point; says which other reading of the poses would do."""
    centre = cameras[0].centre
    if all(np.array_equal(camera.centre, centre) for camera in cameras):
        raise DataError(f"{where}: all cameras stand at {centre.tolist()}; expected a rig round one person")
    astray, aim = looking_astray(cameras)
    others = {name: looking_astray(_read(cameras, read)) for name, read in READINGS.items()}
    sensible = {name: off for name, (lost, off) in others.items() if not lost}
    best = min(sensible, key=sensible.__getitem__, default=None)
    if best and (2 * len(astray) > len(cameras) or sensible[best] < MUCH_BETTER * (aim - AIMED)):
        found = f"{len(astray)} of {len(cameras)} cameras do not have a common point in their pictures"
        if not astray:
            found = f"the cameras look past each other's point by {aim:.2g} of its distance"
        raise DataError(f"{where}: {found}; expected a rig round one person: read {best}, the poses would make sense")
    if astray:
        raise DataError(
            f"{where}: camera {', '.join(astray)} does not have in its picture the point that most cameras look at; "
            "expected all cameras round one person"
        )


def looking_astray(cameras: Sequence[Camera]) -> tuple[list[str], float]:
    """Names of the cameras that do not have the common point before them and inside their picture; and how far the
    cameras' axes pass by it, a share of its distance (median)."""
    target = common_point(cameras)
    names, off = [], []
    for camera in cameras:
        pixel, depth = camera.project(target)
        if depth <= 0 or (pixel < 0).any() or (pixel > (camera.width, camera.height)).any():
            names.append(camera.name)
        away = target - camera.centre
        off.append(np.sqrt(max(1 - (depth / max(np.linalg.norm(away), 1e-12)) ** 2, 0)))
    return names, float(np.median(off))


def common_point(cameras: Sequence[Camera]) -> np.ndarray:
    """The point (3,) that the optical axes pass closest to, whatever a few of them do: least absolute distances."""
    axes = np.stack([camera.camera_from_world[2, :3] for camera in cameras])
    centres = np.stack([camera.centre for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None]  # (C, 3, 3): what is off the axis
    weight = np.ones(len(cameras))
    floor = 1e-3 * float(np.linalg.norm(centres - np.median(centres, 0), axis=1).mean()) + 1e-12
    for _ in range(ROUNDS):
        system, right = np.einsum("c,cij->ij", weight, across), np.einsum("c,cij,cj->i", weight, across, centres)
        # Parallel axes meet nowhere: the smallest correction stands in for it.
        point = np.linalg.lstsq(system, right, rcond=1e-9)[0]
        weight = 1 / np.maximum(np.linalg.norm(np.einsum("cij,cj->ci", across, point - centres), axis=1), floor)
    return point


def _read(cameras: Sequence[Camera], reading: Callable[[np.ndarray], np.ndarray]) -> list[Camera]:
    return [replace(camera, camera_from_world=reading(camera.camera_from_world)) for camera in cameras]
