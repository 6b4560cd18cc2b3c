"""ingest: the frames of one span, all cameras, colour-corrected at the working scale, with alpha."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import whole
from pipeline.capture.pictures.ingest import check_recording, read_span
from pipeline.detect.person import person_mask
from pipeline.errors import DataError
from pipeline.settings.ingest import IngestSettings
from pipeline.store.chunk import Layout, chunk_writer


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
    recording, part = whole(options.sequence)
    check_recording(capture, recording, rig, part.stop if part else options.frames, part is not None)
    first = part.start if part else 0
    numbers = range(numbers.start + first, numbers.stop + first, numbers.step)
    matte_levels = (settings.background_levels, settings.person_levels)
    axes = ("time", "camera", "row", "column")
    shape = (len(numbers), *rig.padded_shape)
    layouts = {
        "rgb": Layout((*shape, 3), np.uint8, (*axes, "channel"), "sRGB", "colour-corrected pictures, 0 to 255"),
        "alpha": Layout(shape, np.uint8, axes, "1/255", "share of person (head, hair, clothes)"),
    }
    progress = cli.Progress(len(rig.cameras) * len(numbers), "pictures")
    with chunk_writer(options.output, layouts, {**cli.record("ingest", options), "cameras": rig.names}) as chunk:
        pictures = read_span(capture, recording, rig, numbers, matte_levels, person_mask)
        for done, (step, camera, rgb, alpha) in enumerate(pictures, start=1):
            chunk.put("rgb", (step, camera), rig.padded(rgb))
            chunk.put("alpha", (step, camera), rig.padded(alpha))
            progress.update(done)


if __name__ == "__main__":
    cli.run(main)
