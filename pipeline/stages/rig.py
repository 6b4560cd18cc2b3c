"""rig: the cameras to draw the head from: the capture's, cropped round it, or an orbit before it."""

from pathlib import Path

from pipeline import cli
from pipeline.cameras.orbit import Frame, Picture, crop_round, orbit
from pipeline.cameras.rig import read_rig, write_rig
from pipeline.errors import DataError
from pipeline.head.model.identity import read_identity
from pipeline.settings.rig import RigSettings


def main() -> None:
    """Read the cameras and where the head is, publish the rig."""
    parser = cli.parser(__doc__, RigSettings)
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--identity", type=cli.existing_file, required=True, help="identity.safetensors")
    parser.add_argument("--rig", choices=("capture", "orbit"), required=True)
    parser.add_argument("--steps", type=int, help="cameras of the orbit: time steps of the sequence it is for")
    parser.add_argument("--output", type=Path, required=True, help="rigs/capture.json or rigs/orbit/{sequence}.json")
    arguments = parser.parse_args()
    settings: RigSettings = arguments.settings
    if (arguments.rig == "orbit") != (arguments.steps is not None and arguments.steps > 0):
        raise DataError("--steps, above 0, goes with --rig orbit and with it alone")

    cameras, identity = read_rig(arguments.cameras).cameras, read_identity(arguments.identity)
    head = Frame.upright(*(part.astype(float) for part in (identity.centre, identity.up, identity.front)))
    frame = head.shifted(settings.shift_up, settings.shift_front)
    picture = Picture(settings.width, settings.height, settings.metres)
    if arguments.rig == "capture":
        rig = crop_round(cameras, frame.centre, picture)
    else:
        rig = orbit(cameras, frame, picture, arguments.steps, settings.sway_degrees, settings.nod_degrees)
    write_rig(arguments.output, rig)


if __name__ == "__main__":
    cli.run(main)
