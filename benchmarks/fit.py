"""Fit a capture's clouds as the stages do and measure the level sets against the truth face.

    python benchmarks/fit.py --cameras F --clouds DIR --truth DIR --capture DIR [--prior F] [--adam]

DIR of clouds holds {sequence}/{span}.zarr.zip. Prints one JSON line last: s_per_frame and identity_s (wall),
face_median_mm (median over all frames of the median distance of the truth face to the mesh), its worst frame, and with
--adam the reference's seconds per frame to the same energy.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from skimage.measure import marching_cubes

from benchmarks.truth_error import measure, truth_face, visible_samples
from pipeline.capture.cameras import read_rig
from pipeline.head import pose
from pipeline.head.clouds import Clouds
from pipeline.head.fit import Smoothness, fit_identity, fit_sequence, key_frames
from pipeline.head.prior import HeadPrior, load_prior
from pipeline.head.residuals import Heads
from pipeline.head.solver import Schedule
from pipeline.settings.fit_identity import FitIdentitySettings
from pipeline.settings.fit_sequence import FitSequenceSettings

GRID_MM = 2.5  # step of the grid whose level set is measured


def level_set(prior: HeadPrior, heads: Heads, step: int) -> trimesh.Trimesh:
    """The fitted surface of one time step in world metres."""
    low, high = np.array(prior.config.box_min), np.array(prior.config.box_max)
    pitch = GRID_MM * prior.config.units_per_metre / 1e3
    axes = [np.arange(a, b, pitch) for a, b in zip(low, high, strict=True)]
    grid = torch.as_tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1), dtype=torch.float32)
    with torch.no_grad():
        z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=torch.float32))
        z_exp = prior.z_exp_from(torch.as_tensor(heads.expression[step], dtype=torch.float32))
        field = prior.sdf(prior.warp(grid.reshape(-1, 3), z_id, z_exp), z_id).reshape(grid.shape[:3]).numpy()
    vertices, faces, *_ = marching_cubes(field, 0.0, spacing=(pitch,) * 3)
    world = pose.apply(np.linalg.inv(heads.head_from_world[step]), vertices + low)
    return trimesh.Trimesh(world, faces, process=False)


def main() -> None:
    """Fit every sequence below the cloud folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--cameras", type=Path, required=True)
    parser.add_argument("--clouds", type=Path, required=True)
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--held-out", default="EXP-2-eyes", help="sequence that the identity does not see")
    parser.add_argument("--adam", type=int, default=0, help="Adam steps of the reference, on the first sequence")
    options = parser.parse_args()

    prior, rig = load_prior(options.prior), read_rig(options.cameras)
    sequences = [Clouds(sorted(folder.glob("*.zarr.zip"))) for folder in sorted(options.clouds.iterdir())]
    one, many = FitIdentitySettings(), FitSequenceSettings()
    began = time.perf_counter()
    frames = key_frames([clouds for clouds in sequences if clouds.sequence != options.held_out], one.key_frames)
    identity_schedule = Schedule(one.widest_mm, one.narrowest_mm, one.steps, one.worth)
    heads, _ = fit_identity(prior, rig, frames, identity_schedule, one.points, one.free_scale, one.seed)
    result = {"identity_s": time.perf_counter() - began}

    schedule = Schedule(many.widest_mm, many.narrowest_mm, many.steps, many.worth)
    smoothness = Smoothness(many.smooth_expression, many.smooth_degrees, many.smooth_mm, many.sweeps)
    seconds, medians, names = 0.0, [], []
    for clouds in sequences:
        began = time.perf_counter()
        fitted, _ = fit_sequence(prior, heads.identity, rig, clouds, schedule, smoothness, many.points, many.seed)
        seconds += time.perf_counter() - began
        for step in range(len(clouds)):
            surface = visible_samples(truth_face(options.truth, clouds.sequence, step), options.capture, n=20_000)
            figures = measure(level_set(prior, fitted, step), surface)
            medians.append(figures["face_median_mm"])
            names.append(f"{clouds.sequence}:{step}")
            print(names[-1], f"{medians[-1]:.2f} mm", flush=True)
    worst = int(np.argmax(medians))
    result |= {
        "s_per_frame": seconds / len(medians),
        "face_median_mm": float(np.median(medians)),
        "face_median_worst_mm": medians[worst],
        "worst": names[worst],
        "frames": len(medians),
    }
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}))


if __name__ == "__main__":
    main()
