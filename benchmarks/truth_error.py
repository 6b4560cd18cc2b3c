"""How far a cloud or a mesh lies from the true face behind a rendered capture, in millimetres.

    python -m benchmarks.truth_error GEOMETRY --capture DIR --truth DIR --sequence NAME --frame N [--mesh]

GEOMETRY is an .npz with `points` (N, 3) or a .ply, .obj or .off file, world metres; with --mesh its surface counts,
otherwise its vertices. Prints one JSON line. The true face is the narrow face area of ICT-FaceKit's topology where at
least two cameras look at it. A cloud is measured from its points to the face, a mesh from the face to the mesh:

face_median_mm, face_mean_mm, p90_mm: distances, of a cloud those of its points within 5 mm of the face.
completeness: share of the face that has geometry within 2 mm.
outlier_share: of a cloud's points within 30 mm of the face, those more than 5 mm away from it. The face has a rim, and
ears, neck, temples and teeth lie within 30 mm of it: an exact scan of the head has an outlier share of 0.3 too.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import KDTree

from pipeline.capture.formats import open_capture
from pipeline.evaluate.measures.surface import seen, surface_samples
from pipeline.head.train.ict import triangles_of

NARROW_FACE = 6706  # the vertices before this one
NEAR, OFF, COVERED = 30e-3, 5e-3, 2e-3  # metres


def truth_head(truth: Path, sequence: str, frame: int) -> trimesh.Trimesh:
    """The complete true head at one frame (eyes, mouth and neck included), world metres, vertices in ICT's order."""
    with np.load(truth / "model.npz") as model:
        quads = model["faces"]
    with np.load(truth / f"{sequence}.npz") as motion:
        vertices = motion["vertices"][frame]
    return trimesh.Trimesh(vertices, triangles_of(quads), process=False)


def truth_face(truth: Path, sequence: str, frame: int) -> trimesh.Trimesh:
    """The triangles of `truth_head` whose corners all belong to the narrow face area."""
    head = truth_head(truth, sequence, frame)
    return trimesh.Trimesh(head.vertices, head.faces[(head.faces < NARROW_FACE).all(1)], process=False)


def camera_centres(capture: Path) -> np.ndarray:
    """(C, 3) float64, where the capture's cameras stand, world metres."""
    poses = [camera.camera_from_world for camera in open_capture(capture).calibration()]
    return np.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])


def visible_samples(face: trimesh.Trimesh, capture: Path, count: int = 200_000) -> np.ndarray:
    """The points of `visible_surface`."""
    return visible_surface(face, capture, count)[0]


def visible_surface(face: trimesh.Trimesh, capture: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit normals (M, 3) spread evenly over the part of a surface that two cameras look at within 75
    degrees.

    Drawn with a fixed seed; occlusion is not looked at.
    """
    points, normals = surface_samples(face.triangles.view(np.ndarray), count, seed=0)
    visible = seen(points, normals, camera_centres(capture))
    return points[visible], normals[visible]


def distances_to_mesh(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Metres (M,) from points (M, 3) to a mesh's surface."""
    samples, _ = trimesh.sample.sample_surface(mesh, 2_000_000, seed=0)
    return KDTree(samples).query(points, workers=-1)[0]


def measure(geometry: np.ndarray | trimesh.Trimesh, surface: np.ndarray) -> dict[str, Any]:
    """Figures of a cloud (N, 3) or a mesh against samples (M, 3) of the true face (see the head of this file)."""
    if isinstance(geometry, trimesh.Trimesh):
        distances = distances_to_mesh(geometry, surface)
        return {**_summary(distances), "completeness": float((distances < COVERED).mean()), "outlier_share": None}
    distances = KDTree(surface).query(geometry, workers=-1, distance_upper_bound=NEAR)[0]
    distances = distances[np.isfinite(distances)]
    probes = surface[:: max(1, len(surface) // 20_000)]
    covered = KDTree(geometry).query(probes, workers=-1)[0] < COVERED
    outliers = float((distances > OFF).mean()) if len(distances) else 1.0
    return {
        **_summary(distances[distances <= OFF]),
        "completeness": float(covered.mean()),
        "outlier_share": outliers,
        "points": len(geometry),
    }


def _summary(distances: np.ndarray) -> dict[str, float]:
    millimetres = distances * 1e3 if len(distances) else np.array([np.inf])
    return {
        "face_median_mm": float(np.median(millimetres)),
        "face_mean_mm": float(millimetres.mean()),
        "p90_mm": float(np.percentile(millimetres, 90)),
    }


def main() -> None:
    """Measure one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("geometry", type=Path)
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--frame", type=int, required=True)
    parser.add_argument("--mesh", action="store_true", help="measure the surface, not the vertices")
    options = parser.parse_args()
    if options.geometry.suffix == ".npz":
        geometry = np.load(options.geometry)["points"]
    else:
        loaded = trimesh.load(options.geometry, process=False)
        geometry = np.asarray(loaded.vertices)
        if options.mesh:
            geometry = trimesh.Trimesh(loaded.vertices, loaded.faces, process=False)
    surface = visible_samples(truth_face(options.truth, options.sequence, options.frame), options.capture)
    print(json.dumps(measure(geometry, surface)))


if __name__ == "__main__":
    main()
