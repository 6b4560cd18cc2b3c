"""How far the true face of a rendered capture lies from the heads of its tracks, in millimetres. Last line: JSON.

    python -m benchmarks.track_error --results DIR --capture DIR --truth DIR [--every N] [--prior FILE]

DIR of --results is what the workflow wrote for the subject: identity and tracks. Every so many steps of each track are
meshed as the stage mesh does; samples of the true face (truth_error.py) look for the nearest place of the mesh.

face_median_mm: median over steps of their median distance; face_median_worst_mm: the worst step's.
face_mean_mm: mean over steps of their mean distance.
regions: median and mean distance per region of the face (cloud_regions.py), means over steps.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.spatial import KDTree

from benchmarks.cloud_regions import regions
from benchmarks.truth_error import NARROW_FACE, distances_to_mesh, truth_face, visible_samples
from pipeline.head.model.identity import read_identity
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import open_chunk
from pipeline.workers import compute_alike

SAMPLES = 20_000  # of the true face


def main() -> None:
    """Mesh and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--results", type=Path, default=Path("results/901"))
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--every", type=int, default=1, help="measure every so many steps")
    options = parser.parse_args()
    compute_alike()
    prior, settings = load_prior(options.prior), MeshSettings()
    z_id = torch.as_tensor(read_identity(options.results / "identity.safetensors").z_id)
    neck, names = Plane(settings.neck_offset, settings.neck_tilt_degrees), regions(options.truth)[:NARROW_FACE]
    medians, means, by_region = [], [], defaultdict(list)
    for path in sorted((options.results / "tracks").glob("*.zarr.zip")):
        sequence = path.name.removesuffix(".zarr.zip")
        if not (options.truth / f"{sequence}.npz").exists():  # somebody else's motion
            continue
        with open_chunk(path) as track:
            codes, poses = track["z_exp"][:], track["head_from_world"][:]
        for step in range(0, len(codes), options.every):
            head = mesh_head(prior, z_id, torch.as_tensor(codes[step]), poses[step], settings.voxel_mm, neck)
            face = truth_face(options.truth, sequence, step)
            samples = visible_samples(face, options.capture, SAMPLES)
            off = 1e3 * distances_to_mesh(trimesh.Trimesh(head.vertices, head.faces, process=False), samples)
            medians.append(float(np.median(off)))
            means.append(float(off.mean()))
            name = names[KDTree(face.vertices[:NARROW_FACE]).query(samples)[1]]
            for kind in np.unique(name):
                by_region[str(kind)].append((np.median(off[name == kind]), off[name == kind].mean()))
            print(f"{sequence}:{step} median {medians[-1]:.3f} mean {means[-1]:.3f}", flush=True)
    print(
        json.dumps(
            {
                "face_median_mm": round(float(np.median(medians)), 3),
                "face_median_worst_mm": round(max(medians), 3),
                "face_mean_mm": round(float(np.mean(means)), 3),
                "steps": len(medians),
                "regions": {kind: np.mean(rows, 0).round(2).tolist() for kind, rows in sorted(by_region.items())},
            }
        )
    )


if __name__ == "__main__":
    main()
