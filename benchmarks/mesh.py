"""Sparse against dense marching cubes of the shipped head prior. Prints one JSON line last.

    python -m benchmarks.mesh [--voxel-mm 2.5]

dense_s, sparse_s: CPU seconds on one thread for the same open-mouthed head; ratio = dense_s / sparse_s;
max_vertex_error_voxel: largest distance between the two surfaces' vertices; queries: evaluations of the field.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from pipeline.head.prior import load_prior
from pipeline.meshing.sparse import COARSEST, extract
from pipeline.settings.mesh import MeshSettings

PRIOR = Path(__file__).parents[1] / "pipeline" / "head" / "weights" / "head_prior.safetensors"


def main() -> None:
    """Mesh one random head both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxel-mm", type=float, default=MeshSettings().voxel_mm)
    voxel_mm = parser.parse_args().voxel_mm
    torch.set_num_threads(1)
    torch.manual_seed(0)
    prior = load_prior(PRIOR)
    z_id = prior.z_id_from(0.7 * torch.randn(prior.config.identity_modes))
    z_exp = prior.z_exp_from(torch.randn(prior.config.expression_modes))
    voxel = voxel_mm * 1e-3 * prior.config.units_per_metre
    low, high = np.array(prior.config.box_min), np.array(prior.config.box_max)
    queries = 0

    @torch.inference_mode()
    def field(points: np.ndarray) -> np.ndarray:
        nonlocal queries
        queries += len(points)
        return prior.sdf(prior.warp(torch.from_numpy(points), z_id, z_exp), z_id).numpy()

    field(np.zeros((1000, 3), np.float32))  # warm up
    queries, start = 0, time.process_time()
    vertices, faces = extract(field, low, high, voxel, MeshSettings().lipschitz)
    sparse_s, sparse_queries = time.process_time() - start, queries

    size = np.ceil((high - low) / (voxel * COARSEST)).astype(int) * COARSEST + 1
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(-1, 3)
    queries, start = 0, time.process_time()
    values = field((low + grid * voxel).astype(np.float32)).reshape(size)
    dense, dense_faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    dense_s = time.process_time() - start
    dense = low + dense * voxel
    error = max(cKDTree(a).query(b)[0].max() for a, b in ((dense, vertices), (vertices, dense))) / voxel
    figures = {
        "dense_s": round(dense_s, 3),
        "sparse_s": round(sparse_s, 3),
        "ratio": round(dense_s / sparse_s, 2),
        "max_vertex_error_voxel": float(f"{error:.2g}"),
        "dense_queries": queries,
        "sparse_queries": sparse_queries,
        "triangles": len(faces),
        "dense_triangles": len(dense_faces),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
