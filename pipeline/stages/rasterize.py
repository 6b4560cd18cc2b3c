"""rasterize: depth, world normals, canonical coordinates and mask of a span's meshes for the cameras of a rig."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.errors import DataError
from pipeline.mesh.mesh import count_meshes, read_meshes
from pipeline.raster.backends.choose import make_rasterizer
from pipeline.raster.buffers import rasterize_coded, write_coded
from pipeline.settings.rasterize import RasterizeSettings
from pipeline.store.chunk import read_attributes


def main() -> None:
    """Read meshes and rig, rasterise every time step, publish one chunk."""
    parser = cli.parser(__doc__, RasterizeSettings)
    cli.add_span(parser)
    parser.add_argument("--meshes", type=cli.existing_file, required=True, help="meshes/{sequence}/{span}.zarr.zip")
    parser.add_argument("--rig", type=cli.existing_file, required=True, help="a rig's JSON")
    parser.add_argument("--output", type=Path, required=True, help="buffers/{sequence}/{rig}/{span}.zarr.zip")
    arguments = parser.parse_args()

    rig, found = read_rig(arguments.rig), count_meshes(arguments.meshes)
    steps = range(arguments.start, arguments.stop)
    if found != len(steps):
        raise DataError(f"{arguments.meshes}: {found} meshes; expected {len(steps)}, one for each step")
    if rig.moving and len(rig.cameras) < arguments.stop:
        raise DataError(f"{arguments.rig}: {len(rig.cameras)} cameras; the span goes to step {arguments.stop}")
    rasterizer = make_rasterizer(arguments.settings.backend)
    cli.log.info("%s rasterises %d pictures per step", type(rasterizer).__name__, 1 if rig.moving else len(rig.cameras))
    progress = cli.Progress(len(steps), "steps")

    def coded() -> Iterator[dict[str, np.ndarray]]:
        for step, mesh in zip(steps, read_meshes(arguments.meshes), strict=True):
            yield rasterize_coded(rasterizer, mesh, rig.cameras[step : step + 1] if rig.moving else rig.cameras)
            progress.update(step + 1 - arguments.start)

    attributes = {
        "rasterizer": type(rasterizer).__name__,
        "cameras": ["moving"] if rig.moving else rig.names,
        "neck": read_attributes(arguments.meshes)["neck"],
    }
    first = rig.cameras[0]
    shape = (len(steps), len(attributes["cameras"]), first.height, first.width)
    write_coded(arguments.output, coded(), shape, cli.record("rasterize", arguments) | attributes)


if __name__ == "__main__":
    cli.run(main)
