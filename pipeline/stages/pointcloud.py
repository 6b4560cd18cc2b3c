"""pointcloud: a clean dense cloud with normals and colours for every time step of one span."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import Rig, read_rig
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stereo.cloud import Cloud, point_cloud
from pipeline.stereo.colmap import require_cuda
from pipeline.store.chunk import Array, open_chunk, write_chunk


def step_cloud(frames: Path, step: int, start: int, rig: Rig, settings: PointcloudSettings) -> Cloud:
    """The cloud of one step of the chunk; errors name the file and the time step."""
    with open_chunk(frames) as group:
        rgb, alpha = group["rgb"][step], group["alpha"][step]
    expected = (len(rig.cameras), rig.cameras[0].height, rig.cameras[0].width)
    if alpha.shape != expected:
        raise DataError(f"{frames}: pictures of shape {alpha.shape}; cameras.json expects {expected}")
    try:
        return point_cloud(rgb, alpha, rig.cameras, settings)
    except DataError as error:
        raise DataError(f"{frames}: time step {start + step}: {error}") from error


def clouds(
    frames: Path, start: int, stop: int, rig: Rig, settings: PointcloudSettings, threads: int
) -> Iterator[Cloud]:
    """Clouds of all steps in order, `threads` of them at a time, each in a process of its own."""
    count = stop - start
    # Each process computes on one core; BLAS reads this when it is loaded, in the spawned process.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    # Spawned, not forked: a child of a process with running threads may hang on their locks.
    with ProcessPoolExecutor(min(threads, count), get_context("spawn")) as pool:
        jobs = [pool.submit(step_cloud, frames, step, start, rig, settings) for step in range(count)]
        try:
            for job in jobs:
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def main() -> None:
    """Read one chunk of frames, reconstruct every step, publish one chunk of clouds."""
    parser = cli.parser(__doc__, PointcloudSettings)
    cli.add_span(parser)
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--frames", type=cli.existing_file, required=True, help="frames/{sequence}/{span}.zarr.zip")
    parser.add_argument("--threads", type=int, default=1, help="time steps reconstructed at once")
    parser.add_argument("--output", type=Path, required=True, help="clouds/{sequence}/{span}.zarr.zip")
    options = parser.parse_args()
    if options.settings.backend == "colmap_cuda":
        require_cuda()
        claim("cuda")
    rig = read_rig(options.cameras)
    progress = cli.Progress(options.stop - options.start, "steps")
    found = []
    for cloud in clouds(options.frames, options.start, options.stop, rig, options.settings, options.threads):
        found.append(cloud)
        progress.update(len(found), f", {len(cloud.points)} points")
    offsets = np.cumsum([0, *(len(cloud.points) for cloud in found)], dtype=np.int64)
    points, normals, colors = (np.concatenate([getattr(c, n) for c in found]) for n in ("points", "normals", "colors"))
    write_chunk(
        options.output,
        {
            "points": Array(points, ("point", "xyz"), "m", "points of all steps, world frame"),
            "normals": Array(normals, ("point", "xyz"), "1", "outward unit normals, world frame"),
            "colors": Array(colors, ("point", "channel"), "sRGB", "colours, 0 to 255"),
            "offsets": Array(offsets, ("step",), "1", "step t owns rows offsets[t]:offsets[t+1]"),
        },
        cli.record("pointcloud", options),
    )


if __name__ == "__main__":
    cli.run(main)
