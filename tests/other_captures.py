"""The tiny capture as other people's tools would have it: transforms.json with masks, a COLMAP model with a lens."""

import json
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from pipeline.cameras.rig import Rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from tests.tiny_videos import decode_all

LENS = (-0.2, 0.05, 0.001, -0.002)  # k1 k2 p1 p2


def pictures_of(capture: Path, sequence: str, camera: str) -> list[np.ndarray]:
    """Decoded frames (H, W, 3) BGR of a NeRSemble capture."""
    frames = decode_all(capture / "sequences" / sequence / "images" / f"cam_{camera}.mp4")
    return [frame.to_ndarray(format="bgr24") for frame in frames]


def write_transforms(capture: Path, folder: Path, sequence: str, **shared: object) -> Rig:
    """`folder`/`sequence`/transforms.json with stills and masks (a disc) of the tiny capture; the rig behind it."""
    rig, frames = read_rig_of(open_capture(capture), 1.0), []
    (folder / sequence / "images").mkdir(parents=True)
    for index, camera in enumerate(rig.cameras):
        pose = np.linalg.inv(camera.camera_from_world) @ np.diag([1.0, -1, -1, 1])
        for step, picture in enumerate(pictures_of(capture, sequence, camera.name)):
            name = f"images/{step:05d}_{index:02d}.png"
            cv2.imwrite(str(folder / sequence / name), picture)
            mask = cv2.circle(np.zeros(picture.shape[:2], np.uint8), (128, 180), 90, 255, -1)
            cv2.imwrite(str(folder / sequence / f"mask_{step:05d}_{index:02d}.png"), mask)
            frames.append(
                {
                    "timestep_index": step,
                    "camera_index": index,
                    "camera_id": camera.name,
                    "fl_x": camera.intrinsics[0, 0],
                    "fl_y": camera.intrinsics[1, 1],
                    "cx": camera.intrinsics[0, 2],
                    "cy": camera.intrinsics[1, 2],
                    "w": camera.width,
                    "h": camera.height,
                    "transform_matrix": pose.tolist(),
                    "file_path": name,
                    "fg_mask_path": f"mask_{step:05d}_{index:02d}.png",
                }
            )
    (folder / sequence / "transforms.json").write_text(json.dumps({**shared, "frames": frames}))
    return rig


def write_colmap(capture: Path, folder: Path, sequence: str, model: str, binary: bool) -> Rig:
    """`folder`/sparse/0 with `model` cameras, the second of them half as large, and images/<camera>/<frame>.png."""
    rig = read_rig_of(open_capture(capture), 1.0)
    colmap = pycolmap.Reconstruction()
    for number, camera in enumerate(rig.cameras, start=1):
        share = 0.5 if number == 2 else 1.0
        focal, middle = camera.intrinsics[[0, 1], [0, 1]] * share, camera.intrinsics[:2, 2] * share
        params = {"OPENCV": [*focal, *middle, *LENS], "SIMPLE_RADIAL": [focal[0], *middle, -0.1]}[model]
        size = (round(camera.width * share), round(camera.height * share))
        colmap.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=number, model=model, width=size[0], height=size[1], params=params)
        )
        image = pycolmap.Image(image_id=number, camera_id=number, name=f"{camera.name}.png")
        colmap.add_image_with_trivial_frame(image, pycolmap.Rigid3d(camera.camera_from_world[:3]))
        (folder / "images" / camera.name).mkdir(parents=True)
        for step, picture in enumerate(pictures_of(capture, sequence, camera.name)):
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / "images" / camera.name / f"{step:03d}.png"), small)
    (folder / "sparse/0").mkdir(parents=True)
    (colmap.write_binary if binary else colmap.write_text)(str(folder / "sparse/0"))
    return rig
