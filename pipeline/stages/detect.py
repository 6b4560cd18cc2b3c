"""detect: the face, its points, lids and irises in every picture of one span."""

from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.aim import aim_of
from pipeline.cameras.rig import read_rig
from pipeline.detect.look import Seen, Watcher
from pipeline.errors import DataError
from pipeline.settings.detect import DetectSettings
from pipeline.store.chunk import Array, open_chunk, write_chunk


def main() -> None:
    """Read one chunk of frames, look at every picture, publish one chunk of detections."""
    parser = cli.parser(__doc__, DetectSettings)
    cli.add_span(parser)
    parser.add_argument("--cameras", type=Path, required=True, help="cameras.json")
    parser.add_argument("--frames", type=Path, required=True, help="frames/{sequence}/{span}.zarr.zip")
    parser.add_argument("--output", type=Path, required=True, help="detections/{sequence}/{span}.zarr.zip")
    arguments = parser.parse_args()
    rig = read_rig(arguments.cameras)
    steps, cameras = arguments.stop - arguments.start, len(rig.cameras)
    aim = aim_of(rig)
    progress = cli.Progress(steps * cameras, "pictures")
    with open_chunk(arguments.frames) as group:
        pictures = group["rgb"]
        if pictures.shape[:2] != (steps, cameras):
            raise DataError(
                f"{arguments.frames}: pictures of shape {pictures.shape}; expected {steps} steps of {cameras} cameras"
            )
        by_camera: list[list[Seen]] = []
        for index, camera in enumerate(rig.cameras):
            watcher = Watcher(camera.project(aim)[0], arguments.settings.models)
            by_camera.append([watcher.look(pictures[step, index]) for step in range(steps)])
            progress.update((index + 1) * steps)

    def all_of(name: str) -> np.ndarray:
        values = np.array([[getattr(by_camera[c][t], name) for c in range(cameras)] for t in range(steps)])
        return np.nan_to_num(values).astype(np.float32)

    eyes = np.array([[np.isfinite(by_camera[c][t].irises).all((1, 2)) for c in range(cameras)] for t in range(steps)])
    score, about = all_of("score"), "pixels of the frames; 0 where nothing was seen"
    cli.log.info("%s: a face in %.0f %% of the pictures", arguments.sequence, 100 * (score > 0).mean())
    write_chunk(
        arguments.output,
        {
            "score": Array(score, ("time", "camera"), "1", "how surely this is a face; 0 where there is none"),
            "box": Array(all_of("box"), ("time", "camera", "box"), "pixel", f"x, y of the middle and edge, {about}"),
            "points": Array(all_of("points"), ("time", "camera", "landmark", "xy"), "pixel", f"468 points, {about}"),
            "eyes": Array(eyes.astype(np.uint8), ("time", "camera", "eye"), "1", "1 where an eye was seen; left first"),
            "lids": Array(all_of("lids"), ("time", "camera", "eye", "landmark", "xy"), "pixel", f"contours, {about}"),
            "irises": Array(all_of("irises"), ("time", "camera", "eye", "landmark", "xy"), "pixel", f"centre, {about}"),
        },
        cli.record("detect", arguments),
    )


if __name__ == "__main__":
    cli.run(main)
