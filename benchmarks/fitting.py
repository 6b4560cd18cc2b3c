"""Fit a capture as the stages do and measure the level sets against the truth face and the silhouettes.

    python -m benchmarks.fitting --results DIR [--rows ROW ...] [--every N] [--truth DIR --capture DIR --prior F]

DIR is what the workflow wrote for the subject: cameras.json, clouds, frames. Prints one JSON line per row as soon as
it is measured, with the most memory that the process has taken so far (peak_mb), and one with all of them last:

solvers: lm_s_per_frame, adam_s_per_frame, ratio: the middle frame of every sequence from a cold start with both
    solvers, Adam with the fewest steps (25, 50, 100, 200, 400) that bring its median distance to that of
    Levenberg-Marquardt; distances and Adam's steps are means. Each frame's own are printed before.
sequences: identity_s, s_per_frame: wall time of the identity, and of a sequence's time step, smoothing included.
    face_median_mm: median over frames of the median distance of the truth face to the mesh; and the worst frame.
    outside_percent, outside_mm: share of the meshes' pixels that lie outside the silhouettes, and how far at worst.

The other rows are identities and tracks of the held-out sequence fitted to something else, ROW_face_median_mm and
ROW_outside_percent: without_free_space (clouds only), true_points (the true skin where two cameras look at it), noisy
(1 mm), cluttered (a fifth of the points anywhere), holed (ten holes of 3 cm radius).
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from benchmarks.truth_error import measure, truth_face, truth_head, visible_samples, visible_surface
from pipeline.cameras.rig import Rig, read_rig
from pipeline.head.fit.alignment import first_head
from pipeline.head.fit.clouds import Clouds, Frame, by_sequence
from pipeline.head.fit.fitter import Fitter, fit_identity
from pipeline.head.fit.least_squares.adam import adam
from pipeline.head.fit.least_squares.residuals import Heads, linearise
from pipeline.head.fit.least_squares.solver import Free, levenberg, millimetres
from pipeline.head.fit.sequence import Smoothness, fit_sequence
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.mesh.mesh import Mesh
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.settings.fit_identity import FitIdentitySettings
from pipeline.settings.fit_sequence import FitSequenceSettings
from pipeline.settings.mesh import MeshSettings
from pipeline.workers import compute_alike

SKIN = 11248  # the vertices before this one are face, head and neck; then come mouth, eyes and teeth
ADAM_STEPS = (25, 50, 100, 200, 400)


@dataclass(frozen=True)
class Altered:
    """Clouds whose frames are changed when they are read."""

    clouds: Clouds
    change: Callable[[Frame], Frame]

    @property
    def sequence(self) -> str:
        """The sequence's name."""
        return self.clouds.sequence

    def __len__(self) -> int:
        return len(self.clouds)

    def frame(self, step: int) -> Frame:
        """A changed time step."""
        return self.change(self.clouds.frame(step))


def noisy(frame: Frame) -> Frame:
    """Every coordinate of every point 1 mm off (standard deviation)."""
    rng = np.random.default_rng(frame.step)
    return replace(frame, points=frame.points + rng.normal(0, 1e-3, frame.points.shape))


def cluttered(frame: Frame) -> Frame:
    """A fifth of the points anywhere in the cloud's bounding box, with any normal."""
    rng = np.random.default_rng(frame.step)
    stray = rng.random(len(frame.points)) < 0.2
    points, normals = frame.points.copy(), frame.normals.copy()
    points[stray] = rng.uniform(points.min(0), points.max(0), (stray.sum(), 3))
    normals[stray] = Rotation.random(stray.sum(), random_state=frame.step).apply([0, 0, 1.0])
    return replace(frame, points=points, normals=normals)


def holed(frame: Frame) -> Frame:
    """Without what lies within 3 cm of ten random points of the cloud."""
    rng = np.random.default_rng(frame.step)
    middles = frame.points[rng.choice(len(frame.points), 10)]
    kept = (np.linalg.norm(frame.points[:, None] - middles, axis=-1) > 0.03).all(1)
    return replace(frame, points=frame.points[kept], normals=frame.normals[kept])


def level_set(prior: HeadPrior, heads: Heads, step: int) -> Mesh:
    """The fitted surface of one time step in world metres, meshed as the stage mesh does."""
    settings = MeshSettings()
    with torch.no_grad():
        z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=torch.float32))
        z_exp = prior.z_exp_from(torch.as_tensor(heads.expression[step], dtype=torch.float32))
    neck = Plane(settings.neck_offset, settings.neck_tilt_degrees)
    return mesh_head(prior, z_id, z_exp, heads.head_from_world[step], settings.voxel_mm, neck)


def outside(mesh: Mesh, rig: Rig, alpha: np.ndarray) -> tuple[float, float]:
    """Share in percent of a mesh's pixels, over all cameras, where `alpha` (C, H, W) is background, and the farthest
    of them from the silhouette in millimetres."""
    rasterized = EmbreeRasterizer().rasterize(mesh.vertices, mesh.faces, rig.cameras)
    pixels = np.zeros(2)
    farthest = 0.0
    for fragments, cover, camera in zip(rasterized, alpha, rig.cameras, strict=True):
        away = cv2.distanceTransform((cover < 128).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        stray = fragments.hit & (away > 0)
        pixels += stray.sum(), fragments.hit.sum()
        metres = away * fragments.depth / camera.intrinsics[0, 0]
        farthest = max(farthest, float((metres * stray).max()))
    return float(100 * pixels[0] / pixels[1]), 1e3 * farthest


def against_adam(fitter: Fitter, frame: Frame, identity: np.ndarray) -> dict[str, float]:
    """Seconds and median distance in millimetres of both solvers for a frame, from a neutral face."""
    prior = fitter.prior
    found = first_head(prior, fitter.rig, identity, frame, seed=0)
    cold = Heads(identity, np.zeros_like(found.expression), found.head_from_world)
    samples = fitter.samples(frame, cold)
    schedule = replace(fitter.schedule, widest=20, steps=12)

    def timed(solve: Callable[[], Heads]) -> tuple[float, float]:
        began = time.perf_counter()
        heads = solve()
        seconds = time.perf_counter() - began
        return seconds, float(np.median(millimetres(heads, linearise(prior, heads, samples, with_shared=False))))

    lm_s, lm_mm = timed(lambda: levenberg(prior, cold, samples, schedule, Free())[0])
    for steps in ADAM_STEPS:
        adam_s, adam_mm = timed(lambda steps=steps: adam(prior, cold, samples, schedule, steps, rate=0.05))
        if adam_mm <= lm_mm:
            break
    return {
        "lm_s_per_frame": lm_s,
        "adam_s_per_frame": adam_s,
        "lm_mm": lm_mm,
        "adam_mm": adam_mm,
        "adam_steps": steps,
    }


@dataclass(frozen=True)
class Bench:
    """A capture, its steps, and what is held out."""

    prior: HeadPrior
    rig: Rig
    sequences: list[Any]
    capture: Path
    truth: Path
    held_out: str
    every: int

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Bench":
        """What the options of `parser` name."""
        files = [sorted(options.results.glob(f"{name}/*/*.zarr.zip")) for name in ("clouds", "frames")]
        rig, sequences = read_rig(options.results / "cameras.json"), by_sequence(*files)
        named = options.capture, options.truth, options.held_out, options.every
        return cls(load_prior(options.prior), rig, sequences, *named)

    def true_points(self, frame: Frame) -> Frame:
        """The frame with points of the true skin instead of its cloud."""
        head = truth_head(self.truth, frame.sequence, frame.step)
        head.update_faces((head.faces < SKIN).all(1))
        points, normals = visible_surface(head, self.capture, count=60_000)
        return replace(frame, points=points, normals=normals)

    def fitter(self, settings: FitIdentitySettings | FitSequenceSettings, free: bool = True) -> Fitter:
        """The fitter of a stage's settings, with or without free space."""
        return Fitter.of(self.prior, self.rig, settings if free else settings.model_copy(update={"free": 0}))

    def identity(self, free: bool = True) -> np.ndarray:
        """Weights (I,) fitted to all sequences but the held-out one."""
        settings = FitIdentitySettings()
        training = [clouds for clouds in self.sequences if clouds.sequence != self.held_out]
        fitter = self.fitter(settings, free)
        heads, _, names = fit_identity(fitter, training, settings.key_frames)
        print("key frames", *names, flush=True)
        return heads.identity

    @cached_property
    def timed_identity(self) -> tuple[np.ndarray, float]:
        """The identity, and the seconds it took."""
        began = time.perf_counter()
        return self.identity(), time.perf_counter() - began

    def track(self, identity: np.ndarray, clouds: Any, free: bool = True) -> Heads:
        """The track of one sequence."""
        settings = FitSequenceSettings()
        deviations = settings.smooth_expression, settings.smooth_degrees, settings.smooth_mm
        smoothness = Smoothness(*deviations, settings.sweeps)
        return fit_sequence(self.fitter(settings, free), identity, clouds, settings.window, smoothness, map)[0]

    def measured(self, heads: Heads, clouds: Any) -> list[tuple[str, float, float, float]]:
        """Name, face error in millimetres, and what `outside` says of every so many time steps."""
        rows = []
        for step in range(0, len(clouds), self.every):
            mesh = level_set(self.prior, heads, step)
            surface = visible_samples(truth_face(self.truth, clouds.sequence, step), self.capture, count=20_000)
            face = measure(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), surface)["face_median_mm"]
            rows.append((f"{clouds.sequence}:{step}", face, *outside(mesh, self.rig, clouds.frame(step).alpha)))
            print("{} {:.2f} mm, {:.2f} % outside, {:.1f} mm".format(*rows[-1]), flush=True)
        return rows

    def solvers(self) -> dict[str, Any]:
        """Both solvers on the middle frame of every sequence."""
        fitter, rows = self.fitter(FitSequenceSettings()), []
        for clouds in self.sequences:
            middle = clouds.frame(len(clouds) // 2)
            rows.append(against_adam(fitter, middle, self.timed_identity[0]))
            print(f"{clouds.sequence}:{middle.step}", *(f"{name} {x:.3g}" for name, x in rows[-1].items()), flush=True)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return means | {"ratio": means["adam_s_per_frame"] / means["lm_s_per_frame"]}

    def whole(self) -> dict[str, Any]:
        """What the stages reach, and in which time."""
        identity, identity_s = self.timed_identity
        seconds, rows = 0.0, []
        for clouds in self.sequences:
            began = time.perf_counter()
            heads = self.track(identity, clouds)
            seconds += time.perf_counter() - began
            rows += self.measured(heads, clouds)
        names, faces, shares, farthest = zip(*rows, strict=True)
        worst = int(np.argmax(faces))
        return {
            "identity_s": identity_s,
            "s_per_frame": seconds / sum(map(len, self.sequences)),
            "frames": len(rows),
            "face_median_mm": float(np.median(faces)),
            "face_median_worst_mm": faces[worst],
            "worst": names[worst],
            "outside_percent": float(np.mean(shares)),
            "outside_mm": max(farthest),
        }

    def variant(self, name: str, change: Callable[[Frame], Frame] | None, free: bool = True) -> dict[str, float]:
        """Face error and share outside of the held-out sequence where every frame is changed."""
        bench = self if change is None else replace(self, sequences=[Altered(c, change) for c in self.sequences])
        held_out = next(clouds for clouds in bench.sequences if clouds.sequence == self.held_out)
        rows = bench.measured(bench.track(bench.identity(free), held_out, free), held_out)
        _, faces, shares, _ = zip(*rows, strict=True)
        return {
            f"{name}_face_median_mm": float(np.median(faces)),
            f"{name}_outside_percent": float(np.mean(shares)),
        }


ROWS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "solvers": Bench.solvers,
    "sequences": Bench.whole,
    "without_free_space": lambda bench: bench.variant("without_free_space", None, free=False),
    "true_points": lambda bench: bench.variant("true_points", bench.true_points),
    "noisy": lambda bench: bench.variant("noisy", noisy),
    "cluttered": lambda bench: bench.variant("cluttered", cluttered),
    "holed": lambda bench: bench.variant("holed", holed),
}


def parser(about: str) -> argparse.ArgumentParser:
    """Options that say what is fitted and measured."""
    result = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    result.add_argument("--results", type=Path, default=Path("results/901"))
    result.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    result.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    result.add_argument("--held-out", default="EXP-2-eyes", help="sequence that the identity does not see")
    result.add_argument("--every", type=int, default=1, help="measure every so many frames; all are fitted")
    return result


def main() -> None:
    """Fit every sequence of the results."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="what to measure; all by default"
    )
    options = arguments.parse_args()
    compute_alike()
    bench = Bench.of(options)
    result: dict[str, Any] = {}
    for row in options.rows:
        figures = ROWS[row](bench) | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        figures = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
        print(json.dumps({"row": row, **figures}), flush=True)
        result |= figures
    print(json.dumps(result))


if __name__ == "__main__":
    main()
