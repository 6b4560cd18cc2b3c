"""pointcloud: a clean dense cloud with normals and colours for every time step of one span.

Where the capture brings clouds along, those are taken.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import Rig, read_rig
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stereo.cloud import Cloud, point_cloud
from pipeline.stereo.colmap import require_cuda
from pipeline.stereo.given import given_cloud
from pipeline.store.chunk import Layout, chunk_writer, open_chunk
from pipeline.workers import workers

LAYOUTS = {
    "points": Layout((0, 3), np.float32, ("point", "xyz"), "m", "points of all steps, world frame"),
    "normals": Layout((0, 3), np.float32, ("point", "xyz"), "1", "outward unit normals, world frame"),
    "colors": Layout((0, 3), np.uint8, ("point", "channel"), "sRGB", "colours, 0 to 255"),
    "offsets": Layout((0,), np.int64, ("step",), "1", "step t owns rows offsets[t]:offsets[t+1]"),
}


def step_cloud(
    step: int, frames: Path, start: int, rig: Rig, settings: PointcloudSettings, given: Sequence[Path]
) -> Cloud:
    """The cloud of one step of the chunk; errors name the file and the time step."""
    with open_chunk(frames) as group:
        alpha = group["alpha"][step]
        rgb = None if given else group["rgb"][step]
    if alpha.shape != rig.padded_shape:
        raise DataError(f"{frames}: pictures of shape {alpha.shape}; cameras.json expects {rig.padded_shape}")
    try:
        if rgb is None:
            return given_cloud(given[step], alpha, rig.cameras)
        return point_cloud(rgb, alpha, rig.cameras, settings)
    except DataError as error:
        raise DataError(f"{frames}: time step {start + step}: {error}") from error


def main() -> None:
    """Read one chunk of frames, reconstruct every step, publish one chunk of clouds."""
    parser = cli.parser(__doc__, PointcloudSettings)
    cli.add_span(parser)
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--frames", type=cli.existing_file, required=True, help="frames/{sequence}/{span}.zarr.zip")
    parser.add_argument("--given", type=Path, nargs="+", default=[], help="the capture's own clouds, one per time step")
    parser.add_argument("--threads", type=int, default=1, help="time steps reconstructed at once")
    parser.add_argument("--output", type=Path, required=True, help="clouds/{sequence}/{span}.zarr.zip")
    options = parser.parse_args()
    count = options.stop - options.start
    if options.given and len(options.given) != count:
        raise DataError(f"{options.given[0]}: {len(options.given)} clouds; expected {count}, one for each step")
    if options.settings.backend == "colmap_cuda" and not options.given:
        require_cuda()
        claim("cuda")
    rig = read_rig(options.cameras)
    progress, total = cli.Progress(count, "steps"), 0
    with (
        chunk_writer(options.output, LAYOUTS, cli.record("pointcloud", options)) as chunk,
        workers(min(options.threads, count)) as run,
    ):
        chunk.append("offsets", np.zeros(1, np.int64))
        job = partial(
            step_cloud,
            frames=options.frames,
            start=options.start,
            rig=rig,
            settings=options.settings,
            given=options.given,
        )
        for done, cloud in enumerate(run(job, range(count)), start=1):
            for remark in cloud.remarks:
                cli.log.warning("%s: time step %d: %s", options.frames, options.start + done - 1, remark)
            for name in ("points", "normals", "colors"):
                chunk.append(name, getattr(cloud, name))
            total += len(cloud.points)
            chunk.append("offsets", np.array([total]))
            progress.update(done, f", {len(cloud.points)} points")


if __name__ == "__main__":
    cli.run(main)
