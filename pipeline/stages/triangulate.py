"""triangulate: landmarks and irises in space from what the cameras saw of the face in one sequence."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.detect.points import Detections, triangulate_face
from pipeline.errors import DataError
from pipeline.settings.triangulate import TriangulateSettings
from pipeline.store.chunk import Array, in_order, read_arrays, read_attributes, write_chunk

NAMES = ("score", "points", "eyes", "lids", "irises")


def main() -> None:
    """Read all spans of detections, triangulate every time step, publish."""
    parser = cli.parser(__doc__, TriangulateSettings)
    parser.add_argument("--cameras", type=Path, required=True, help="cameras.json")
    parser.add_argument("--detections", type=Path, nargs="+", required=True, help="all spans of the sequence")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--output", type=Path, required=True, help="points/{sequence}.zarr.zip")
    arguments = parser.parse_args()
    paths = in_order(arguments.detections)
    for path in paths:
        if (found := read_attributes(path)["sequence"]) != arguments.sequence:
            raise DataError(f"{path}: detections of {found}; expected {arguments.sequence}")
    parts = zip(*(read_arrays(path, *NAMES) for path in paths), strict=True)
    seen = Detections(*(np.concatenate(part).astype(float) for part in parts))
    found = triangulate_face(read_rig(arguments.cameras), seen, arguments.settings.agree_mm / 1e3)
    cli.log.info(
        "%s: %.0f %% of the landmarks and %.0f %% of the irises are known",
        arguments.sequence, 100 * (found.views > 0).mean(), 100 * (found.iris_views > 0).mean(),
    )  # fmt: skip
    views, world = "cameras that agree; 0 where unknown", "world; 0 where unknown"
    write_chunk(
        arguments.output,
        {
            "points": Array(np.nan_to_num(found.points), ("time", "landmark", "xyz"), "m", world),
            "views": Array(found.views.astype(np.uint8), ("time", "landmark"), "1", views),
            "irises": Array(np.nan_to_num(found.irises), ("time", "eye", "xyz"), "m", f"centres, left first, {world}"),
            "iris_views": Array(found.iris_views.astype(np.uint8), ("time", "eye"), "1", views),
        },
        {**cli.record("triangulate", arguments), "start": 0, "stop": len(found.points)},
    )


if __name__ == "__main__":
    cli.run(main)
