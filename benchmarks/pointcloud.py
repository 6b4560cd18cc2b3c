"""Accuracy and speed of the point clouds of a rendered capture, from its videos on. Last line: JSON.

    python -m benchmarks.pointcloud --capture DIR --truth DIR --frames EXP-5-mouth:4 EXP-5-mouth:8 --processes 2
        [--points results/901/points]

With --points, what triangulate made of the sequences, a head guides the matching as in the workflow.

Figures are means over the frames, points_per_frame is the least: points within 30 mm of the true head. outlier_share
and completeness are those of truth_error.py, those _of_truth what an exact scan of the head gets there (points of the
true head's surface that two cameras see): ears, neck, temples and teeth count as outliers of the face, and the head
hides some of it. off_head_share has the whole true head in the face's place (hair, which has no true surface, still
counts). normal_median_degrees is the angle to the true face's normal.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial import KDTree

from benchmarks.truth_error import NEAR, OFF, camera_centres, measure, truth_face, truth_head, visible_samples
from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import read_rig
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.pictures.ingest import read_span
from pipeline.detect.person import person_mask
from pipeline.settings.ingest import IngestSettings
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stages.pointcloud import head_surface, read_known
from pipeline.stereo.cloud import Cloud, point_cloud
from pipeline.stereo.depth_maps.depth import Guide
from pipeline.workers import compute_alike

PRIOR = Path("pipeline/head/weights/head_prior.safetensors")
FRAMES = ("EXP-5-mouth:4", "EXP-5-mouth:8", "EMO-1-shout+laugh:7", "EXP-2-eyes:6")


def timed_cloud(
    rgb: np.ndarray, alpha: np.ndarray, cameras: tuple[Camera, ...], guide: Guide | None
) -> tuple[Cloud, float]:
    """A cloud with the pipeline's default settings and the CPU seconds it took."""
    began = time.process_time()
    return point_cloud(rgb, alpha, cameras, PointcloudSettings(), guide), time.process_time() - began


def guide_of(points: Path | None, sequence: str, frame: int) -> Guide | None:
    """What guides the matching of a frame, if a folder of points is given."""
    known = read_known(PRIOR, [points / f"{sequence}.zarr.zip"] if points else [], [], frame, frame + 1)
    return None if known is None else partial(head_surface, PRIOR, known[0])


def exact_scan(head: trimesh.Trimesh, capture: Path, count: int = 150_000) -> np.ndarray:
    """Points (n, 3) of the true head's surface that at least two cameras see, occlusion considered."""
    points, triangle = trimesh.sample.sample_surface(head, count, seed=0)
    seen = np.zeros(count, int)
    for centre in camera_centres(capture):
        seen += head.ray.intersects_first(np.broadcast_to(centre, points.shape), points - centre) == triangle
    return points[seen >= 2]


def figures(cloud: Cloud, truth: Path, capture: Path, sequence: str, frame: int) -> dict[str, float]:
    """All figures of one frame."""
    head, face = truth_head(truth, sequence, frame), truth_face(truth, sequence, frame)
    surface = visible_samples(face, capture)
    result = measure(cloud.points, surface)
    del result["points"]  # torso included
    scan = measure(exact_scan(head, capture), surface)
    result |= {f"{name}_of_truth": scan[name] for name in ("outlier_share", "completeness")}
    near_face = np.isfinite(KDTree(surface).query(cloud.points, distance_upper_bound=NEAR)[0])
    samples, _ = trimesh.sample.sample_surface(head, 400_000, seed=0)
    off_head = KDTree(samples).query(cloud.points)[0]
    result["off_head_share"] = float((off_head[near_face] > OFF).mean())
    result["points_per_frame"] = int((off_head < NEAR).sum())
    samples, triangle = trimesh.sample.sample_surface(face, 200_000, seed=0)
    distance, nearest = KDTree(samples).query(cloud.points)
    on_face = distance < OFF
    cosine = np.einsum("nd,nd->n", face.face_normals[triangle[nearest[on_face]]], cloud.normals[on_face])
    result["normal_median_degrees"] = float(np.degrees(np.median(np.arccos(np.clip(cosine, -1, 1)))))
    return result


def read_frames(capture: Path, cameras: Path | None, wanted: list[str]) -> tuple[list[tuple[str, int]], list[tuple]]:
    """Names (sequence, frame) and pictures (rgb, alpha, cameras) of the wanted frames, ingested as the stage does."""
    opened = open_capture(capture)
    rig, levels = read_rig(cameras) if cameras else read_rig_of(opened, 1.0), IngestSettings()
    by_sequence = defaultdict(list)
    for name in wanted:
        sequence, frame = name.rsplit(":", 1)
        by_sequence[sequence].append(int(frame))
    names, pictures = [], []
    for sequence, frames in by_sequence.items():
        for frame in frames:
            matte = (levels.background_levels, levels.person_levels)
            span = read_span(opened, sequence, rig, range(frame, frame + 1), matte, person_mask)
            rgb, alpha = (np.stack(part) for part in list(zip(*span, strict=True))[2:])
            names.append((sequence, frame))
            pictures.append((rgb, alpha, rig.cameras))
    return names, pictures


def main() -> None:
    """Ingest, reconstruct, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--cameras", type=Path, help="cameras.json in place of the capture's own cameras")
    parser.add_argument("--truth", type=Path, default=Path("../shared/captures/truth/901"))
    parser.add_argument("--frames", nargs="+", default=FRAMES, metavar="SEQUENCE:FRAME")
    parser.add_argument("--points", type=Path, help="a folder of points of the face, results/SUBJECT/points")
    parser.add_argument("--processes", type=int, default=2, help="frames at once, as the stage's --threads")
    parser.add_argument("--clouds", type=Path, help="a folder for the clouds, .npz each")
    options = parser.parse_args()
    names, pictures = read_frames(options.capture, options.cameras, options.frames)
    guides = [guide_of(options.points, *name) for name in names]
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # read by the processes to come
    with ProcessPoolExecutor(options.processes, get_context("spawn"), compute_alike) as pool:
        list(pool.map(abs, range(options.processes)))
        began = time.perf_counter()
        results = list(pool.map(timed_cloud, *zip(*pictures, strict=True), guides))
        wall = time.perf_counter() - began
    rows = []
    for (sequence, frame), (cloud, _) in zip(names, results, strict=True):
        rows.append(figures(cloud, options.truth, options.capture, sequence, frame))
        print(f"{sequence}:{frame}", json.dumps(rows[-1]), file=sys.stderr)
        if options.clouds:
            options.clouds.mkdir(parents=True, exist_ok=True)
            arrays = {name: getattr(cloud, name) for name in ("points", "normals", "colors")}
            np.savez(options.clouds / f"{sequence}_{frame}.npz", **arrays)
    summary = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
    summary["points_per_frame"] = min(row["points_per_frame"] for row in rows)
    summary["s_per_frame"] = round(wall / len(rows), 2)
    summary["cpu_s_per_frame"] = round(float(np.mean([seconds for _, seconds in results])), 2)
    print(json.dumps({**summary, "frames": len(rows)}))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
