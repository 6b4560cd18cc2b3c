"""Back-ends of the rasteriser on a head-sized mesh before a ring of cameras. Prints one JSON line last.

    python -m benchmarks.rasterize [--cameras 4] [--subdivisions 6] [--nvdiffrast]

The numpy z-buffer is the reference of Embree and, with --nvdiffrast, of nvdiffrast. For each:
*_s: seconds for the same pictures at the default crop, CPU time (nvdiffrast: wall time, a first picture left out);
*_ratio: how many times as long the reference takes; *_mismatch: share of covered pixels where the two see different
triangles. buffers_per_s: complete pictures (depth, normals, canonical coordinates, mask) each second with Embree.
"""

import argparse
import json
import time

import numpy as np
import trimesh

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import Frame, Picture, look_at, orbit
from pipeline.mesh.mesh import Mesh
from pipeline.raster.backends.choose import make_rasterizer
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.backends.reference import ReferenceRasterizer
from pipeline.raster.buffers import rasterize
from pipeline.settings.rig import RigSettings

DEFAULT = RigSettings()


def bumpy_head(subdivisions: int = 6) -> Mesh:
    """A closed bumpy surface, 0.24 m across; of 80,000 triangles by default, as many as the mesh stage makes."""
    ball = trimesh.creation.icosphere(subdivisions)
    waves = np.sin(ball.vertices @ np.random.default_rng(0).normal(0, 6, (3, 4))).mean(1)
    vertices = (ball.vertices * (0.12 + 0.02 * waves[:, None])).astype(np.float32)
    x_can = np.concatenate([4 * vertices, np.zeros((len(vertices), 2), np.float32)], -1)
    return Mesh(vertices, x_can, ball.faces.astype(np.int32))


def ring(count: int, width: int = DEFAULT.width, height: int = DEFAULT.height) -> list[Camera]:
    """Cameras round the head, 1 m away."""
    up, front = np.array([0.0, 1, 0]), np.array([0.0, 0, 1])
    before = Camera("", 1, 1, np.eye(3), look_at(front, np.zeros(3), up), np.eye(3))
    picture = Picture(width, height, DEFAULT.metres)
    return orbit([before], Frame(np.zeros(3), up, front), picture, count, 60, 20).cameras


def main() -> None:
    """Rasterise the same pictures both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--subdivisions", type=int, default=6, help="each makes four triangles of one")
    parser.add_argument("--nvdiffrast", action="store_true", help="measure it too; needs an NVIDIA GPU")
    given = parser.parse_args()
    count = given.cameras
    cameras, mesh = ring(count), bumpy_head(given.subdivisions)
    rasterizers = {"reference": ReferenceRasterizer(), "embree": EmbreeRasterizer()}
    if given.nvdiffrast:
        rasterizers["nvdiffrast"] = make_rasterizer("nvdiffrast")
        rasterizers["nvdiffrast"].rasterize(mesh.vertices, mesh.faces, cameras[:1])  # warm up
    figures, seen = {}, {}
    for name, rasterizer in rasterizers.items():
        clock = time.perf_counter if name == "nvdiffrast" else time.process_time
        start = clock()
        seen[name] = rasterizer.rasterize(mesh.vertices, mesh.faces, cameras)
        figures[f"{name}_s"] = clock() - start
    covered = sum(int(fragments.hit.sum()) for fragments in seen["reference"])
    for name in rasterizers.keys() - {"reference"}:
        pairs = zip(seen[name], seen["reference"], strict=True)
        figures[f"{name}_ratio"] = figures["reference_s"] / figures[f"{name}_s"]
        figures[f"{name}_mismatch"] = sum(int((one.triangle != other.triangle).sum()) for one, other in pairs) / covered
    start = time.process_time()
    rasterize(EmbreeRasterizer(), mesh, cameras)
    figures["buffers_per_s"] = count / (time.process_time() - start)
    rounded = {name: float(f"{value:.3g}") for name, value in figures.items()}
    print(json.dumps(rounded | {"pictures": count, "triangles": len(mesh.faces)}))


if __name__ == "__main__":
    main()
