"""Embree against a numpy z-buffer on a head-sized mesh before a ring of cameras. Prints one JSON line last.

    python -m benchmarks.rasterize [--cameras 4]

embree_s, reference_s: CPU seconds for the same pictures at the default crop; ratio = reference_s / embree_s;
mismatch_ratio: share of covered pixels where the two see different triangles; buffers_per_s: complete pictures (depth,
normals, canonical coordinates, mask) each second with Embree.
"""

import argparse
import json
import time

import numpy as np
import trimesh

from pipeline.capture.cameras import Camera
from pipeline.meshing.mesh import Mesh
from pipeline.raster.buffers import draw
from pipeline.raster.embree import EmbreeRasterizer
from pipeline.raster.reference import ReferenceRasterizer
from pipeline.settings.rig import RigSettings
from pipeline.viewer.paths import Frame, Picture, look_at, orbit


def bumpy_head() -> Mesh:
    """A closed bumpy surface of 80,000 triangles, as many as the mesh stage makes of a head, 0.24 m across."""
    ball = trimesh.creation.icosphere(6)
    waves = np.sin(ball.vertices @ np.random.default_rng(0).normal(0, 6, (3, 4))).mean(1)
    vertices = (ball.vertices * (0.12 + 0.02 * waves[:, None])).astype(np.float32)
    x_can = np.concatenate([4 * vertices, np.zeros((len(vertices), 2), np.float32)], -1)
    return Mesh(vertices, x_can, ball.faces.astype(np.int32))


def main() -> None:
    """Draw the same pictures both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=4)
    count = parser.parse_args().cameras
    up, front = np.array([0.0, 1, 0]), np.array([0.0, 0, 1])
    settings = RigSettings()
    picture = Picture(settings.width, settings.height, settings.metres)
    before = Camera("", 1, 1, np.eye(3), look_at(front, np.zeros(3), up), np.eye(3))
    cameras = orbit([before], Frame(np.zeros(3), up, front), picture, count, 60, 20).cameras
    mesh = bumpy_head()
    seconds, seen = {}, {}
    for rasterizer in (EmbreeRasterizer(), ReferenceRasterizer()):
        start = time.process_time()
        seen[type(rasterizer)] = rasterizer.rasterize(mesh.vertices, mesh.faces, cameras)
        seconds[type(rasterizer)] = time.process_time() - start
    pairs = list(zip(seen[EmbreeRasterizer], seen[ReferenceRasterizer], strict=True))
    different = sum(int((e.triangle != r.triangle).sum()) for e, r in pairs)
    covered = sum(int(r.hit.sum()) for _, r in pairs)
    start = time.process_time()
    draw(EmbreeRasterizer(), mesh, cameras)
    figures = {
        "embree_s": round(seconds[EmbreeRasterizer], 4),
        "reference_s": round(seconds[ReferenceRasterizer], 3),
        "ratio": round(seconds[ReferenceRasterizer] / seconds[EmbreeRasterizer], 1),
        "mismatch_ratio": float(f"{different / covered:.2g}"),
        "buffers_per_s": round(count / (time.process_time() - start), 1),
        "pictures": count,
        "triangles": len(mesh.faces),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
