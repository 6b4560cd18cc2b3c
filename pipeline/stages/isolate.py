"""isolate: training targets, the head without the torso over white, seen by the cropped cameras of the capture."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.errors import DataError
from pipeline.mesh.cut import Plane
from pipeline.settings.isolate import IsolateSettings
from pipeline.store.chunk import Array, open_chunk, read_arrays, write_chunk
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
            name = next(iter(group.array_keys()))
            if group[name].shape[:2] != (len(steps), len(rig.cameras)):
                raise DataError(
                    f"{path}: {group[name].shape[:2]} steps and cameras; expected {len(steps)} and {rig.names}"
                )
        targets = Targets(source, rig, Plane(**buffers.attrs["neck"]), margin, collar)
        progress = cli.Progress(len(steps), "steps")
        made = []
        for index, step in enumerate(steps):
            made.append(targets.of_step(frames, buffers, index, poses[step]))
            progress.update(index + 1)
    rgb, alpha = (np.stack(part) for part in zip(*made, strict=True))
    axes = ("time", "camera", "row", "column")
    write_chunk(
        arguments.output,
        {
            "rgb": Array(rgb, (*axes, "channel"), "sRGB", "the head over white, 0 to 255"),
            "alpha": Array(alpha, axes, "1/255", "share of head (skin, hair; no clothes)"),
        },
        cli.record("isolate", arguments) | {"cameras": rig.names},
    )


if __name__ == "__main__":
    cli.run(main)
