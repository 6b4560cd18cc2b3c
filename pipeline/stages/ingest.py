"""ingest: the frames of one span, all cameras, colour-corrected at the working scale, with alpha."""

from pathlib import Path

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.capture.formats import open_capture
from pipeline.capture.ingest import check_recording, read_span
from pipeline.errors import DataError
from pipeline.settings.ingest import IngestSettings
from pipeline.store.chunk import Array, write_chunk


def main() -> None:
    """Check the sequence's recordings, read the span, write one chunk."""
    arguments = cli.parser(__doc__, IngestSettings)
    cli.add_span(arguments)
    arguments.add_argument("--capture", type=Path, required=True, help="the subject's folder")
    arguments.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    arguments.add_argument("--frames", type=int, required=True, help="frames that captures.tsv declares")
    arguments.add_argument("--output", type=Path, required=True, help="frames/{sequence}/{span}.zarr.zip")
    options = arguments.parse_args()
    settings: IngestSettings = options.settings

    numbers = range(options.start * settings.stride, options.stop * settings.stride, settings.stride)
    if options.start < 0 or not numbers or numbers[-1] >= options.frames:
        raise DataError(
            f"{options.sequence}: steps {options.start} to {options.stop} at stride {settings.stride} "
            f"are not within its {options.frames} frames"
        )
    rig = read_rig(options.cameras)
    capture = open_capture(options.capture)
    check_recording(capture, options.sequence, rig, options.frames)
    progress = cli.Progress(len(rig.cameras), "cameras")
    matte_levels = (settings.background_levels, settings.person_levels)
    rgb, alpha = read_span(capture, options.sequence, rig, numbers, matte_levels, progress.update)
    write_chunk(
        options.output,
        {
            "rgb": Array(rgb, ("time", "camera", "y", "x", "channel"), "sRGB", "colour-corrected pictures, 0 to 255"),
            "alpha": Array(alpha, ("time", "camera", "y", "x"), "1/255", "share of person (head, hair, clothes)"),
        },
        {**cli.record("ingest", options), "cameras": rig.names},
    )


if __name__ == "__main__":
    cli.run(main)
