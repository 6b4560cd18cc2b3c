"""What a GPU makes of the project, in at most eight minutes: `make test-gpu`. One table and one JSON line last.

    python -m benchmarks.gpu [--seconds 480] [--parts tests raster ...] [--json FILE]
    python -m benchmarks.gpu --cpu         the same way through everything at a tiny size, without a GPU

Needs a PyTorch (2.6 or later) that sees the GPU and installs nothing: a part whose libraries are missing says so in
one line and is skipped. Every part runs in a process of its own with what is left of the time, the most telling first:

tests           pytest -m gpu
raster          a head's buffers, as they are stored, from 16 cameras at 512x512: ms by nvdiffrast and by Embree, share
                of pixels with another mask, and with depths more than 0.15 mm apart
fit             16 time steps of a head, side by side as on a GPU against one by one as on a CPU: seconds, how far apart
mesh            one head of the official prior's size (benchmarks.headlike), 256^3 voxels in its box: ms
train_ours      a step of the sizes of Stable Diffusion 2.1 with random weights, batch 8, 512x512, as docs/gpu.md says
                (bfloat16, CUDA graphs, which take minutes to compile): images/s, peak GB, the GPU's busy share
train_release   the same by the release's recipe: float32, text encoder and autoencoder in every step
render          pictures of 512x512 in 1 and in 20 steps of diffusion, full decoder: frames/s, shares of the time
train_plain     train_ours without compilation
render_compiled render in 1 step with `compile: reduce-overhead`
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, Any]
RESERVE = 10  # seconds kept for the table
TRAIN = {"batch": 8, "steps": 10, "random_crops": False, "compile": "none"}


@dataclass(frozen=True)
class Goal:
    """What a figure should be on an H100 or H200."""

    bound: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


GOALS = {
    "train_ratio": Goal(3),
    "render_fps_1": Goal(30),
    "mesh_ms": Goal(100, at_least=False),
    "fit_pose_mm": Goal(0.01, at_least=False),
    "train_ours_gpu_busy": Goal(0.95),
}


def tests(cpu: bool) -> Figures:
    """How many tests marked `gpu` passed, failed and were skipped; on a CPU all are skipped."""
    import av  # noqa: F401
    import hypothesis  # noqa: F401
    import pytest

    class Outcomes:
        """Counts by outcome, and the names of what failed."""

        counts = {"passed": 0, "failed": 0, "skipped": 0}  # noqa: RUF012
        failed: list[str] = []  # noqa: RUF012

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                self.counts[report.outcome] += 1
                self.failed += [report.nodeid] * (report.outcome == "failed")

    outcomes = Outcomes()
    files = {str(path) for path in ROOT.glob("tests/test_*.py") if "mark.gpu" in path.read_text()}
    status = pytest.main(["-m", "gpu", "-p", "no:cacheprovider", "--tb=short", *sorted(files)], plugins=[outcomes])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.exit(f"pytest ended with {status!r}: see python -m pytest -m gpu")
    return outcomes.counts | ({"which": outcomes.failed} if outcomes.failed else {})


def raster(cpu: bool) -> Figures:
    """ms of a mesh by both rasterisers, and the share of the head's pixels where they differ."""
    import numpy as np

    from benchmarks.rasterize import bumpy_head, ring
    from pipeline.raster.backends.embree import EmbreeRasterizer
    from pipeline.raster.backends.reference import ReferenceRasterizer
    from pipeline.raster.buffers import rasterize_coded
    from pipeline.raster.coding import DEPTH_STEP

    if cpu:
        fast, cameras = ReferenceRasterizer(), ring(1, 32, 32)
    else:
        from pipeline.raster.backends.cuda import CudaRasterizer

        fast, cameras = CudaRasterizer(), ring(16, 512, 512)
    mesh = bumpy_head(2 if cpu else 6)
    found = rasterize_coded(fast, mesh, cameras)["depth"].astype(int)  # takes memory, builds kernels
    spent = [timed(lambda: rasterize_coded(fast, mesh, cameras))[0] for _ in range(1 if cpu else 10)]
    embree_s, coded = timed(lambda: rasterize_coded(EmbreeRasterizer(), mesh, cameras))
    expected = coded["depth"].astype(int)
    head, both = (found > 0) | (expected > 0), (found > 0) & (expected > 0)
    return {
        "ms": 1e3 * float(np.median(spent)),
        "embree_ms": 1e3 * embree_s,
        "other_mask": float(((found > 0) != (expected > 0)).sum() / head.sum()),
        "other_depth": float((DEPTH_STEP * np.abs(found - expected)[both] > 1.5e-4).mean()),
        "pictures": len(cameras),
    }


def fit(cpu: bool) -> Figures:
    """Seconds of time steps fitted as one batch, and one by one on a CPU; how far apart the heads are, millimetres."""
    from copy import deepcopy

    import numpy as np

    from pipeline.head.fit.clouds import Frame
    from pipeline.head.fit.fitter import Fitter, fit_beside
    from pipeline.head.fit.least_squares.residuals import Heads
    from pipeline.head.fit.least_squares.solver import Schedule
    from pipeline.head.model import pose
    from pipeline.head.model.prior import load_prior
    from pipeline.workers import compute_alike
    from tests.fit_data import WEIGHTS, cloud, facing_pose, rig_in_front

    compute_alike()
    prior, rig, rng = load_prior(WEIGHTS), rig_in_front(np.eye(4)), np.random.default_rng(2)
    count, points, steps = (2, 200, 2) if cpu else (16, 4000, 7)
    mean, rest = np.zeros(prior.config.identity_modes), np.zeros((1, prior.config.expression_modes))
    starts = [Heads(mean, rest, pose.moved(facing_pose(), 0.003 * k * np.ones(6))[None]) for k in range(count)]
    shown = [0.3 * rng.normal(size=rest.shape[1]) for _ in starts]
    clouds = [
        cloud(prior, mean, expression, start.head_from_world[0], 2 * points, k, 0.3)
        for k, (expression, start) in enumerate(zip(shown, starts, strict=True))
    ]
    alpha = np.full(rig.padded_shape, 255, np.uint8)
    frames = [Frame("nod", k, *one, alpha) for k, one in enumerate(clouds)]
    alone = Fitter(prior, rig, Schedule(8, 1.5, steps, 2000), points, 4, points // 4, 10, 0)
    beside = replace(alone, prior=deepcopy(prior).to("cpu" if cpu else "cuda"))
    fit_beside(beside, mean, frames[:1], starts[:1])  # takes memory, builds kernels
    beside_s, together = timed(lambda: fit_beside(beside, mean, frames, starts))
    pairs = list(zip(frames, starts, strict=True))
    alone_s, singly = timed(lambda: [fit_beside(alone, mean, [frame], [start])[0] for frame, start in pairs])
    places = clouds[0][0]
    apart = [
        pose.apply(np.linalg.inv(one.heads.head_from_world[0]) @ other.heads.head_from_world[0], places) - places
        for one, other in zip(singly, together, strict=True)
    ]
    medians = np.array([[tracked.median_mm for tracked in found] for found in (singly, together)])
    return {
        "s": beside_s,
        "cpu_s": alone_s,
        "pose_mm": 1e3 * float(np.linalg.norm(apart, axis=-1).max()),
        "distance_mm": float(np.abs(np.diff(medians, axis=0)).max()),
    }


def mesh(cpu: bool) -> Figures:
    """ms of a mesh of the official prior's size; of that, of marching cubes."""
    import numpy as np
    import torch

    from benchmarks.meshing import sparse, subject
    from benchmarks.meshing import timed as timed_on
    from pipeline.mesh.sparse import follow, march

    device, resolution = ("cpu", 32) if cpu else ("cuda", 256)
    with torch.inference_mode():
        head = subject("shipped" if cpu else "official", device)
        low, high, voxel = head.box(resolution)
        found = follow(head.field(), low, high, voxel, device)
        _, faces = march(*found, low, voxel)  # takes memory, makes tables
        whole, marched = (
            float(np.median([timed_on(device, work)[0] for _ in range(1 if cpu else 5)]))
            for work in (lambda: sparse(head, resolution), lambda: march(*found, low, voxel))
        )
    return {"ms": 1e3 * whole, "march_ms": 1e3 * marched, "triangles": len(faces)}


def train(cpu: bool, ours: bool, **changes: Any) -> Figures:
    """images/s, peak GB and the GPU's busy share of one recipe."""
    from benchmarks.train_step import measure

    device, size = ("cpu", "tiny") if cpu else ("cuda", "sd21")
    small = {"batch": 2, "steps": 1} if cpu else {}
    given = argparse.Namespace(device=device, size=size, **TRAIN | changes | small)
    return measure(ours, given)


def render(cpu: bool, compile_mode: str = "none") -> Figures:
    """Frames/s in 1 and in 20 steps and the networks' shares of the time, or in 1 step of compiled networks."""
    from benchmarks.sample import measure_random

    device, size = ("cpu", "tiny") if cpu else ("cuda", "sd21")
    return measure_random(device, size, compile_mode, frames=2 if cpu else 32, batch=1 if cpu else 8)


PARTS: dict[str, Callable[[bool], Figures]] = {
    "tests": tests,
    "raster": raster,
    "fit": fit,
    "mesh": mesh,
    "train_ours": lambda cpu: train(cpu, ours=True, compile="none" if cpu else "reduce-overhead"),
    "train_release": lambda cpu: train(cpu, ours=False),
    "render": render,
    "train_plain": lambda cpu: train(cpu, ours=True),
    "render_compiled": lambda cpu: render(cpu, "none" if cpu else "reduce-overhead"),
}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of work that ends on the host, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def run_part(name: str, cpu: bool, seconds: float) -> Figures:
    """Figures of one part from a process of its own, or `skipped` or `failed` with the reason in one line."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *(["--cpu"] if cpu else [])]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"skipped": f"not done after the {seconds:.0f} s that were left"}
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    return {"failed": next(reversed(done.stderr.strip().splitlines()), f"status {done.returncode}")}


def alone(name: str, cpu: bool) -> None:
    """Run one part here and print its figures; a missing library is a reason to skip it."""
    try:
        figures = PARTS[name](cpu)
    except ModuleNotFoundError as error:
        figures = {"skipped": f"no Python package {error.name}"}
    print(json.dumps(figures))


def about(cpu: bool) -> Figures:
    """The device and the versions; exits with one line where there is no GPU to test."""
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit(f"{sys.executable}: no PyTorch; expected one (>= 2.6) that sees the GPU")
    if not cpu and not torch.cuda.is_available():
        sys.exit(f"{sys.executable}: PyTorch {torch.__version__} sees no GPU; --cpu tries the way through without one")
    device = "cpu" if cpu else torch.cuda.get_device_name()
    return {"device": device, "torch": torch.__version__, "python": sys.version.split()[0]}


def lines(figures: Figures) -> list[str]:
    """The table: figure, value, what it should be on an H100 or H200."""
    result = [f"{'figure':34} {'value':>12}  goal"]
    for name, value in figures.items():
        goal = GOALS.get(name)
        verdict = f"{goal}  {'met' if goal.met(value) else 'missed'}" if goal else ""
        result.append(f"{name:34} {f'{value:.4g}' if isinstance(value, float) else value!s:>12}  {verdict}".rstrip())
    return result


def main() -> None:
    """Run the parts one after another, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="tiny sizes, no GPU: what is measured means nothing")
    parser.add_argument("--seconds", type=float, default=480, help="of everything together")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="file for the last line, too")
    given = parser.parse_args()
    if given.part:
        return alone(given.part, given.cpu)
    started = time.monotonic()
    figures = about(given.cpu)
    print(", ".join(figures.values()), flush=True)
    for name in given.parts:
        left = given.seconds - RESERVE - (time.monotonic() - started)
        found = run_part(name, given.cpu, left) if left > 0 else {"skipped": "no time left"}
        print(f"{name}: {json.dumps(found)}", flush=True)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    sides = [figures.get(f"train_{side}_images_per_s") for side in ("ours", "release")]
    if all(sides):
        figures["train_ratio"] = sides[0] / sides[1]
    figures["seconds"] = time.monotonic() - started
    print("\n".join(lines(figures)))
    last = json.dumps(figures)
    if given.json:
        given.json.write_text(last + "\n")
    print(last)


if __name__ == "__main__":
    main()
