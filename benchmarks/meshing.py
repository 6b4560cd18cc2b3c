"""Sparse against dense marching cubes of a head prior. Prints one JSON line last.

    python -m benchmarks.meshing [--prior official] [--resolution 256] [--device cuda] [--dense-share 0.0625]
    python -m benchmarks.meshing --prior shipped --heads 24

`--prior official` has the sizes of MonoNPHM's release (benchmarks/headlike.py), `shipped` is this project's own; a path
is welcome too. The resolution R asks for R^3 cubic voxels in the prior's box. dense_s, sparse_s: seconds from codes to
triangles on `device` (on a CPU with as many threads as PyTorch takes, OMP_NUM_THREADS); ratio = dense_s / sparse_s;
max_vertex_error_voxel: largest distance between the two surfaces' vertices at any resolution at which both were made
whole, each in vertex_error_voxel; needed_queries: grid points whose values the mesh depends on, so the least that any
search asks for, wherever it starts; x_can_s: canonical coordinates of the vertices. With a
`--dense-share` below 1 only so many of the dense grid's layers are evaluated, evenly spread, and their time is scaled.
`--heads` meshes random heads (half to twice as far from the mean as usual) at 60^3 to 120^3 voxels, and again with the
field asked at all corners of the cells: how many of the meshes differ by more than 0.01 mm anywhere, which share of the
points was asked, and which share of the CPU seconds it took.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.spatial import KDTree
from skimage.measure import marching_cubes
from torch import Tensor

from benchmarks.headlike import OFFICIAL, head_like
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.mesh import sparse as search
from pipeline.mesh.cubes import corner_points, patterns, tables
from pipeline.mesh.sparse import follow, grid_cells, march

SHIPPED = Path(__file__).parents[1] / "pipeline" / "head" / "weights" / "head_prior.safetensors"


@dataclass
class Subject:
    """One head: its prior, codes (D,) and (E,), and how many points were asked of it."""

    prior: HeadPrior
    z_id: Tensor
    z_exp: Tensor
    queries: int = 0

    def field(self) -> Callable[[Tensor], Tensor]:
        """From posed points (P, 3) to signed distances (P,)."""
        answer = self.prior.field(self.z_id, self.z_exp)

        def counted(points: Tensor) -> Tensor:
            self.queries += len(points)
            return answer(points)

        return counted

    def box(self, resolution: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Lower and upper corner (3,) of the box and the edge of a voxel, head units."""
        low, high = np.array(self.prior.config.box_min), np.array(self.prior.config.box_max)
        return low, high, float((high - low).prod() ** (1 / 3) / resolution)


def subject(name: str, device: str) -> Subject:
    """A head to mesh, on `device`: the mean codes of the official size, else one with the mouth open."""
    prior = head_like(OFFICIAL, load_prior(SHIPPED)) if name == "official" else None
    prior = prior or load_prior(SHIPPED if name == "shipped" else Path(name))
    torch.manual_seed(0)
    spread = 0.0 if name == "official" else 1.0
    z_id = prior.z_id_from(0.7 * spread * torch.randn(prior.config.identity_modes))
    z_exp = prior.z_exp_from(spread * torch.randn(prior.config.expression_modes))
    return Subject(prior.to(device), z_id.to(device), z_exp.to(device))


def timed(device: str, work: Callable[[], tuple]) -> tuple[float, tuple]:
    """Seconds that work took on `device`, and its result."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def sparse(head: Subject, resolution: int) -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
    """Vertices (V, 3) and faces (F, 3) as the mesh stage finds them, the grid's values, and the cells (N, 3) on it."""
    low, high, voxel = head.box(resolution)
    values, cells = follow(head.field(), low, high, voxel, head.z_id.device)
    return *march(values, cells, low, voxel), values, cells


def needed(values: Tensor, cells: Tensor) -> int:
    """How many of the grid's values the mesh in cells (N, 3) depends on."""
    points = corner_points(cells)
    pattern = patterns(values[tuple(points.T)].reshape(-1, 8))
    return len(points[tables(values.device).needed[pattern].reshape(-1)].unique(dim=0))


def dense_values(head: Subject, resolution: int, share: float) -> tuple[np.ndarray, float]:
    """Signed distances on the grid's points (X', Y + 1, Z + 1), and how many times as many layers the grid has."""
    low, high, voxel = head.box(resolution)
    size = [n + 1 for n in grid_cells(high - low, voxel)]
    device, start = head.z_id.device, torch.from_numpy(low)
    count = max(1, round(share * size[0]))
    layers = np.unique(((np.arange(count) + 0.5) * size[0] / count).astype(int))
    y, z = torch.meshgrid(*(start[axis] + torch.arange(size[axis]) * voxel for axis in (1, 2)), indexing="ij")
    field = head.field()
    values = np.empty([len(layers), *size[1:]], np.float32)
    for row, layer in enumerate(layers):
        points = torch.stack([torch.full_like(y, low[0] + layer * voxel), y, z], -1).reshape(-1, 3)
        values[row] = field(points.float().to(device)).reshape(size[1:]).cpu().numpy()
    return values, size[0] / len(layers)


def dense(head: Subject, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces from every point of the grid."""
    vertices, faces, _, _ = marching_cubes(dense_values(head, resolution, 1)[0], 0.0, gradient_direction="descent")
    low, _, voxel = head.box(resolution)
    return low + vertices * voxel, faces


def random_heads(prior: HeadPrior, count: int) -> dict[str, float]:
    """Figures of `--heads`."""
    different, largest_mm, asked, took = 0, 0.0, [0, 0], [0.0, 0.0]
    for seed in range(count):
        torch.manual_seed(seed)
        spread = 0.5 + 1.5 * seed / max(count - 1, 1)
        z_id = prior.z_id_from(0.7 * spread * torch.randn(prior.config.identity_modes))
        head = Subject(prior, z_id, prior.z_exp_from(spread * torch.randn(prior.config.expression_modes)))
        low, high, voxel = head.box(60 + 20 * (seed % 4))
        meshes = []
        for way, doubt in enumerate((search.DOUBT, np.inf)):  # in doubt about everything
            head.queries, start = 0, time.process_time()
            with mock.patch.object(search, "DOUBT", doubt):
                meshes.append(search.extract(head.field(), low.tolist(), high.tolist(), voxel))
            took[way] += time.process_time() - start
            asked[way] += head.queries
        (one, ours), (other, theirs) = meshes
        apart_mm = vertex_error(one, other) * 1e3 / prior.config.units_per_metre
        different += apart_mm > 0.01 or len(one) != len(other) or len(ours) != len(theirs)
        largest_mm = max(largest_mm, apart_mm)
    return {
        "heads": count,
        "different": different,
        "largest_mm": float(f"{largest_mm:.2g}"),
        "queries_share": round(asked[0] / asked[1], 3),
        "cpu_s_share": round(took[0] / took[1], 3),
    }


def vertex_error(one: np.ndarray, other: np.ndarray) -> float:
    """Largest distance of a vertex (V, 3) of either surface to the nearest of the other."""
    return max(KDTree(a).query(b)[0].max() for a, b in ((one, other), (other, one)))


@torch.inference_mode()
def main() -> None:
    """Mesh one head both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="official", help="official, shipped, or a file")
    parser.add_argument("--resolution", "--size", type=int, default=256)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dense-share", type=float, default=1.0, help="share of the dense grid that is timed")
    parser.add_argument("--error-at", type=int, nargs="*", default=[64, 128], help="resolutions compared besides")
    parser.add_argument("--heads", type=int, default=0, help="so many random heads instead")
    given = parser.parse_args()
    head = subject(given.prior, given.device)
    head.field()(torch.zeros(1000, 3, device=given.device))  # warm up
    if given.heads:
        print(json.dumps({"prior": given.prior} | random_heads(head.prior, given.heads)))
        return
    error = {}
    for resolution in given.error_at:
        made = [make(head, resolution)[0] for make in (sparse, dense)]
        error[resolution] = vertex_error(*made) / head.box(resolution)[2]
        print(
            f"{resolution}: {len(made[0])} vertices sparse, {len(made[1])} dense, {error[resolution]:.2g} voxel apart"
        )

    head.queries = 0
    sparse_s, (vertices, faces, *found) = timed(given.device, lambda: sparse(head, given.resolution))
    sparse_queries, head.queries = head.queries, 0
    posed = torch.from_numpy(vertices).to(given.device)
    x_can_s, _ = timed(given.device, lambda: (head.prior.warp(posed, head.z_id, head.z_exp),))
    if given.dense_share < 1:
        dense_s, (_, scale) = timed(given.device, lambda: dense_values(head, given.resolution, given.dense_share))
        print(f"dense: one layer in {scale:.1f} was evaluated; {dense_s:.1f} s and the queries are scaled by that")
        dense_s, head.queries = dense_s * scale, round(head.queries * scale)
    else:
        dense_s, (whole, _) = timed(given.device, lambda: dense(head, given.resolution))
        error[given.resolution] = vertex_error(vertices, whole) / head.box(given.resolution)[2]
    figures = {
        "prior": given.prior,
        "device": given.device if given.device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "resolution": given.resolution,
        "voxel_mm": round(head.box(given.resolution)[2] * 1e3 / head.prior.config.units_per_metre, 3),
        "dense_s": round(dense_s, 3),
        "dense_share": given.dense_share,
        "sparse_s": round(sparse_s, 3),
        "ratio": round(dense_s / sparse_s, 2),
        "max_vertex_error_voxel": float(f"{max(error.values()):.2g}") if error else None,
        "vertex_error_voxel": {str(at): float(f"{value:.2g}") for at, value in sorted(error.items())},
        "dense_queries": head.queries,
        "sparse_queries": sparse_queries,
        "needed_queries": needed(*found),
        "x_can_s": round(x_can_s, 3),
        "triangles": len(faces),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
