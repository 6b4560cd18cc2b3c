"""fit_quality: how well the meshes of one sequence fit their clouds."""

import json
from pathlib import Path

import numpy as np

from pipeline import cli
from pipeline.cameras.rig import read_rig
from pipeline.errors import DataError
from pipeline.evaluate.measures.surface import compare, jitter_mm
from pipeline.head.model import pose
from pipeline.mesh.cut import Plane
from pipeline.mesh.mesh import read_meshes
from pipeline.settings.fit_quality import FitQualitySettings
from pipeline.store.chunk import in_order, publish, read_arrays, read_attributes
from pipeline.store.made_by import KEY, kept
from pipeline.store.reel import open_reels


def on_head(points: np.ndarray, head_from_world: np.ndarray, neck: Plane) -> np.ndarray:
    """Which points (N, 3), world, lie within a head unit of the head's middle and above the neck cut."""
    in_head = pose.apply(head_from_world, points)
    return (np.abs(in_head) < 1).all(-1) & (neck.height(in_head) > 0)


def main() -> None:
    """Read clouds, meshes and track, measure every time step, publish the figures."""
    parser = cli.parser(__doc__, FitQualitySettings)
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--clouds", type=cli.existing_file, nargs="+", required=True, help="all spans of the sequence")
    parser.add_argument("--meshes", type=cli.existing_file, nargs="+", required=True, help="all spans of the sequence")
    parser.add_argument("--track", type=cli.existing_file, required=True, help="the sequence's track")
    parser.add_argument("--output", type=Path, required=True, help="quality/{sequence}.json")
    arguments = parser.parse_args()
    settings: FitQualitySettings = arguments.settings

    (poses,), failed = read_arrays(arguments.track, "head_from_world"), read_attributes(arguments.track)["failed"]
    spans = in_order(arguments.meshes)
    meshes = (mesh for path in spans for mesh in read_meshes(path))
    neck = Plane(**read_attributes(spans[0])["neck"])
    eyes = np.stack([camera.centre for camera in read_rig(arguments.cameras).cameras])
    with open_reels(arguments.clouds) as reels:
        (clouds,) = reels.values()
        if read_attributes(spans[-1])["stop"] != clouds.steps or len(poses) != clouds.steps:
            raise DataError(f"{spans[-1]}: meshes or track do not end with the clouds, at step {clouds.steps}")
        progress, steps = cli.Progress(clouds.steps, "steps"), []
        for step, mesh in enumerate(meshes):
            points, normals = (part.astype(float) for part in clouds.rows(step, "offsets", "points", "normals"))
            head = on_head(points, poses[step], neck)
            if not head.any():
                raise DataError(f"{clouds.paths[0]}: step {step} of {clouds.sequence} has no point on the fitted head")
            steps.append(compare(points[head], normals[head], mesh, eyes, settings.points, settings.seed + step))
            progress.update(step + 1)
    everywhere = [name for name in steps[0] if all(name in figures for figures in steps)]
    mean = {name: float(np.mean([figures[name] for figures in steps])) for name in everywhere}
    report = {"sequence": clouds.sequence, "mean": mean | {"jitter_mm": jitter_mm(poses)}, "failed": failed}
    report[KEY] = kept(cli.record("fit_quality", arguments))
    with publish(arguments.output) as partial:
        partial.write_text(json.dumps(report | {"steps": steps}, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main)
