"""Fit a capture's clouds as the stages do and measure the level sets against the truth face.

    python -m benchmarks.fit --cameras F --clouds DIR [--truth DIR --capture DIR --prior F]

DIR of clouds holds {sequence}/{span}.zarr.zip. Prints one JSON line last: s_per_frame and identity_s (wall, and CPU),
face_median_mm (median over all frames of the median distance of the truth face to the mesh) and its worst frame; and
lm_s and adam_s, what both solvers take for one frame from a cold start, with the distances they reach.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh

from benchmarks.truth_error import measure, truth_face, visible_samples
from pipeline.capture.cameras import Rig, read_rig
from pipeline.head.adam import adam
from pipeline.head.alignment import first_pose
from pipeline.head.clouds import Clouds
from pipeline.head.fit import Smoothness, fit_identity, fit_sequence, key_frames, millimetres
from pipeline.head.prior import HeadPrior, load_prior
from pipeline.head.residuals import Heads, draw, linearise
from pipeline.head.solver import Free, Schedule, levenberg
from pipeline.meshing.cut import Plane
from pipeline.meshing.head import mesh_head
from pipeline.settings.fit_identity import FitIdentitySettings
from pipeline.settings.fit_sequence import FitSequenceSettings
from pipeline.settings.mesh import MeshSettings


def level_set(prior: HeadPrior, heads: Heads, step: int) -> trimesh.Trimesh:
    """The fitted surface of one time step in world metres, meshed as the stage mesh does."""
    settings = MeshSettings()
    with torch.no_grad():
        z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=torch.float32))
        z_exp = prior.z_exp_from(torch.as_tensor(heads.expression[step], dtype=torch.float32))
    neck = Plane(settings.neck_offset, settings.neck_tilt_degrees)
    pose = heads.head_from_world[step]
    mesh = mesh_head(prior, z_id, z_exp, pose, settings.voxel_mm, settings.lipschitz, neck)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def against_adam(
    prior: HeadPrior, rig: Rig, clouds: Clouds, identity: np.ndarray, schedule: Schedule, points: int
) -> dict[str, float]:
    """Seconds and mean distance in millimetres of both solvers for the middle frame, from a neutral face."""
    cloud = clouds.frame(len(clouds) // 2)
    start = first_pose(prior, rig, identity, *cloud, seed=0)
    cold = Heads(identity, np.zeros((1, prior.config.expression_modes)), start[None])
    samples = draw(*cloud, start, prior, points, seed=0)
    schedule = replace(schedule, widest=20, steps=12)
    solvers = {
        "lm": lambda: levenberg(prior, cold, samples, schedule, Free())[0],
        "adam": lambda: adam(prior, cold, samples, schedule, steps=200, rate=0.05),
    }
    result = {}
    for name, solve in solvers.items():
        began = time.perf_counter()
        heads = solve()
        result[f"{name}_s"] = time.perf_counter() - began
        distance = np.median(millimetres(heads, linearise(prior, heads, samples, with_shared=False)))
        result[f"{name}_residual_mm"] = float(distance)
    return result


def main() -> None:
    """Fit every sequence below the cloud folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--cameras", type=Path, required=True)
    parser.add_argument("--clouds", type=Path, required=True)
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--held-out", default="EXP-2-eyes", help="sequence that the identity does not see")
    options = parser.parse_args()

    prior, rig = load_prior(options.prior), read_rig(options.cameras)
    sequences = [Clouds(sorted(folder.glob("*.zarr.zip"))) for folder in sorted(options.clouds.iterdir())]
    one, many = FitIdentitySettings(), FitSequenceSettings()
    began, began_cpu = time.perf_counter(), time.process_time()
    frames = key_frames([clouds for clouds in sequences if clouds.sequence != options.held_out], one.key_frames)
    identity_schedule = Schedule(one.widest_mm, one.narrowest_mm, one.steps, one.worth)
    heads, _ = fit_identity(prior, rig, frames, identity_schedule, one.points, one.free_scale, one.seed)
    result = {"identity_s": time.perf_counter() - began, "identity_cpu_s": time.process_time() - began_cpu}

    schedule = Schedule(many.widest_mm, many.narrowest_mm, many.steps, many.worth)
    smoothness = Smoothness(many.smooth_expression, many.smooth_degrees, many.smooth_mm, many.sweeps)
    seconds, cpu_seconds, medians, names = 0.0, 0.0, [], []
    for clouds in sequences:
        began, began_cpu = time.perf_counter(), time.process_time()
        fitted, _ = fit_sequence(prior, heads.identity, rig, clouds, schedule, smoothness, many.points, many.seed)
        seconds += time.perf_counter() - began
        cpu_seconds += time.process_time() - began_cpu
        for step in range(len(clouds)):
            surface = visible_samples(truth_face(options.truth, clouds.sequence, step), options.capture, count=20_000)
            figures = measure(level_set(prior, fitted, step), surface)
            medians.append(figures["face_median_mm"])
            names.append(f"{clouds.sequence}:{step}")
            print(names[-1], f"{medians[-1]:.2f} mm", flush=True)
    worst = int(np.argmax(medians))
    result |= against_adam(prior, rig, sequences[0], heads.identity, schedule, many.points)
    result |= {
        "s_per_frame": seconds / len(medians),
        "cpu_s_per_frame": cpu_seconds / len(medians),
        "face_median_mm": float(np.median(medians)),
        "face_median_worst_mm": medians[worst],
        "worst": names[worst],
        "frames": len(medians),
    }
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}))


if __name__ == "__main__":
    main()
