"""Measure the map between ARKit's weights and the head prior's expression code, on faces that training has not seen.

    python -m benchmarks.arkit --ict ict_facekit.npz [--prior F] [--faces N]

Each face is a random identity under random ARKit weights, none of them at rest. There: the weights become z_exp, and
every vertex of the narrow face at rest is moved by the prior; median_vertex_mm and its p90 say how far that is from
where ICT-FaceKit itself has the same vertex (moved_vertex_mm: of those that move by more than 1 mm), surface_mm the
median distance of its vertices to the prior's surface. And back: z_exp is fitted to 5,000 points of the true surface
(as `benchmarks.prior` does, identity known) and becomes weights again; back_vertex_mm is how far ICT-FaceKit's face of
these lies from its own of the first, weight_error their mean difference. Prints one JSON line last.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.prior import SCHEDULE, distances, visible_points
from benchmarks.truth_error import NARROW_FACE
from pipeline.head.fit.least_squares.residuals import Heads, Samples
from pipeline.head.fit.least_squares.solver import Free, levenberg
from pipeline.head.model.arkit import SHIPPED, ArkitMap, read_map
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.head.model.unwarp import unwarp
from pipeline.head.train.heads import ExpressionSampler, draw_identity
from pipeline.head.train.ict import FaceModel, head_from_ict, load_face_model
from pipeline.head.train.samples import HeadSampler

SEED = 30_000  # no seed of the training


def unseen_weights(arkit: ArkitMap, sampler: ExpressionSampler, rng: np.random.Generator) -> np.ndarray:
    """ARKit weights (52,) in 0..1 of a random expression."""
    while True:
        weights = arkit.weights(sampler.draw(rng)).clip(0, 1)
        if weights.max() > 0.05:
            return weights


def fitted(prior: HeadPrior, w: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """z_exp (E,) of points and normals (P, 3), head space, for known identity weights (I,)."""
    to_metres = np.diag([1 / prior.config.units_per_metre] * 3 + [1.0])
    heads = Heads(w, np.zeros((1, prior.config.expression_modes)), np.linalg.inv(to_metres)[None])
    metres = points / prior.config.units_per_metre
    heads, _ = levenberg(prior, heads, Samples(metres[None], normals[None], np.zeros((1, 0, 3))), SCHEDULE, Free())
    return prior.z_exp_from(torch.as_tensor(heads.expression[0], dtype=torch.float32)).numpy()


def measure(prior: HeadPrior, model: FaceModel, arkit: ArkitMap, faces: int) -> dict[str, float]:
    """Figures over random faces."""
    sampler, expressions = HeadSampler(model), ExpressionSampler(model.expression_names)
    triangles = model.face[(model.face < NARROW_FACE).all(1)]
    seen = np.concatenate([model.skin, model.eyes])
    used = np.unique(triangles)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("vertex", "still", "surface", "back", "weight")}
    for index in range(faces):
        rng = np.random.default_rng([SEED, index])
        w, weights = draw_identity(model, rng), unseen_weights(arkit, expressions, rng)
        expression = arkit.z_exp_from_weights @ weights
        posed, neutral = sampler.vertices(w, expression), sampler.vertices(w, np.zeros_like(expression))
        truth, rest = head_from_ict(posed[used]), head_from_ict(neutral[used])
        z_id, z_exp = prior.z_id_from(torch.as_tensor(w).float()), torch.from_numpy(arkit.z_exp(weights))
        x_can = prior.warp(torch.as_tensor(rest).float(), z_id, prior.neutral)[:, :3]
        mm = 1e3 / prior.config.units_per_metre
        found["vertex"].append(mm * np.linalg.norm(unwarp(prior, x_can, z_id, z_exp).numpy() - truth, axis=1))
        found["still"].append(mm * np.linalg.norm(rest - truth, axis=1))
        found["surface"].append(distances(prior, z_id, z_exp, truth, np.zeros_like(truth))[0])
        scan = visible_points(sampler, posed, neutral, seen, rng)
        again = arkit.weights(fitted(prior, w, *scan)).clip(0, 1)
        other = head_from_ict(sampler.vertices(w, arkit.z_exp_from_weights @ again)[used])
        found["back"].append(mm * np.linalg.norm(other - truth, axis=1))
        found["weight"].append(np.abs(again - weights))
        print(f"face {index}: " + ", ".join(f"{name} {np.median(rows[-1]):.2f}" for name, rows in found.items()))
    every = {name: np.concatenate(rows) for name, rows in found.items()}
    figures = {
        "median_vertex_mm": np.median(every["vertex"]),
        "moved_vertex_mm": np.median(every["vertex"][every["still"] > 1]),
        "p90_vertex_mm": np.percentile(every["vertex"], 90),
        "median_moved_mm": np.median(every["still"]),
        "surface_mm": np.median(every["surface"]),
        "back_vertex_mm": np.median(every["back"]),
        "back_p90_vertex_mm": np.percentile(every["back"], 90),
        "weight_error": every["weight"].mean(),
    }
    return {name: round(float(value), 3) for name, value in figures.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--map", type=Path, default=SHIPPED, help="arkit.safetensors")
    parser.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    parser.add_argument("--faces", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = load_prior(options.prior)
    figures = measure(prior, load_face_model(options.ict), read_map(options.map, prior.config.exp), options.faces)
    print(json.dumps({**figures, "faces": options.faces}))


if __name__ == "__main__":
    main()
