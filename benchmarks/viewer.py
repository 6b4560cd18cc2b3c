"""How fast the viewer draws the avatar for a view that moves, on one core.

    python -m benchmarks.viewer [--frames N] [--height H]

A random head of the shipped prior, an avatar of the demo's size with weights of no meaning (which cost the same), views
on an arc before it, at the demo's picture size. Seconds are CPU time of this process, so that other work on the machine
does not count. Prints one JSON line last: frames_per_s in one step, its milliseconds by part, refined_s in all steps.
"""

import argparse
import json
import time

import cv2
import numpy as np
import torch

from pipeline.avatar.model.avatar import Avatar
from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Frame, Picture, look_at, orbit
from pipeline.head.model import pose
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.raster import buffers
from pipeline.raster.embree import EmbreeRasterizer
from pipeline.settings.architecture import Architecture
from pipeline.settings.mesh import MeshSettings
from pipeline.settings.rig import RigSettings
from pipeline.viewer.__main__ import PRIOR
from pipeline.viewer.draw import refined


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--height", type=int, default=480, help="of the view, pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    prior, mesh_settings, rig = load_prior(PRIOR), MeshSettings(), RigSettings()
    centre, up, front = np.zeros(3), np.array([0, 1.0, 0]), np.array([0, 0, 1.0])
    z_id = prior.z_id_from(torch.randn(prior.config.identity_modes))
    neck = Plane(mesh_settings.neck_offset, mesh_settings.neck_tilt_degrees)
    mesh = mesh_head(prior, z_id, prior.neutral, pose.similarity(centre, up, front, 4.0), mesh_settings.voxel_mm, neck)
    avatar = Avatar(Architecture(), prior.config.exp).eval().requires_grad_(False)
    size = (options.height * 3 // 2, options.height)
    lens = np.array([[size[1] * 1.9, 0, size[0] / 2], [0, size[1] * 1.9, size[1] / 2], [0, 0, 1]])
    start = Camera("0", *size, lens, look_at(centre + front, centre, up), np.eye(3))
    picture = Picture(rig.width, rig.height, rig.metres)
    path = orbit([start], Frame(centre, up, front), Picture(*size, 0.5), options.frames + 1, 35, 6).cameras
    rasterizer, code = EmbreeRasterizer(), prior.neutral.numpy()
    spent = []
    for view in path:
        began = time.process_time()
        *_, shown = refined(avatar, rasterizer, mesh, code, view, centre, picture, 1)
        drawn = time.process_time()
        cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 90])
        coded = time.process_time()
        buffers.draw(rasterizer, mesh, [view.crop(0, 0, size[1] / rig.height, rig.width, rig.height)])
        spent.append((drawn - began, coded - drawn, time.process_time() - coded))
    frame, coding, raster = np.median(spent[1:], axis=0)
    began = time.process_time()
    steps = avatar.sampling.steps
    *_, _ = refined(avatar, rasterizer, mesh, code, path[0], centre, picture, steps)
    parts = {"rasterise": raster, "networks": frame - raster, "code": coding}
    figures = {
        "frames_per_s": round(1 / (frame + coding), 2),
        "ms": {name: round(1e3 * float(value), 1) for name, value in parts.items()},
        "refined_s": round(time.process_time() - began, 2),
        "steps": steps,
        "triangles": len(mesh.faces),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
