"""Cameras in other people's forms: COLMAP's text files and the transforms.json of radiance field tools."""

import json

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.cameras.rig import Rig

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def colmap(rig: Rig) -> dict[str, str]:
    """COLMAP's cameras.txt, images.txt and points3D.txt, without points, of images {camera}.png; world metres."""
    cameras, images = ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"], ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"]
    for number, camera in enumerate(rig.cameras, start=1):
        k, pose = camera.intrinsics, camera.camera_from_world
        lens = " ".join(f"{value:.17g}" for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        cameras.append(f"{number} PINHOLE {camera.width} {camera.height} {lens}")
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat(scalar_first=True)
        place = " ".join(f"{value:.17g}" for value in (*turn, *pose[:3, 3]))
        images += [f"{number} {place} {number} {camera.name}.png", ""]
    return {
        "cameras.txt": "\n".join(cameras) + "\n",
        "images.txt": "\n".join(images) + "\n",
        "points3D.txt": "# no points\n",
    }


def transforms(rig: Rig) -> str:
    """transforms.json: OpenGL axes (y up, looking along -z), camera to world, a lens per picture {camera}.png."""
    frames = [
        {
            "file_path": f"{camera.name}.png",
            "w": camera.width,
            "h": camera.height,
            "fl_x": camera.intrinsics[0, 0],
            "fl_y": camera.intrinsics[1, 1],
            "cx": camera.intrinsics[0, 2],
            "cy": camera.intrinsics[1, 2],
            "transform_matrix": (camera.world_from_camera @ OPENGL_FROM_OPENCV).tolist(),
        }
        for camera in rig.cameras
    ]
    return json.dumps({"camera_model": "OPENCV", "frames": frames}, indent=1) + "\n"
