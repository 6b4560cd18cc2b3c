"""Seek the first pose of a head in random worlds and compare with the fitted track.

    python -m benchmarks.alignment --results DIR [--poses 50] [--step N] [--landmarks [--truth DIR]]

DIR is what the workflow wrote for the subject: cameras.json, clouds, frames, tracks. Each pose turns and moves cameras
and cloud together, by any rotation and some metres; the steps of all sequences take turns, with --step the one step of
the first sequence serves all. With --landmarks the pose comes from the true landmarks as cameras with 1.5 pixels of
noise see them, otherwise from the cameras and the cloud. A success is less than 3 degrees and 5 mm off the track.
Prints one JSON line last:
poses, successes, worst_degrees, worst_mm, s_per_pose.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.landmarks import Detector
from pipeline.cameras.rig import Rig, read_rig
from pipeline.head.fit.alignment import first_head
from pipeline.head.fit.clouds import by_sequence
from pipeline.head.model import pose
from pipeline.head.model.prior import load_prior
from pipeline.store.chunk import read_arrays
from pipeline.workers import compute_alike

DEGREES, MILLIMETRES = 3, 5
METRES = 3  # standard deviation of each coordinate of where the world's origin goes


def random_world(seed: int) -> np.ndarray:
    """A rigid motion (4, 4)."""
    new_from_old = np.eye(4)
    new_from_old[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    new_from_old[:3, 3] = np.random.default_rng(seed).normal(0, METRES, 3)
    return new_from_old


def moved(rig: Rig, new_from_old: np.ndarray) -> Rig:
    """The rig in another world."""
    old_from_new = np.linalg.inv(new_from_old)
    cameras = (replace(camera, camera_from_world=camera.camera_from_world @ old_from_new) for camera in rig.cameras)
    return replace(rig, cameras=tuple(cameras))


def main() -> None:
    """Seek and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--results", type=Path, default=Path("results/901"))
    parser.add_argument("--poses", type=int, default=50)
    parser.add_argument("--landmarks", action="store_true")
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--step", type=int, help="always this step of the first sequence")
    options = parser.parse_args()
    compute_alike()

    prior, rig = load_prior(options.prior), read_rig(options.results / "cameras.json")
    sequences = by_sequence(*(sorted(options.results.glob(f"{name}/*/*.zarr.zip")) for name in ("clouds", "frames")))
    steps = [(clouds, step) for clouds in sequences for step in range(len(clouds))]
    if options.step is not None:
        steps = [(sequences[0], options.step)]
    detector = Detector(options.truth, rig, pixels=1.5, bias=0)
    mean = np.zeros(prior.config.identity_modes)
    errors, seconds = [], 0.0
    for seed in range(options.poses):
        clouds, step = steps[seed % len(steps)]
        frame, world = clouds.frame(step), random_world(seed)
        frame = detector.added(frame) if options.landmarks else frame
        frame = replace(
            frame,
            points=pose.apply(world, frame.points),
            normals=frame.normals @ world[:3, :3].T,
            landmarks=pose.apply(world, frame.landmarks),
        )
        began = time.perf_counter()
        found = first_head(prior, moved(rig, world), mean, frame, seed)
        seconds += time.perf_counter() - began
        (track,) = read_arrays(options.results / "tracks" / f"{clouds.sequence}.zarr.zip", "head_from_world")
        error = pose.motion_between(track[step], found.head_from_world[0] @ world)
        degrees, metres = np.degrees(np.linalg.norm(error[:3])), np.linalg.norm(error[3:]) / pose.scale_of(track[step])
        errors.append((float(degrees), float(1e3 * metres)))
        print(f"{clouds.sequence}:{step} {degrees:.2f} degrees, {1e3 * metres:.2f} mm", flush=True)
    result = {
        "poses": len(errors),
        "successes": sum(degrees < DEGREES and mm < MILLIMETRES for degrees, mm in errors),
        "worst_degrees": round(max(degrees for degrees, _ in errors), 2),
        "worst_mm": round(max(mm for _, mm in errors), 2),
        "s_per_pose": round(seconds / len(errors), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
