"""calibrate: a capture's calibration to cameras.json at the working scale, held against what the cameras see."""

from pathlib import Path

from pipeline import cli
from pipeline.cameras.rig import write_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.sfm.act import settle
from pipeline.capture.sfm.matches import look
from pipeline.capture.sfm.pictures import few_moments, views_of
from pipeline.settings.calibrate import CalibrateSettings


def main() -> None:
    """Read the capture's calibration, compare it with a moment's pictures, write the rig."""
    arguments = cli.parser(__doc__, CalibrateSettings)
    arguments.add_argument("--capture", type=Path, required=True, help="the subject's folder")
    arguments.add_argument("--sequence", help="the sequence whose first pictures are looked at; none without")
    arguments.add_argument("--output", type=Path, required=True, help="cameras.json")
    options = arguments.parse_args()
    capture = open_capture(options.capture)
    rig = read_rig_of(capture, options.settings.scale)
    if options.sequence:
        moments = few_moments(capture, options.sequence)
        where = f"{options.capture}: {options.sequence}, frames {', '.join(map(str, moments))}"
        seen = [look(view) for view in views_of(capture, options.sequence, rig, moments)]
        rig = settle(rig, seen, options.settings.off_cameras, where)
    write_rig(options.output, rig)
    first = rig.cameras[0]
    cli.log.info("%s: %d cameras, the first %dx%d", options.output, len(rig.cameras), first.width, first.height)


if __name__ == "__main__":
    cli.run(main)
