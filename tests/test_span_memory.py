"""Memory of a stage is a function of the picture's size, not of the span's length: measured on the whole process."""

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from avatar_scene import TINY

from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import trained_tensors, write_avatar
from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import look_at
from pipeline.cameras.rig import Rig, write_rig
from pipeline.mesh.mesh import Mesh, write_meshes
from pipeline.provenance import ROOT
from pipeline.settings.architecture import Architecture
from pipeline.store.chunk import Array, write_chunk

SIZE, CAMERAS, SPANS = 320, 4, (2, 12)
PEAK = """
import pathlib, re, runpy, sys
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
status = pathlib.Path("/proc/self/status").read_text()  # getrusage counts the process that this one was forked from
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024)
"""


def peak_mib(module: str, *arguments: object) -> float:
    """Peak resident memory of a stage's process."""
    command = [sys.executable, "-c", PEAK, module, *map(str, arguments)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Peaks of stages, one after the other, for a short and a long span of a ball."""
    folder = tmp_path_factory.mktemp("spans")
    ball = trimesh.creation.icosphere(3, radius=0.1)
    vertices = ball.vertices.astype(np.float32)
    mesh = Mesh(vertices, np.pad(4 * vertices, ((0, 0), (0, 2))), ball.faces.astype(np.int32))
    intrinsics = np.array([[700.0, 0, SIZE / 2], [0, 700, SIZE / 2], [0, 0, 1]])
    eyes = [np.array([0.1 * camera, 0, 0.6]) for camera in range(CAMERAS)]
    poses = [look_at(eye, np.zeros(3), np.array([0.0, 1, 0])) for eye in eyes]
    cameras = (Camera(str(number), SIZE, SIZE, intrinsics, pose, np.eye(3)) for number, pose in enumerate(poses))
    rig, track = folder / "rig.json", folder / "track.zarr.zip"
    write_rig(rig, Rig(tuple(cameras)))
    heads = np.repeat(np.diag([4.0, 4, 4, 1])[None], max(SPANS), 0)
    codes = Array(np.zeros((max(SPANS), 4), np.float32), ("time", "code"), "", "")
    poses = Array(heads, ("time", "row", "column"), "", "")
    write_chunk(track, {"head_from_world": poses, "z_exp": codes}, {"sequence": "S"})
    avatar, avatar_file = Avatar(Architecture(**TINY), code_size=4), folder / "avatar.safetensors"
    write_avatar(avatar_file, avatar, trained_tensors(avatar), steps=0)
    found: dict[str, list[float]] = {"rasterize": [], "isolate": [], "render": []}
    for steps in SPANS:
        meshes, buffers, frames = (folder / f"{kind}{steps}.zarr.zip" for kind in ("meshes", "buffers", "frames"))
        write_meshes(meshes, [mesh] * steps, {"neck": {"offset": -1.0, "tilt_degrees": 0.0}})
        alpha = np.full((steps, CAMERAS, SIZE, SIZE), 255, np.uint8)
        axes = ("time", "camera", "row", "column")
        write_chunk(
            frames,
            {
                "rgb": Array(alpha[..., None].repeat(3, -1), (*axes, "channel"), "", ""),
                "alpha": Array(alpha, axes, "", ""),
            },
            {},
        )
        span = ["--subject", "s", "--sequence", "S", "--start", 0, "--stop", steps, "--rig", rig]
        peak = peak_mib("pipeline.stages.rasterize", *span, "--meshes", meshes, "--output", buffers)
        found["rasterize"].append(peak)
        files = ["--frames", frames, "--buffers", buffers, "--track", track, "--cameras", rig]
        targets = folder / f"targets{steps}.zarr.zip"
        found["isolate"].append(peak_mib("pipeline.stages.isolate", *span, *files, "--output", targets))
        files = ["--part", "--avatar", avatar_file, "--buffers", buffers, "--track", track]
        output = ["--output", folder / f"rendered{steps}.zarr.zip"]
        found["render"].append(peak_mib("pipeline.stages.render", *files, *output))
    return found


@pytest.mark.parametrize("stage", ["rasterize", "isolate", "render"])
def test_a_longer_span_takes_no_more(peaks: dict[str, list[float]], stage: str) -> None:
    """Ten more steps of four cameras are 127 MB of float32 buffers, 33 MB of frames and targets, and 12 MB of rendered
    pictures, which were held twice and coded."""
    short, long = peaks[stage]
    assert long < short + 25, peaks
