"""Measure the head prior on heads it has not seen: random identities, hair and expression mixes, drawn anew.

    python -m benchmarks.prior --ict ict_facekit.npz [--prior F] [--heads N]

Every head is measured three times: `mapped` by the codes of its known weights, `fitted` by codes and pose found from
5,000 clean points with normals spread over what a scan sees (Levenberg-Marquardt from the mean head, turned 5 degrees
and moved 5 mm), `cluttered` by those found from 5,000 worse points: a fifth lies anywhere in the prior's box with any
normal, the others are off by 1 mm (standard deviation of each coordinate) and their normals by about 15 degrees.
`ears`, `eyes`, `mouth` are measured like `mapped`, but there. Prints one JSON line last: face_l1_mm (mean distance of
the true narrow face to the level set), its median and p90, normal_consistency (mean cosine there), us_per_query (warp
and sdf, one thread, CPU time) and size_mb.
"""

import argparse
import json
import time
from pathlib import Path

import igl
import numpy as np
import torch

from benchmarks.truth_error import NARROW_FACE
from pipeline.head.fit.least_squares.residuals import Heads, Samples
from pipeline.head.fit.least_squares.solver import Free, Schedule, levenberg
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.head.model.regions import ELLIPSES, region
from pipeline.head.train.heads import ExpressionSampler, draw_identity
from pipeline.head.train.ict import EAR_CM, FaceModel, head_from_ict, load_face_model
from pipeline.head.train.samples import HeadSampler

SEED = 20_000  # no seed of the training
POINTS = 5_000
SCHEDULE = Schedule(widest=10, narrowest=1, steps=15, worth=2_000)
WIDE = Schedule(widest=20, narrowest=2.5, steps=15, worth=2_000)  # the fit stages' kernels
CLUTTER = 0.2  # share of the points
NOISE_MM = 1.0
NORMAL_NOISE = 0.2  # of each component of a unit normal


def visible_points(
    sampler: HeadSampler, posed: np.ndarray, neutral: np.ndarray, triangles: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points and outward normals (POINTS, 3), head space, even over the part of some triangles that a scan sees."""
    corners = posed[triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    pick = rng.choice(len(triangles), 3 * POINTS, p=area / area.sum())
    a, b = np.sqrt(rng.random(len(pick))), rng.random(len(pick))
    mix = np.stack([1 - a, a * (1 - b), a * b], 1)
    vertex_normals = igl.per_vertex_normals(posed, sampler.surface.astype(np.int64))
    points = np.einsum("pk,pkc->pc", mix, corners[pick])
    normals = np.einsum("pk,pkc->pc", mix, vertex_normals[triangles[pick]])
    seen = np.abs(sampler.signed_distance(posed, neutral, points)) < 0.01  # neither under hair nor behind lips
    seen &= points[:, 1] > -12.0
    points, normals = points[seen][:POINTS], normals[seen][:POINTS]
    return head_from_ict(points), normals / np.linalg.norm(normals, axis=1, keepdims=True)


def cluttered(
    prior: HeadPrior, points: np.ndarray, normals: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals (P, 3), head space, with noise; a share of CLUTTER is put anywhere in the prior's box."""
    points = points + rng.normal(0, NOISE_MM * 1e-3 * prior.config.units_per_metre, points.shape)
    normals = normals + rng.normal(0, NORMAL_NOISE, normals.shape)
    lost = rng.random(len(points)) < CLUTTER
    points[lost] = rng.uniform(prior.config.box_min, prior.config.box_max, (lost.sum(), 3))
    normals[lost] = rng.normal(size=(lost.sum(), 3))
    return points, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def distances(
    prior: HeadPrior, z_id: torch.Tensor, z_exp: torch.Tensor, points: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First-order distances (P,) in millimetres of points to the level set, and cosines (P,) of the normals there."""
    x = torch.as_tensor(points, dtype=torch.float32).requires_grad_()
    sdf = prior.sdf(prior.warp(x, z_id, z_exp), z_id)
    gradient = torch.autograd.grad(sdf.sum(), x)[0].double().numpy()
    length = np.linalg.norm(gradient, axis=1)
    distance = np.abs(sdf.detach().double().numpy()) / np.maximum(length, 0.1)
    return distance * 1e3 / prior.config.units_per_metre, (gradient * normals).sum(1) / np.maximum(length, 1e-9)


def fitted_codes(
    prior: HeadPrior, points: np.ndarray, normals: np.ndarray, schedule: Schedule
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Codes found from points (P, 3), and the (4, 4) of the head space they live in from that of the points."""
    to_metres = np.diag([1 / prior.config.units_per_metre] * 3 + [1.0])
    turn, shift = np.radians(5) * np.array([0.6, 0.64, 0.48]), np.array([0.6, -0.64, 0.48]) * 5e-3 * 4
    start = pose.moved(np.linalg.inv(to_metres)[None], np.concatenate([turn, shift])[None])
    heads = Heads(np.zeros(prior.config.identity_modes), np.zeros((1, prior.config.expression_modes)), start)
    samples = Samples(pose.apply(to_metres, points)[None], normals[None], np.zeros((1, 0, 3)))
    heads, _ = levenberg(prior, heads, samples, schedule, Free(identity=True))
    z_id = prior.z_id_from(torch.as_tensor(heads.identity, dtype=torch.float32))
    z_exp = prior.z_exp_from(torch.as_tensor(heads.expression[0], dtype=torch.float32))
    return z_id, z_exp, heads.head_from_world[0] @ to_metres


def summary(errors: list[np.ndarray], cosines: list[np.ndarray]) -> dict[str, float]:
    """Figures of all heads' points together."""
    error = np.concatenate(errors)
    return {
        "face_l1_mm": round(float(error.mean()), 3),
        "face_median_mm": round(float(np.median(error)), 3),
        "face_p90_mm": round(float(np.percentile(error, 90)), 3),
        "normal_consistency": round(float(np.concatenate(cosines).mean()), 4),
    }


def measure(prior: HeadPrior, model: FaceModel, heads: int) -> dict[str, dict[str, float]]:
    """Figures of all ways over random heads."""
    sampler, expressions = HeadSampler(model), ExpressionSampler(model.expression_names)
    face, seen = model.face[(model.face < NARROW_FACE).all(1)], np.concatenate([model.skin, model.eyes])
    middle = model.neutral[seen].mean(1)
    parts = {"ears": seen[model.from_ear(middle) < EAR_CM]}
    parts |= {name: seen[region(torch.from_numpy(head_from_ict(middle)), name).numpy()] for name in ELLIPSES}
    found: dict[str, tuple[list, list]] = {way: ([], []) for way in ("mapped", "fitted", "cluttered", *parts)}
    for index in range(heads):
        rng = np.random.default_rng([SEED, index])
        w, expression = draw_identity(model, rng), expressions.draw(rng)
        posed, neutral = sampler.vertices(w, expression), sampler.vertices(w, np.zeros_like(expression))
        points, normals = visible_points(sampler, posed, neutral, face, rng)
        scan = visible_points(sampler, posed, neutral, seen, rng)
        known = prior.z_id_from(torch.as_tensor(w, dtype=torch.float32)), torch.as_tensor(expression).float()
        ways = {"mapped": distances(prior, *known, points, normals)}
        worse = cluttered(prior, *scan, rng)
        for way, given, schedule in (("fitted", scan, SCHEDULE), ("cluttered", worse, WIDE)):
            z_id, z_exp, moved = fitted_codes(prior, *given, schedule)
            rotation = moved[:3, :3] / pose.scale_of(moved)
            ways[way] = distances(prior, z_id, z_exp, pose.apply(moved, points), normals @ rotation.T)
        for part, triangles in parts.items():
            ways[part] = distances(prior, *known, *visible_points(sampler, posed, neutral, triangles, rng))
        for way, (error, cosine) in ways.items():
            found[way][0].append(error)
            found[way][1].append(cosine)
        print(f"head {index}: " + ", ".join(f"{way} {error.mean():.2f} mm" for way, (error, _) in ways.items()))
    return {way: summary(*values) for way, values in found.items()}


def microseconds(prior: HeadPrior) -> float:
    """CPU time of warp and sdf for a point, best of three runs over 100,000."""
    z_id = prior.z_id_from(torch.zeros(prior.config.identity_modes))
    x = torch.rand(100_000, 3) - 0.5
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        with torch.no_grad():
            prior.sdf(prior.warp(x, z_id, prior.neutral), z_id)
        best = min(best, time.process_time() - start)
    return best / len(x) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--heads", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = load_prior(options.prior)
    figures = measure(prior, load_face_model(options.ict), options.heads)
    size = round(options.prior.stat().st_size / 1e6, 2)
    print(json.dumps({**figures, "us_per_query": round(microseconds(prior), 2), "size_mb": size}))


if __name__ == "__main__":
    main()
