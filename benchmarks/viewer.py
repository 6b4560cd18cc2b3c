"""How fast the viewer draws the avatar for a view that moves, on one core.

    python -m benchmarks.viewer [--frames N] [--height H]

A random head of the shipped prior, an avatar of the demo's size with weights of no meaning (which cost the same), views
on an arc before it, at the demo's picture size. Seconds are CPU time of this process, so that other work on the machine
does not count. Prints one JSON line last: frames_per_s and milliseconds by part while a view is dragged, and in one
step at full size; refined_s in all steps.
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
from pipeline.viewer.draw import draft, refined


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
    eyes = np.full(6, np.nan, np.float32)
    figures: dict[str, object] = {"triangles": len(mesh.faces), "steps": avatar.sampling.steps}
    for name, drawn in (("dragging", draft(avatar, picture)), ("one_step", picture)):
        spent = []
        for view in path:
            marks = [time.process_time()]
            *_, shown = refined(avatar, rasterizer, mesh, code, eyes, view, centre, drawn, 1)
            marks.append(time.process_time())
            cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 90])
            marks.append(time.process_time())
            scale = size[1] / drawn.height
            buffers.draw(rasterizer, mesh, [view.crop(0, 0, scale, drawn.width, drawn.height)])
            spent.append(np.diff([*marks, time.process_time()]))
        frame, coding, raster = 1e3 * np.median(spent[1:], axis=0)
        ms = {"rasterise": raster, "networks": frame - raster, "code": coding}
        figures[name] = {
            "size": f"{drawn.width}x{drawn.height}",
            "frames_per_s": round(1e3 / (frame + coding), 2),
            "ms": {part: round(float(value), 1) for part, value in ms.items()},
        }
    began = time.process_time()
    *_, _ = refined(avatar, rasterizer, mesh, code, eyes, path[0], centre, picture, avatar.sampling.steps)
    figures["refined_s"] = round(time.process_time() - began, 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
