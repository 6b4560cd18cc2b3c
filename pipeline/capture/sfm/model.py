"""Matches and cameras as COLMAP's database and model: image i + 1 is view i, its keypoints those of all moments."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm.matching.matches import Pairs, Seen

SEED = 1
# Its progress lines would drown the stage's own
pycolmap.logging.minloglevel = pycolmap.logging.WARNING  # pyright: ignore[reportAttributeAccessIssue]  # its stubs say read-only


def lenses(cameras: Sequence[Camera], shared: bool) -> tuple[list[pycolmap.Camera], list[int]]:
    """COLMAP's cameras and which of them each camera has (number from 1); `shared`: equal sizes and lenses are one."""
    found: dict[tuple, int] = {}
    made, index = [], []
    for number, camera in enumerate(cameras):
        matrix = camera.intrinsics
        key = (camera.width, camera.height, *matrix.ravel()) if shared else (number,)
        if key not in found:
            found[key] = len(found) + 1
            uneven = abs(matrix[1, 1] / matrix[0, 0] - 1) > 1e-9
            focal = [matrix[0, 0], matrix[1, 1]] if uneven else [matrix[0, 0]]
            made.append(
                pycolmap.Camera(
                    camera_id=found[key],
                    model="PINHOLE" if uneven else "SIMPLE_PINHOLE",
                    width=camera.width,
                    height=camera.height,
                    params=[*focal, matrix[0, 2], matrix[1, 2]],
                    has_prior_focal_length=True,
                )
            )
        index.append(found[key])
    return made, index


def write_database(path: Path, seen: Sequence[Seen], cameras: Sequence[Camera], pairs: Pairs, shared: bool) -> None:
    """The views, their features and matches, with the cameras' intrinsics; no poses."""
    made, index = lenses(cameras, shared)
    with pycolmap.Database.open(path) as database:
        for lens in made:
            database.write_camera(lens, use_camera_id=True)
            rig = pycolmap.Rig(rig_id=lens.camera_id)
            rig.add_ref_sensor(lens.sensor_id)
            database.write_rig(rig, use_rig_id=True)
        for number, (view, lens) in enumerate(zip(seen, index, strict=True), start=1):
            image = pycolmap.Image(name=str(number), camera_id=lens, image_id=number)
            database.write_image(image, use_image_id=True)
            frame = pycolmap.Frame(frame_id=number, rig_id=lens)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(number, view.pixels.astype(np.float32))
        for (a, b), matches in pairs.items():
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = matches.astype(np.uint32)
            database.write_matches(a + 1, b + 1, matches.astype(np.uint32))
            database.write_two_view_geometry(a + 1, b + 1, geometry)


def posed(cameras: Sequence[Camera], shared: bool) -> pycolmap.Reconstruction:
    """A model of the cameras with their poses and no points."""
    made, index = lenses(cameras, shared)
    result = pycolmap.Reconstruction()
    for lens in made:
        result.add_camera_with_trivial_rig(lens)
    for number, (camera, lens) in enumerate(zip(cameras, index, strict=True), start=1):
        image = pycolmap.Image(name=str(number), camera_id=lens, image_id=number)
        result.add_image_with_trivial_frame(image, pycolmap.Rigid3d(camera.camera_from_world[:3]))
    return result


def placed(result: pycolmap.Reconstruction, cameras: Sequence[Camera]) -> dict[int, Camera]:
    """The cameras that the model has poses for, by number, as it has them."""
    found = {}
    for number in sorted(result.reg_image_ids()):
        image = result.image(number)
        pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        matrix = result.camera(image.camera_id).calibration_matrix()
        found[number - 1] = replace(cameras[number - 1], intrinsics=matrix, camera_from_world=pose)
    return found
