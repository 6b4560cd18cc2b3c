"""What landmarks are worth: fit a capture with and without them, to whole clouds and to clouds without eyes and mouth.

    python -m benchmarks.landmarks --results DIR [--pixels 1.5] [--bias MM] [--variants whole,holed] [--every N]

DIR is what the workflow wrote for the subject: cameras.json, clouds, frames. The landmarks are the true ones as the
cameras see them where the skin faces them (within 75 degrees), with noise of `--pixels` in x and y, triangulated; each
is off by a random vector that is the same in all frames, of `--bias` in each coordinate, as a detector's are. The
identity is fitted to all sequences but the held-out one, which is then tracked and measured. Prints one JSON line last:

landmark_mm, landmark_worst_mm: median and largest distance of the triangulated landmarks to the true ones.
VARIANT_face_median_mm: median over frames of the median distance of the truth face to the mesh.
VARIANT_details_median_mm, VARIANT_details_p90_mm: the same of what lies within 25 mm of a landmark of eyes or lips, and
    of the distance that nine tenths of it keep.

With `_landmarks` behind the variant where landmarks were used. Variants: `whole`, the clouds as they are; `holed`,
without what lies within 25 mm of a landmark of eyes or lips.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import KDTree

from benchmarks.fitting import Altered, Bench, level_set, parser
from benchmarks.truth_error import measure, truth_face, truth_head, visible_samples
from pipeline.cameras.rig import Rig
from pipeline.cameras.triangulation import triangulate
from pipeline.evaluate.measures.surface import FACING
from pipeline.head.fit.clouds import Frame
from pipeline.head.train.ict import LANDMARKS
from pipeline.settings.landmarks import LandmarksSettings
from pipeline.workers import compute_alike

DETAILS = slice(19, None)  # of LANDMARKS: eyes and lips
NEAR = 0.025  # metres


@dataclass(frozen=True)
class Detector:
    """Landmarks of a capture as cameras with `pixels` of noise would give them, `bias` metres off in the head."""

    truth: Path
    rig: Rig
    pixels: float
    bias: float

    def true(self, frame: Frame) -> np.ndarray:
        """Where the landmarks are (L, 3), world metres."""
        return np.array(truth_head(self.truth, frame.sequence, frame.step).vertices)[list(LANDMARKS)]

    def found(self, frame: Frame) -> np.ndarray:
        """The triangulated ones (L, 3), world metres, NaN where unknown."""
        head = truth_head(self.truth, frame.sequence, frame.step)
        points, normals = (np.array(part)[list(LANDMARKS)] for part in (head.vertices, head.vertex_normals))
        with np.load(self.truth / f"{frame.sequence}.npz") as motion:
            world_from_head = motion["head_to_world"][frame.step, :3, :3]
        points += np.random.default_rng(0).normal(0, self.bias, points.shape) @ world_from_head.T
        rng = np.random.default_rng(frame.step)
        cameras = []
        for camera in self.rig.cameras:
            pixels = camera.project(points)[0] + rng.normal(0, self.pixels, (len(points), 2))
            rays = camera.centre - points
            facing = (rays * normals).sum(-1) > FACING * np.linalg.norm(rays, axis=-1)
            cameras.append(np.concatenate([pixels, facing[:, None]], -1))
        return triangulate(self.rig, np.stack(cameras)[None], LandmarksSettings().agree_mm / 1e3)[0][0]

    def added(self, frame: Frame) -> Frame:
        """The frame with its landmarks."""
        return replace(frame, landmarks=self.found(frame))

    def holed(self, frame: Frame) -> Frame:
        """The frame without points near eyes and lips."""
        kept = KDTree(self.true(frame)[DETAILS]).query(frame.points)[0] > NEAR
        return replace(frame, points=frame.points[kept], normals=frame.normals[kept])


def fitted(bench: Bench, detector: Detector, changes: list[Callable[[Frame], Frame]]) -> dict[str, float]:
    """Face errors of the held-out sequence where every frame is changed."""
    for change in changes:
        bench = replace(bench, sequences=[Altered(clouds, change) for clouds in bench.sequences])
    held_out = next(clouds for clouds in bench.sequences if clouds.sequence == bench.held_out)
    heads = bench.track(bench.identity(), held_out)
    rows = []
    for step in range(0, len(held_out), bench.every):
        mesh = level_set(bench.prior, heads, step)
        mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        surface = visible_samples(truth_face(bench.truth, bench.held_out, step), bench.capture, count=40_000)
        details = KDTree(detector.true(held_out.frame(step))[DETAILS]).query(surface)[0] < NEAR
        whole, part = (measure(mesh, samples) for samples in (surface, surface[details]))
        rows.append((whole["face_median_mm"], part["face_median_mm"], part["p90_mm"]))
        print("{}:{} face {:.2f} mm, eyes and lips {:.2f} and {:.2f} mm".format(bench.held_out, step, *rows[-1]))
    names = ("face_median_mm", "details_median_mm", "details_p90_mm")
    return dict(zip(names, np.median(rows, 0).tolist(), strict=True))


def main() -> None:
    """Measure the landmarks, then each variant with and without them."""
    arguments = parser(__doc__)
    arguments.add_argument("--pixels", type=float, default=1.5, help="noise of the detector")
    arguments.add_argument("--bias", type=float, default=0, help="lasting error of each landmark, millimetres")
    arguments.add_argument("--variants", default="whole,holed", help="which clouds to fit to")
    options = arguments.parse_args()
    compute_alike()
    bench = Bench.of(options)
    detector = Detector(options.truth, bench.rig, options.pixels, options.bias / 1e3)
    frames = [clouds.frame(step) for clouds in bench.sequences for step in range(len(clouds))]
    off = 1e3 * np.linalg.norm([detector.found(frame) - detector.true(frame) for frame in frames], axis=-1)
    result = {"landmark_mm": float(np.nanmedian(off)), "landmark_worst_mm": float(np.nanmax(off))}
    for variant in options.variants.split(","):
        changes = {"whole": [], "holed": [detector.holed]}[variant]
        for name, more in ((variant, []), (f"{variant}_landmarks", [detector.added])):
            result |= {f"{name}_{key}": value for key, value in fitted(bench, detector, changes + more).items()}
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


if __name__ == "__main__":
    main()
