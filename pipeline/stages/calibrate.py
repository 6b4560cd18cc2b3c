"""calibrate: a capture's calibration to cameras.json at the working scale."""

from pathlib import Path

from pipeline import cli
from pipeline.cameras.rig import write_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.settings.calibrate import CalibrateSettings


def main() -> None:
    """Read the capture's calibration, write the rig."""
    arguments = cli.parser(__doc__, CalibrateSettings)
    arguments.add_argument("--capture", type=Path, required=True, help="the subject's folder")
    arguments.add_argument("--output", type=Path, required=True, help="cameras.json")
    options = arguments.parse_args()
    rig = read_rig_of(open_capture(options.capture), options.settings.scale)
    write_rig(options.output, rig)
    first = rig.cameras[0]
    cli.log.info("%s: %d cameras, the first %dx%d", options.output, len(rig.cameras), first.width, first.height)


if __name__ == "__main__":
    cli.run(main)
