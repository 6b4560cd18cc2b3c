"""How fast the viewer renders the avatar for a view that moves, on one core or more.

    python -m benchmarks.viewer [--results results/901] [--frames N] [--height H] [--threads 2]

The results' own avatar and head, or a random head of the shipped prior and an avatar of the demo's size with weights of
no meaning (which cost the same); views on an arc before it, at the demo's picture size. Seconds are CPU time of this
process, so that other work on the machine counts little. Prints one JSON line last: frames_per_s by CPU time, by_clock
as one waits for them, and milliseconds by part, while a view is dragged, and of the whole picture in one step;
refined_s in all steps; levels: mean difference of the dragged view from the whole picture where that is not white, of
255.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from pipeline.avatar.data.pictures import eye_poses
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar
from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Frame, Picture, look_at, orbit
from pipeline.errors import DataError
from pipeline.head.model import pose
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.mesh.mesh import Mesh
from pipeline.motion.retarget import home
from pipeline.raster import buffers
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.settings.architecture import Architecture
from pipeline.settings.mesh import MeshSettings
from pipeline.settings.rig import RigSettings
from pipeline.viewer.__main__ import PRIOR
from pipeline.viewer.render import draft, refined
from pipeline.viewer.results import Results


class Scene(NamedTuple):
    """A head, its avatar, and where it is seen from."""

    mesh: Mesh
    avatar: Avatar
    code: np.ndarray
    eyes: np.ndarray
    frame: Frame
    distance: float


def made_up() -> Scene:
    """A random head and an avatar that has learned nothing."""
    torch.manual_seed(0)
    prior, settings = load_prior(PRIOR), MeshSettings()
    frame = Frame(np.zeros(3), np.array([0, 1.0, 0]), np.array([0, 0, 1.0]))
    z_id = prior.z_id_from(torch.randn(prior.config.identity_modes))
    neck = Plane(settings.neck_offset, settings.neck_tilt_degrees)
    place = pose.similarity(frame.centre, frame.up, frame.front, 4.0)
    mesh = mesh_head(prior, z_id, prior.neutral, place, settings.voxel_mm, neck)
    avatar = Avatar(Architecture(), prior.config.exp).eval().requires_grad_(False).channels_last()
    return Scene(mesh, avatar, prior.neutral.numpy(), np.full(6, np.nan, np.float32), frame, 1.0)


def found(folder: Path, rig: RigSettings) -> Scene:
    """The first time step of the first sequence."""
    results = Results(folder)
    sequence = results.sequences[0]
    track, mesh, identity = results.track(sequence), results.mesh(sequence, 0), results.identity
    if track is None or mesh is None or identity is None or results.avatar is None:
        raise DataError(f"{folder}: no avatar, or no fitted head")
    frame = Frame.upright(*pose.centre_up_front(home(identity))).shifted(rig.shift_up, rig.shift_front)
    distance = np.mean([np.linalg.norm(camera.centre - frame.centre) for camera in results.rig.cameras])
    avatar = read_avatar(results.avatar).channels_last()
    return Scene(mesh, avatar, track["z_exp"][0], eye_poses(track)[0], frame, float(distance))


def main() -> None:
    """Render and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="a subject's results, such as results/901")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--height", type=int, default=480, help="of the view, pixels")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    rig = RigSettings()
    mesh, avatar, code, eyes, frame, distance = found(options.results, rig) if options.results else made_up()
    size = (options.height * 3 // 2, options.height)
    lens = np.array([[size[1] * 1.9, 0, size[0] / 2], [0, size[1] * 1.9, size[1] / 2], [0, 0, 1]])
    start = Camera("0", *size, lens, look_at(frame.centre + distance * frame.front, frame.centre, frame.up), np.eye(3))
    picture = Picture(rig.width, rig.height, rig.metres)
    path = orbit([start], frame, Picture(*size, 0.5), options.frames + 1, 35, 6).cameras
    rasterizer, watch, shown = EmbreeRasterizer(), Watch(), {}
    watch.wrap(buffers, "rasterize", "rasterise")
    watch.wrap(avatar, "conditions", "features")
    watch.wrap(avatar, "forward", "networks")
    figures: dict[str, object] = {"triangles": len(mesh.faces), "steps": avatar.sampling.steps}
    for name, size, whole in (("dragging", draft(avatar, picture), False), ("one_step", picture, True)):
        shown[name], rows, waited = [], [], []
        for view in path:
            watch.spent.clear()
            clock, began = time.perf_counter(), time.process_time()
            *_, seen = refined(avatar, rasterizer, mesh, code, eyes, view, frame.centre, size, 1, whole)
            ended = time.process_time()
            cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, 90])
            coded = time.process_time()
            waited.append(time.perf_counter() - clock)
            rows.append({"all": coded - began, **watch.spent, "code": coded - ended})
            shown[name].append(seen.astype(float))
        ms = {part: 1e3 * float(np.median([row[part] for row in rows[1:]])) for part in rows[0]}
        ms["rest"] = 2 * ms["all"] - sum(ms.values())
        rates = {"frames_per_s": 1e3 / ms["all"], "by_clock": 1 / float(np.median(waited[1:]))}
        figures[name] = {rate: round(value, 2) for rate, value in rates.items()} | {
            "ms": {k: round(v, 1) for k, v in ms.items()}
        }
    apart = np.abs(np.stack(shown["dragging"]) - shown["one_step"]).mean(-1)
    figures["levels"] = round(float(apart[np.stack(shown["one_step"]).min(-1) < 240].mean()), 2)
    began = time.process_time()
    *_, _ = refined(avatar, rasterizer, mesh, code, eyes, path[0], frame.centre, picture, avatar.sampling.steps)
    figures["refined_s"] = round(time.process_time() - began, 2)
    print(json.dumps(figures))


class Watch:
    """CPU seconds spent inside functions that it is put round."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def wrap(self, owner: Any, function: str, name: str) -> None:
        """Measure `owner.function` from now on under a name."""
        inner = getattr(owner, function)

        def timed(*arguments: Any) -> Any:
            began = time.process_time()
            result = inner(*arguments)
            self.spent[name] = time.process_time() - began
            return result

        setattr(owner, function, timed)


if __name__ == "__main__":
    main()
