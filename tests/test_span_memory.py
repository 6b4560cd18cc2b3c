"""Memory of a stage is a function of the picture's size, not of the span's length: measured on the whole process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import trimesh

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import look_at
from pipeline.cameras.rig import Rig, write_rig
from pipeline.mesh.mesh import Mesh, write_meshes
from pipeline.provenance import ROOT

SIZE, CAMERAS, SPANS = 320, 4, (2, 12)
PEAK = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mib(module: str, *arguments: object) -> float:
    """Peak resident memory of a stage's process."""
    command = [sys.executable, "-c", PEAK, module, *map(str, arguments)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_rasterize_takes_no_more_for_a_longer_span(tmp_path: Path) -> None:
    """Ten more steps of four cameras are 127 MB of float32 buffers."""
    ball = trimesh.creation.icosphere(3, radius=0.1)
    vertices = ball.vertices.astype(np.float32)
    mesh = Mesh(vertices, np.pad(4 * vertices, ((0, 0), (0, 2))), ball.faces.astype(np.int32))
    intrinsics = np.array([[700.0, 0, SIZE / 2], [0, 700, SIZE / 2], [0, 0, 1]])
    eyes = [np.array([0.1 * camera, 0, 0.6]) for camera in range(CAMERAS)]
    poses = [look_at(eye, np.zeros(3), np.array([0.0, 1, 0])) for eye in eyes]
    cameras = (Camera(str(number), SIZE, SIZE, intrinsics, pose, np.eye(3)) for number, pose in enumerate(poses))
    write_rig(tmp_path / "rig.json", Rig(tuple(cameras)))
    peaks = []
    for steps in SPANS:
        meshes, output = tmp_path / f"meshes{steps}.zarr.zip", tmp_path / f"buffers{steps}.zarr.zip"
        write_meshes(meshes, [mesh] * steps, {"neck": {"offset": -1.0, "tilt_degrees": 0.0}})
        span = ["--subject", "s", "--sequence", "S", "--start", 0, "--stop", steps]
        files = ["--meshes", meshes, "--rig", tmp_path / "rig.json", "--output", output]
        peaks.append(peak_mib("pipeline.stages.rasterize", *span, *files))
    assert peaks[1] < peaks[0] + 25, peaks
