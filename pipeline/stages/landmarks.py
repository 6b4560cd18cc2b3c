"""landmarks: points in space from the landmarks that a detector saw in the videos of one sequence."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.triangulation import triangulate
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import whole
from pipeline.capture.landmarks import read_landmarks
from pipeline.settings.landmarks import LandmarksSettings
from pipeline.store.chunk import Array, write_chunk


def main() -> None:
    """Read what the cameras saw, triangulate every time step, publish."""
    parser = cli.parser(__doc__, LandmarksSettings)
    parser.add_argument("--capture", type=Path, required=True, help="the subject's folder")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--frames", type=int, required=True, help="frames that captures.tsv declares")
    parser.add_argument("--stride", type=int, required=True, help="every so many frames are a time step")
    parser.add_argument("--output", type=Path, required=True, help="landmarks/{sequence}.zarr.zip")
    arguments = parser.parse_args()
    settings: LandmarksSettings = arguments.settings

    capture = open_capture(arguments.capture)
    rig = read_rig_of(capture, scale=1.0)
    recording, part = whole(arguments.sequence)
    seen = read_landmarks(capture.landmarks(recording), rig, arguments.frames)
    seen = (seen[part.start : part.stop] if part else seen)[:: arguments.stride]
    seen[seen[..., 2] < settings.confidence] = 0
    points, views = triangulate(rig, seen, settings.agree_mm / 1e3)
    cli.log.info(
        "%s: %.0f %% of the landmarks are known, from %.1f cameras on average",
        arguments.sequence, 100 * (views > 0).mean(), views[views > 0].mean() if views.any() else 0,
    )  # fmt: skip
    write_chunk(
        arguments.output,
        {
            "points": Array(np.nan_to_num(points), ("time", "landmark", "xyz"), "m", "world; 0 where unknown"),
            "views": Array(views.astype(np.uint8), ("time", "landmark"), "1", "cameras that agree; 0 where unknown"),
        },
        {**cli.record("landmarks", arguments), "start": 0, "stop": len(points)},
    )


if __name__ == "__main__":
    cli.run(main)
