"""Carries landmarks and eyeballs from the shipped head prior to another one that has its heads in the same space.

    python -m pipeline.head.marks IN.safetensors OUT.safetensors

For a prior that no face model marks, such as MonoNPHM's; `pipeline.head.convert` does it by itself. The shipped prior's
head is laid on the other's mean head at rest: landmarks and eyeballs are where the shipped one has them. How they move
with the other's identity weights is the derivative of that fit: where the other's surface goes with a weight, the head
that is laid on it follows. Networks and codes stay as they are, bit for bit; so does `least_code`, how far codes may
reach, which is true of the prior alone whose training it describes.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline import cli
from pipeline.errors import DataError
from pipeline.head.fit.least_squares.lids import posed_landmarks
from pipeline.head.fit.least_squares.residuals import Heads, Samples, canonical_landmarks
from pipeline.head.fit.least_squares.solver import Free, Point, Schedule, kernel_weight, levenberg, normal_equations
from pipeline.head.model import pose
from pipeline.head.model.face import BROWS, FRONT
from pipeline.head.model.prior import HeadPrior, load_prior, numbers, save_prior
from pipeline.head.model.regions import region
from pipeline.store.chunk import publish

SHIPPED = Path(__file__).parent / "weights" / "head_prior.safetensors"
FACE = (-0.4, -0.32, FRONT), (0.4, BROWS, 0.55)  # the box that is looked at, head units: hair and ears tell little
DRAWN = 10_000  # places in it, of which a sixth lies near the surface
NEAR = 0.03  # head units
DETAILS = 4  # times as many points round eyes and mouth
PROJECTIONS = 4
ON_SURFACE = 1e-3  # head units
FEWEST = 300  # points on the surface; faces have some 2,000
CHUNK = 512  # points differentiated at once by codes of their own
POSE = Schedule(widest=30, narrowest=10, steps=6, worth=500)  # first, for spaces that lie some centimetres apart
SCHEDULE = Schedule(widest=10, narrowest=2, steps=15, worth=500)
FOLLOW = replace(SCHEDULE, worth=2_000)  # the fit may hold back where surfaces differ, its derivative less
# A head lies on a face that it meets, to a millimetre and with agreeing normals, in this share of points: the shipped
# prior on earlier trainings of it in 98 and 85 %, on its own face turned by 30 degrees, flat, halved or upside down in
# 48 to 73 %
MET_MM, MET = 1.0, 0.8
ELSEWHERE = "from a prior that has its heads where MonoNPHM's space has them (docs/formats.md)"
STEP = 0.25  # of an identity weight, for the slopes of places on the head that follows


@dataclass(frozen=True)
class Face:
    """`points` of a prior's mean face at rest, their outward unit `normals` (P, 3), and how far they go outwards with
    each identity weight, `outwards` (P, I); head units."""

    points: np.ndarray
    normals: np.ndarray
    outwards: np.ndarray


def _distance(prior: HeadPrior, x: Tensor, z_id: Tensor) -> Tensor:
    """Signed distances (..., P) of x (..., P, 3) to heads z_id (..., D) at rest."""
    return prior.sdf(prior.warp(x, z_id, prior.neutral), z_id)


def mean_face(prior: HeadPrior, seed: int = 0) -> Face:
    """Points all over the face of the prior's mean head. Raises DataError where none is."""
    rng = np.random.default_rng(seed)
    z_id = prior.identity.mean.detach()
    x = prior.tensor(rng.uniform(*FACE, (DRAWN, 3)))
    with torch.no_grad():
        x = x[_distance(prior, x, z_id).abs() < NEAR]
    _require_many(len(x))
    details = x[region(x, "eyes") | region(x, "mouth")].repeat(DETAILS - 1, 1)
    x = torch.cat([x, details + prior.tensor(rng.normal(0, NEAR / 6, tuple(details.shape)))])
    for _ in range(PROJECTIONS):
        distance, gradient = _by_place(prior, x, z_id)
        slope = gradient.square().sum(-1).clamp(min=0.1)
        x = x - ((distance / slope)[:, None] * gradient).clamp(-NEAR, NEAR)
    distance, gradient = _by_place(prior, x, z_id)
    steep = gradient.norm(dim=-1)
    met = (distance.abs() < ON_SURFACE) & (x[:, 2] > FRONT) & (steep > 0.3)
    _require_many(int(met.sum()))
    x, gradient, steep = x[met], gradient[met], steep[met]
    outwards = -_by_weights(prior, x, z_id) / steep[:, None]
    return Face(*(numbers(part) for part in (x, gradient / steep[:, None], outwards)))


def _require_many(points: int) -> None:
    if points < FEWEST:
        raise DataError(
            f"{points} points of the mean head's surface at rest lie where faces are; expected at least {FEWEST},"
            f" {ELSEWHERE}"
        )


def _by_place(prior: HeadPrior, x: Tensor, z_id: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distances (P,) of x (P, 3) to a head z_id (D,) at rest, and their gradients (P, 3)."""
    x = x.detach().requires_grad_()
    distance = _distance(prior, x, z_id)
    return distance.detach(), torch.autograd.grad(distance.sum(), x)[0]


def _by_weights(prior: HeadPrior, x: Tensor, z_id: Tensor) -> Tensor:
    """Derivatives (P, I) by the identity weights of the signed distances of x (P, 3) to a head z_id (D,) at rest."""
    rows = []
    for part in x.split(CHUNK):
        own = z_id.expand(len(part), -1).clone().requires_grad_()
        rows.append(torch.autograd.grad(_distance(prior, part[:, None], own).sum(), own)[0] @ prior.identity.basis)
    return torch.cat(rows).detach()


def lay_on(known: HeadPrior, face: Face) -> tuple[Heads, np.ndarray]:
    """The head of the prior `known` on a face, whose world is metres in the other's head axes, and how it follows:
    steps (6 + J + I', I) of pose, expression and identity per identity weight of the other.

    Raises DataError where it does not meet the face.
    """
    scale = known.config.units_per_metre
    samples = Samples(face.points[None] / scale, face.normals[None], np.zeros((1, 0, 3)))
    rest = np.zeros((1, known.config.expression_modes))
    start = Heads(np.zeros(known.config.identity_modes), rest, np.diag([scale, scale, scale, 1.0])[None])
    free = Free(identity=True)
    try:
        start, _ = levenberg(known, start, samples, POSE, Free(expression=False))
        heads, linear = levenberg(known, start, samples, SCHEDULE, free)
    except DataError as error:
        raise DataError(f"the mean head's surface at rest is no face; expected one, {ELSEWHERE}") from error
    near = np.abs(linear.distance[0]) < MET_MM * scale / 1e3
    met = float((near * linear.agreement[0, : linear.surface]).mean())
    if met < MET:
        raise DataError(
            f"the shipped prior's head meets {met:.0%} of the mean head's face at rest; expected at least {MET:.0%},"
            f" {ELSEWHERE}"
        )
    assert linear.shared is not None  # the identity is free
    point, width = Point(heads, linear), np.array([SCHEDULE.narrowest * scale / 1e3])
    frame, _, coupling, shared, _ = normal_equations(point, width, FOLLOW, free)
    assert coupling is not None
    assert shared is not None
    matrix = np.block([[frame[0], coupling[0]], [coupling[0].T, shared]])
    slopes = np.concatenate([linear.frame[0], linear.shared[0]], 1)[: linear.surface]
    widths, weight = point.rows(width, FOLLOW)
    weight = (weight * linear.agreement * kernel_weight(linear.residual, widths))[0, : linear.surface, None]
    turned = face.normals @ (heads.head_from_world[0, :3, :3] / scale).T
    steep = (linear.frame[0, : linear.surface, 3 : pose.POSE] * turned).sum(-1, keepdims=True)  # of a unit outwards
    return heads, -np.linalg.solve(matrix, slopes.T @ (weight * steep * face.outwards))


def places(known: HeadPrior, heads: Heads) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (L, 3) and centres of the eyeballs (2, 3) of one head, in its world."""
    code = numbers(known.z_exp_from(known.tensor(heads.expression)))
    landmarks = posed_landmarks(known, heads.identity, code, canonical_landmarks(known, heads.identity)[0])[0]
    eyes = numbers(known.eyes_from(known.tensor(heads.identity)))
    back = np.linalg.inv(heads.head_from_world[0])
    return pose.apply(back, landmarks), pose.apply(back, eyes)


@torch.no_grad()
def marked(prior: HeadPrior, known: HeadPrior) -> HeadPrior:
    """The same prior with landmarks and eyeballs, those of `known`.

    Raises DataError where it has some already, or no heads where `known` has them.
    """
    scale = known.config.units_per_metre
    if prior.config.units_per_metre != scale:
        raise DataError(f"it has {prior.config.units_per_metre:g} head units in a metre; expected {scale:g}")
    if prior.config.landmarks or prior.config.eyes:
        raise DataError(f"it has {prior.config.landmarks} landmarks and {prior.config.eyes} eyeballs; expected none")
    with torch.enable_grad():
        heads, follows = lay_on(known, mean_face(prior))
    cut = pose.POSE + heads.expression.shape[1]
    moved = [heads.moved(STEP * step[None, :cut], STEP * step[cut:]) for step in follows.T]
    found = [places(known, one) for one in (heads, *moved)]
    landmarks, eyes = (prior.tensor(scale * np.stack(part)) for part in zip(*found, strict=True))  # (1 + I, L or 2, 3)
    # a landmark is known by where the deformation takes it, of the very head that it lies on
    weights = STEP * torch.eye(len(moved) + 1, len(moved)).roll(1, 0)
    landmarks = prior.warp(landmarks, prior.z_id_from(weights), prior.neutral)[..., :3]

    sizes = {"landmarks": known.config.landmarks, "eyes": known.config.eyes}
    result = HeadPrior(prior.config.model_copy(update=sizes))
    result.load_state_dict(prior.state_dict(), strict=False)
    for statistics, at in ((result.landmarks, landmarks), (result.eyes, eyes)):
        statistics.mean.copy_(at[0].flatten())
        statistics.basis.copy_((at[1:] - at[0]).flatten(1).T / STEP)
    result.eye_radius.copy_(known.eye_radius)
    return result.requires_grad_(False)


def main() -> None:
    """Read, mark, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path, help="head prior that knows no landmarks")
    parser.add_argument("output", type=Path, help="the same with landmarks and eyeballs")
    given = parser.parse_args()
    prior = load_prior(given.prior)
    try:
        result = marked(prior, load_prior(SHIPPED))
    except DataError as error:
        raise DataError(f"{given.prior}: {error}") from error
    with publish(given.output) as partial:
        save_prior(result, partial)


if __name__ == "__main__":
    cli.run(main)
