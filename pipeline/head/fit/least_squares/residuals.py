"""How far cloud points and landmarks lie off the posed head, how much to believe each, and the exact derivatives."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.head.fit.least_squares.lids import USED, find_gaps
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers
from pipeline.head.model.regions import region

CHUNK = 4096  # points differentiated at once: the per-point codes and their gradients stay below 100 MB
GPU_CHUNK = 4 * CHUNK  # on a GPU: with a free identity at MonoNPHM's widths 2 GB
CELL = 0.02  # head units (5 mm): points are drawn evenly over cells of this size, however dense the cloud is there


Chosen = np.ndarray | slice | list[int]  # frames: indices (F',), a mask (F,) or a slice
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]  # residual, agreement, frame, shared of Linearised


@dataclass(frozen=True)
class Samples:
    """As many points of each frame, float64, world metres: `points` (F, P + Q, 3), of which the first P lie on the
    surface with outward unit `normals` (F, P, 3) and the last Q in free space; `landmarks` (F, L, 3), NaN where
    unknown, L being the prior's or zero; `gaps` (F, 4 or 0) between the lids, metres, NaN where unknown."""

    points: np.ndarray
    normals: np.ndarray
    landmarks: np.ndarray
    gaps: np.ndarray = None  # type: ignore[assignment]  # none, unless given

    def __post_init__(self) -> None:
        if self.gaps is None:
            object.__setattr__(self, "gaps", np.zeros((len(self.points), 0)))

    def frames(self, chosen: Chosen) -> "Samples":
        """The samples of the frames `chosen`."""
        return Samples(self.points[chosen], self.normals[chosen], self.landmarks[chosen], self.gaps[chosen])

    def with_free(self, points: np.ndarray) -> "Samples":
        """The same with points (F, Q, 3) in free space."""
        return replace(self, points=np.concatenate([self.points, points], 1))


@dataclass(frozen=True)
class Heads:
    """One identity in F frames: standard normal weights `identity` (I,) and `expression` (F, J), float64, and
    `head_from_world` (F, 4, 4) float64."""

    identity: np.ndarray
    expression: np.ndarray
    head_from_world: np.ndarray

    def moved(self, frame_step: np.ndarray, shared_step: np.ndarray | None) -> "Heads":
        """After steps (F, 6 + J) of pose and expression and (I,) of identity."""
        return Heads(
            self.identity if shared_step is None else self.identity + shared_step,
            self.expression + frame_step[:, pose.POSE :],
            pose.moved(self.head_from_world, frame_step[:, : pose.POSE]),
        )

    def instead(self, other: "Heads", chosen: np.ndarray) -> "Heads":
        """The same identity with the frames `chosen` (F,) bool of another."""
        expression = np.where(chosen[:, None], other.expression, self.expression)
        poses = np.where(chosen[:, None, None], other.head_from_world, self.head_from_world)
        return replace(self, expression=expression, head_from_world=poses)

    def frames(self, chosen: Chosen) -> "Heads":
        """The same identity in the frames `chosen`."""
        return replace(self, expression=self.expression[chosen], head_from_world=self.head_from_world[chosen])


@dataclass(frozen=True)
class Linearised:
    """The residuals of F x S rows (S = P + Q + 3 L + E + G) at some heads: the first `surface` = P are of points on
    the surface, the first `points` = P + Q of points, the last `gaps` = G of the gaps between lids, the `codes` = E
    before them of the numbers of z_exp (none where the prior has no bound), the others the landmarks' coordinates.

    `residual` (F, S) head units: the signed distance, of points in free space zero where they are not inside; of a
    landmark how far off its canonical place the deformation takes it, along x, y, z; of a code how far it is below
    what the prior was trained on, in its own unit; of a gap how much wider the head's is than it was seen;
    `agreement` (F, S) in [0, 1]: near zero where a surface point lies outside the prior's box or its normal contradicts
    the surface, zero for a landmark that is unknown or outside; `frame` (F, S, 6 + J) derivatives by pose motion and
    expression weights; `shared` (F, S, I) by identity weights, or None if not asked for.
    """

    residual: np.ndarray
    agreement: np.ndarray
    frame: np.ndarray
    shared: np.ndarray | None
    surface: int
    points: int
    codes: int
    gaps: int

    @property
    def distance(self) -> np.ndarray:
        """(F, P) signed distances of the surface points, head units."""
        return self.residual[:, : self.surface]


def draw(
    points: np.ndarray,
    normals: np.ndarray,
    head_from_world: np.ndarray,
    prior: HeadPrior,
    count: int,
    seed: int,
    eye_density: float = 1.0,
) -> Samples:
    """`count` points of one cloud, (N, 3) world, spread evenly over its surface inside the prior's box, but round the
    eyes `eye_density` times as densely.

    Drawn again where there are fewer. Raises DataError when the box holds none.
    """
    in_head = pose.apply(head_from_world, points)
    inside = np.flatnonzero(in_box(prior, in_head))
    if not len(inside):
        raise DataError(f"none of {len(points)} cloud points lies near the head")
    _, cell, members = np.unique(
        np.floor(in_head[inside] / CELL).astype(int), axis=0, return_inverse=True, return_counts=True
    )
    by_eyes = region(torch.from_numpy(in_head[inside]), "eyes").numpy()  # no expression moves them in head space
    chance = np.where(by_eyes, eye_density, 1.0) / members[cell.reshape(-1)]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(inside, count, replace=len(inside) < count, p=chance / chance.sum())
    return Samples(points[chosen][None], normals[chosen][None], np.zeros((1, 0, 3)))


def join(samples: list[Samples]) -> Samples:
    """The samples of several frames as one batch."""
    return Samples(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in samples), strict=True)))


def linearise(prior: HeadPrior, heads: Heads, samples: Samples, with_shared: bool) -> Linearised:
    """Residuals, agreement and exact derivatives."""
    x = pose.apply(heads.head_from_world, samples.points)
    residual, gradient, frame, shared = answers(prior, heads, x, _signed_distance, with_shared)
    surface, points = samples.normals.shape[1], samples.points.shape[1]
    inside = in_box(prior, x)
    counts = np.ones(residual.shape)
    counts[:, surface:] = (inside & (residual < 0))[:, surface:]
    agreement = np.ones(residual.shape)
    agreement[:, :surface] = inside[:, :surface] * _agreement(heads, samples, gradient[:, :surface])
    residual, frame = counts * residual, counts[..., None] * frame
    shared = None if shared is None else counts[..., None] * shared
    parts: list[Rows] = [(residual, agreement, frame, shared)]
    if samples.landmarks.shape[1]:
        parts.append(_landmark_rows(prior, heads, samples.landmarks, with_shared))
    bounded = prior.config.least_code is not None
    if bounded:
        parts.append(code_rows(prior, heads, with_shared))
    if samples.gaps.shape[1]:
        parts.append(gap_rows(prior, heads, samples.gaps, with_shared))
    codes = prior.config.z_exp if bounded else 0
    return Linearised(*_all_rows(parts), surface, points, codes, samples.gaps.shape[1])


def _all_rows(parts: list[Rows]) -> Rows:
    """The rows of several kinds of residuals one after another."""
    residual, agreement, frame = (np.concatenate(rows, 1) for rows in zip(*(part[:3] for part in parts), strict=True))
    shared = [part[3] for part in parts if part[3] is not None]
    return residual, agreement, frame, np.concatenate(shared, 1) if shared else None


def canonical_landmarks(prior: HeadPrior, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the landmarks of identity weights (I,) lie at rest, (L, 3) head units, and the derivatives (L, 3, I)."""
    places = numbers(prior.landmarks_from(prior.tensor(identity)))
    return places, numbers(prior.landmarks.basis).reshape(*places.shape, -1)


def _landmark_rows(prior: HeadPrior, heads: Heads, landmarks: np.ndarray, with_shared: bool) -> Rows:
    """Residual, agreement, frame and shared of the coordinates of landmarks (F, L, 3), all x before all y."""
    canonical, by_weights = canonical_landmarks(prior, heads.identity)
    x = pose.apply(heads.head_from_world, landmarks)
    known = in_box(prior, x)  # NaN is not
    x = np.where(known[..., None], x, 0)
    parts: list[Rows] = []
    for axis in range(3):
        place, _, frame, shared = answers(prior, heads, x, coordinate(axis), with_shared)
        if shared is not None:
            shared -= by_weights[:, axis]
            shared *= known[..., None]
        parts.append((known * (place - canonical[:, axis]), known.astype(float), known[..., None] * frame, shared))
    return _all_rows(parts)


def code_rows(prior: HeadPrior, heads: Heads, with_shared: bool) -> Rows:
    """Residual, agreement, frame and shared of the numbers (F, E) of z_exp: what lies below the least that is known.

    Out there a network may do anything: the shipped prior's lids no longer move, whatever the others say, where brows,
    cheeks and mouth are a tenth below zero, and no derivative leads back.
    """
    basis = numbers(prior.expression.basis)  # (E, J)
    code = numbers(prior.expression.mean) + heads.expression @ basis.T
    below = np.minimum(code - prior.config.least_code, 0)
    frame = np.zeros((*below.shape, pose.POSE + basis.shape[1]))
    frame[..., pose.POSE :] = (below < 0)[..., None] * basis
    shared = np.zeros((*below.shape, len(heads.identity))) if with_shared else None
    return below, np.ones_like(below), frame, shared


def gap_rows(prior: HeadPrior, heads: Heads, gaps: np.ndarray, with_shared: bool) -> Rows:
    """Residual, agreement, frame and shared of the gaps (F, G) between lids.

    A lid's place x in the posed head is where the deformation D leads to the landmark at rest, D(x, w) = place(w), so
    dx = -(dD/dx)^-1 (dD/dw - dplace/dw), by expression and by identity. A motion of the head changes no gap.
    """
    places, by_weights = canonical_landmarks(prior, heads.identity)
    z_exp = numbers(prior.z_exp_from(prior.tensor(heads.expression)))
    found = find_gaps(prior, heads.identity, z_exp, places)
    by_axis = [answers(prior, heads, found.x, coordinate(axis), with_shared)[1:] for axis in range(3)]
    by_x, by_frame = np.stack([rows[0] for rows in by_axis], 2), np.stack([rows[1] for rows in by_axis], 2)
    by_weight = [rows[2] for rows in by_axis if rows[2] is not None]

    def of_gaps(by_what: np.ndarray) -> np.ndarray:  # of (F, 8, 3, n)
        moved = -np.linalg.solve(by_x, by_what)
        return np.einsum("fgx,fgxn->fgn", found.unit, moved[:, ::2] - moved[:, 1::2])

    scale = pose.scale_of(heads.head_from_world)[:, None]
    known = np.isfinite(gaps)
    seen = np.where(known, scale * np.nan_to_num(gaps), found.length)
    frame = known[..., None] * of_gaps(np.concatenate([0 * by_frame[..., : pose.POSE], by_frame[..., pose.POSE :]], -1))
    shared = None
    if by_weight:
        shared = known[..., None] * of_gaps(np.stack(by_weight, 2) - by_weights[USED])
    return found.length - seen, known.astype(float), frame, shared


Question = Callable[[HeadPrior, Tensor, Tensor, Tensor], Tensor]  # of points, z_id, z_exp: one number per point


def _signed_distance(prior: HeadPrior, x: Tensor, z_id: Tensor, z_exp: Tensor) -> Tensor:
    x_can = prior.warp(x, z_id, z_exp)
    return prior.sdf(x_can, z_id)[:, 0] if z_id.ndim > 1 else prior.sdf(x_can[:, 0], z_id)


def coordinate(axis: int) -> Question:
    return lambda prior, x, z_id, z_exp: prior.warp(x, z_id, z_exp)[:, 0, axis]


def answers(
    prior: HeadPrior, heads: Heads, x: np.ndarray, question: Question, with_shared: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The answers (F, S) at points x (F, S, 3), head units, and their derivatives by x (F, S, 3), by `frame` and
    `shared` as in Linearised.

    Every point gets its own copy of the codes, so that one backward pass gives all derivatives by them: the codes only
    enter through biases, hence the copies are cheap.
    """
    frames, count = x.shape[:2]
    x = x.reshape(-1, 3)
    frame_of = np.repeat(np.arange(frames), count)
    value = np.empty(len(x))
    gradient = np.empty((len(x), 3))
    by_expression = np.empty((len(x), heads.expression.shape[1]))
    by_identity = np.empty((len(x), len(heads.identity))) if with_shared else None
    chunk = CHUNK if prior.identity.mean.device.type == "cpu" else GPU_CHUNK
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        grads = _gradients(prior, x[part], heads.expression[frame_of[part]], heads.identity, question, with_shared)
        value[part], gradient[part], by_expression[part] = grads[:3]
        if by_identity is not None:
            by_identity[part] = grads[3]
    frame = np.concatenate([np.cross(x, gradient), gradient, by_expression], -1).reshape(frames, count, -1)
    shared = None if by_identity is None else by_identity.reshape(frames, count, -1)
    return value.reshape(frames, count), gradient.reshape(frames, count, 3), frame, shared


def in_box(prior: HeadPrior, x: np.ndarray) -> np.ndarray:
    """Whether points (..., 3), head units, lie in the space that the prior knows; (...,) bool."""
    return np.all((x > np.array(prior.config.box_min)) & (x < np.array(prior.config.box_max)), axis=-1)


def _gradients(
    prior: HeadPrior, x: np.ndarray, expression: np.ndarray, identity: np.ndarray, question: Question, with_shared: bool
) -> tuple[np.ndarray, ...]:
    """Answers (P,) and their derivatives by x (P, 3), expression (P, J) and, if asked, identity (P, I)."""
    leaf = prior.tensor(x)[:, None].requires_grad_()
    z_exp = prior.z_exp_from(prior.tensor(expression)).requires_grad_()
    z_id = prior.z_id_from(prior.tensor(identity))
    if with_shared:
        z_id = z_id.expand(len(x), -1).clone().requires_grad_()
    value = question(prior, leaf, z_id, z_exp)
    leaves = [leaf, z_exp, z_id] if with_shared else [leaf, z_exp]
    by_x, by_exp, *by_id = torch.autograd.grad(value.sum(), leaves)
    result = [value.detach(), by_x[:, 0], by_exp @ prior.expression.basis, *(g @ prior.identity.basis for g in by_id)]
    return tuple(numbers(tensor) for tensor in result)


def _agreement(heads: Heads, samples: Samples, gradient: np.ndarray) -> np.ndarray:
    """(F, P) in [0, 1]: how well the cloud's normals agree with the surface's."""
    unit = heads.head_from_world[:, :3, :3] / pose.scale_of(heads.head_from_world)[:, None, None]
    normals = samples.normals @ np.swapaxes(unit, -1, -2)
    cosine = (normals * gradient).sum(-1) / np.maximum(np.linalg.norm(gradient, axis=-1), 1e-9)
    return np.clip(cosine, 0, 1) ** 2
