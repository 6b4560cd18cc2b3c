"""How far the true face of a rendered capture lies from the meshes of a run on other files of it. Last line: JSON.

    python -m benchmarks.mesh_error --results results/901_videos

The run's cameras are laid on the true ones by a similarity, which takes its meshes along: so a world of any axes and
scale is measured in true metres, and `unit` says how long the run's metre is (1 where it is right).

--every: time steps of the run are so many frames of the truth apart. A sequence cut from a longer one (`talk@80-100`)
counts from its first frame.
face_median_mm: median over steps of the median distance from the true face to the mesh; face_median_worst_mm: the worst
step's. fitted_median_mm, fitted_unit: of six steps, the meshes laid on the true faces instead, by one similarity for
all: what is left is shape. Where cameras were found, a wrong focal length makes heads too large for the rig.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap
import trimesh
from scipy.spatial import KDTree

from benchmarks.truth_error import distances_to_mesh, truth_face, visible_samples
from pipeline.cameras.rig import read_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.formats.base import whole
from pipeline.capture.sfm.refine import similarity
from pipeline.evenly import evenly
from pipeline.mesh.mesh import read_meshes
from pipeline.store.chunk import in_order

SAMPLES = 20_000  # of the true face
FITTED, FEW, ROUNDS = 6, 4_000, 40  # steps and samples that meshes are laid on faces by, and how often


def moved(mesh: trimesh.Trimesh, onto_from_mesh: pycolmap.Sim3d) -> trimesh.Trimesh:
    """The mesh, its vertices moved by a similarity."""
    return trimesh.Trimesh(onto_from_mesh * mesh.vertices, mesh.faces, process=False)


def laid_on_faces(steps: Sequence[tuple[trimesh.Trimesh, np.ndarray]]) -> tuple[list[float], float]:
    """Median distances in millimetres from samples (n, 3) of each step's true face to its mesh, after the similarity
    that lays all meshes on their faces, and its scale: nearest points, found again and again."""
    surfaces = [trimesh.sample.sample_surface(mesh, 300_000, seed=0)[0] for mesh, _ in steps]
    trees = [KDTree(surface) for surface in surfaces]
    true_from_mesh = pycolmap.Sim3d()
    for _ in range(ROUNDS):
        near, true, back = [], [], true_from_mesh.inverse()
        for tree, surface, (_, samples) in zip(trees, surfaces, steps, strict=True):
            few = samples[:: len(samples) // FEW]
            distance, index = tree.query(back * few)
            use = distance <= np.quantile(distance, 0.9)  # what no mesh has, such as the mouth's inside, draws it aside
            near.append(surface[index[use]])
            true.append(few[use])
        true_from_mesh = pycolmap.estimate_sim3d(np.concatenate(near), np.concatenate(true))
    laid = [(moved(mesh, true_from_mesh), samples) for mesh, samples in steps]
    return [1e3 * float(np.median(distances_to_mesh(*one))) for one in laid], float(true_from_mesh.scale)


def main() -> None:
    """Align, measure every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="what the workflow wrote for the subject")
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"), help="with the true cameras")
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--every", type=int, default=1, help="frames of the truth from step to step")
    options = parser.parse_args()
    found, truth = read_rig(options.results / "cameras.json"), read_rig_of(open_capture(options.capture), 1.0)
    common = [name for name in found.names if name in truth.names]
    true_from_run = similarity(*([rig.cameras[rig.index(name)] for name in common] for rig in (found, truth)))
    medians, steps = [], []
    for folder in sorted((options.results / "meshes").iterdir()):
        sequence, part = whole(folder.name)
        meshes = (mesh for path in in_order(list(folder.glob("*.zarr.zip"))) for mesh in read_meshes(path))
        for step, mesh in enumerate(meshes):
            frame = (part.start if part else 0) + step * options.every
            samples = visible_samples(truth_face(options.truth, sequence, frame), options.capture, SAMPLES)
            steps.append((moved(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), true_from_run), samples))
            medians.append(1e3 * float(np.median(distances_to_mesh(*steps[-1]))))
            print(f"{folder.name}:{step} frame {frame} median {medians[-1]:.3f}", flush=True)
    fitted, scale = laid_on_faces([steps[i] for i in evenly(len(steps), FITTED)])
    figures = {
        "face_median_mm": np.median(medians),
        "face_median_worst_mm": max(medians),
        "unit": 1 / true_from_run.scale,
        "fitted_median_mm": np.median(fitted),
        "fitted_median_worst_mm": max(fitted),
        "fitted_unit": 1 / (true_from_run.scale * scale),
    }
    print(json.dumps({name: round(float(value), 4) for name, value in figures.items()} | {"steps": len(medians)}))


if __name__ == "__main__":
    main()
