"""triangulate: landmarks, lids and irises in space from what the cameras saw of the face in one sequence."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import Rig, read_rig
from pipeline.detect.heights import COLUMNS, ROWS, eye_heights, eye_shares, eye_view, pupils
from pipeline.detect.points import Detections, FacePoints, triangulate_face, with_heights, with_pupils
from pipeline.errors import DataError
from pipeline.settings.triangulate import TriangulateSettings
from pipeline.store.chunk import Array, in_order, read_arrays, read_attributes, write_chunk
from pipeline.store.reel import Reel

NAMES = ("score", "points", "eyes", "lids", "irises")


def _seen(rig: Rig, frames: Reel, found: FacePoints) -> tuple[np.ndarray, np.ndarray]:
    """How much of each eye shows (T, 2), metres, and where the pupils are in its view (T, 2, 2); NaN where unknown."""
    views = np.full((2, len(found.points), ROWS, COLUMNS, 3), np.nan, np.float32)
    corners = np.stack([found.corners(step) for step in range(len(found.points))])  # (T, 2, 2, 3)
    for step, both in enumerate(corners):
        pictures = frames.pictures("rgb", step)
        for eye, ends in enumerate(both):
            if np.isfinite(ends).all() and np.isfinite(found.up(step)).all():
                view = eye_view(rig, pictures, ends, found.up(step))
                views[eye, step] = np.nan if view is None else view
    shares = [eye_shares(view, opening) for view, opening in zip(views, found.contours.T, strict=True)]
    heights = np.stack([eye_heights(share) for share in shares], 1)
    places = np.stack([pupils(view, share) for view, share in zip(views, shares, strict=True)], 1)
    return heights * np.linalg.norm(corners[:, :, 1] - corners[:, :, 0], axis=-1), places


def main() -> None:
    """Read all spans of detections and frames, triangulate every time step, look at the eyes, publish."""
    parser = cli.parser(__doc__, TriangulateSettings)
    parser.add_argument("--cameras", type=Path, required=True, help="cameras.json")
    parser.add_argument("--detections", type=Path, nargs="+", required=True, help="all spans of the sequence")
    parser.add_argument("--frames", type=Path, nargs="+", required=True, help="the same of the frames")
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
    rig, frames = read_rig(arguments.cameras), Reel(arguments.frames)
    if (frames.sequence, frames.steps) != (arguments.sequence, len(seen.score)):
        raise DataError(
            f"{arguments.frames[0]}: frames of {frames.steps} steps of {frames.sequence}; expected {len(seen.score)} of"
            f" {arguments.sequence}"
        )
    found = triangulate_face(rig, seen, arguments.settings.agree_mm / 1e3)
    heights, places = _seen(rig, frames, found)
    found = with_pupils(with_heights(found, heights), places)
    cli.log.info(
        "%s: %.0f %% of the landmarks, %.0f %% of the irises and %.0f %% of the eyes' openings are known",
        arguments.sequence, 100 * (found.views > 0).mean(), 100 * (found.iris_views > 0).mean(),
        100 * np.isfinite(heights).mean(),
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
