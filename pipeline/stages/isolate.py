"""isolate: training targets, the head without the torso over white, seen by the cropped cameras of the capture."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.errors import DataError
from pipeline.mesh.cut import Plane
from pipeline.settings.isolate import IsolateSettings
from pipeline.store.chunk import Layout, chunk_writer, open_chunk, read_arrays
from pipeline.targets.isolate import Margin, Targets
from pipeline.targets.occlusion import Occluder


def main() -> None:
    """Read frames, buffers and poses picture by picture, publish one chunk."""
    parser = cli.parser(__doc__, IsolateSettings)
    cli.add_span(parser)
    parser.add_argument("--frames", type=cli.existing_file, required=True, help="frames/{sequence}/{span}.zarr.zip")
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--rig", type=cli.existing_file, required=True, help="rigs/capture.json")
    parser.add_argument("--buffers", type=cli.existing_file, required=True, help="of the capture rig, same span")
    parser.add_argument("--track", type=cli.existing_file, required=True, help="tracks/{sequence}.zarr.zip")
    parser.add_argument("--output", type=Path, required=True, help="targets/{sequence}/{span}.zarr.zip")
    arguments = parser.parse_args()
    settings: IsolateSettings = arguments.settings

    source, rig = read_rig(arguments.cameras), read_rig(arguments.rig)
    (poses,) = read_arrays(arguments.track, "head_from_world")
    margin = Margin(settings.skin_margin, settings.hair_margin, settings.skin_height, settings.hair_height)
    collar = Occluder(settings.collar_height, settings.collar_cell, settings.collar_tolerance)
    steps = range(arguments.start, arguments.stop)
    if len(poses) < arguments.stop:
        raise DataError(f"{arguments.track}: {len(poses)} steps; the span goes to step {arguments.stop}")
    with open_chunk(arguments.frames) as frames, open_chunk(arguments.buffers) as buffers:
        for path, group in ((arguments.frames, frames), (arguments.buffers, buffers)):
            name = next(iter(group.arrays))
            if group[name].shape[:2] != (len(steps), len(rig.cameras)):
                raise DataError(
                    f"{path}: {group[name].shape[:2]} steps and cameras; expected {len(steps)} and {rig.names}"
                )
        targets = Targets(source, rig, Plane(**buffers.attributes["neck"]), margin, collar)
        axes, shape = ("time", "camera", "row", "column"), buffers["depth"].shape
        layouts = {
            "rgb": Layout((*shape, 3), np.uint8, (*axes, "channel"), "sRGB", "the head over white, 0 to 255"),
            "alpha": Layout(shape, np.uint8, axes, "1/255", "share of head (skin, hair; no clothes)"),
        }
        attributes = cli.record("isolate", arguments) | {"cameras": rig.names}
        progress = cli.Progress(len(steps), "steps")
        with chunk_writer(arguments.output, layouts, attributes) as chunk:
            for index, step in enumerate(steps):
                rgb, alpha = targets.of_step(frames, buffers, index, poses[step])
                chunk.put("rgb", (index,), rgb)
                chunk.put("alpha", (index,), alpha)
                progress.update(index + 1)


if __name__ == "__main__":
    cli.run(main)
