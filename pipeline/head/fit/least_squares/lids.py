"""How far the lids of posed heads are apart, and the exact derivatives: through the deformation's inverse."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.detect.points import LIDS
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers

PAIRS = [
    pair for pairs in LIDS[::-1] for pair in pairs
]  # upper and lower landmark: two of the left eye, two of the right
USED = [index for pair in PAIRS for index in pair]
STEPS = 15  # that seek the place which the deformation takes to a landmark; it has settled after ten
# Where an upper lid is sought, in shares of the open eye below its place at rest: space is folded between shut lids,
# and from above alone one in ten was not found
STARTS = (0.0, 0.4, 0.8)


@dataclass(frozen=True)
class Gaps:
    """`length` (F, 4) of the gaps between the lids, head units, left eye first; `unit` (F, 4, 3) from the lower to the
    upper lid; `x` (F, 8, 3) where upper and lower lid of each pair lie in head space."""

    length: np.ndarray
    unit: np.ndarray
    x: np.ndarray


def seen_gaps(landmarks: np.ndarray) -> np.ndarray:
    """Gaps (T, 4) between the lids' landmarks of (T, L, 3), in their unit; NaN where unknown."""
    if landmarks.shape[1] <= max(USED):
        return np.full((len(landmarks), len(PAIRS)), np.nan)
    upper, lower = (landmarks[:, [pair[side] for pair in PAIRS]] for side in (0, 1))
    return np.linalg.norm(upper - lower, axis=-1)


def find_gaps(prior: HeadPrior, identity: np.ndarray, z_exp: np.ndarray, places: np.ndarray) -> Gaps:
    """The gaps of heads with identity weights (I,), codes z_exp (F, E) and landmarks `places` (L, 3) at rest."""
    lids = places[USED]
    across = np.stack([lids[1::2] - lids[::2], 0 * lids[::2]], 1).reshape(lids.shape)  # upper lids shut downwards
    x = posed_landmarks(prior, identity, z_exp, lids, [share * across for share in STARTS])
    between = x[:, ::2] - x[:, 1::2]
    length = np.linalg.norm(between, axis=-1)
    return Gaps(length, between / np.maximum(length, 1e-9)[..., None], x)


def posed_landmarks(
    prior: HeadPrior,
    identity: np.ndarray,
    z_exp: np.ndarray,
    places: np.ndarray,
    starts: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Where in head space (F, L, 3) landmarks `places` (L, 3) at rest lie under expression codes z_exp (F, E).

    The deformation leads from the posed head to the one at rest: its inverse is sought by fixed point steps x -= off,
    which contract since it is near the identity, halved wherever they do not come nearer. From `places` plus each of
    `starts` (L, 3), of which the one counts that ends nearest.
    """
    goal = prior.tensor(places)
    z_id = prior.z_id_from(prior.tensor(identity))
    codes = prior.tensor(z_exp)
    begin = prior.tensor(np.stack(starts or [np.zeros_like(places)]))
    goal = goal.repeat(len(begin), 1)
    x = (goal + begin.flatten(0, 1)).expand(len(codes), -1, -1).clone()
    step = torch.ones_like(x[..., 0])
    with torch.no_grad():
        off = prior.warp(x, z_id, codes)[..., :3] - goal
        for _ in range(STEPS):
            tried = x - step[..., None] * off
            off_tried = prior.warp(tried, z_id, codes)[..., :3] - goal
            nearer = off_tried.norm(dim=-1) < off.norm(dim=-1)
            x, off = torch.where(nearer[..., None], tried, x), torch.where(nearer[..., None], off_tried, off)
            step = torch.where(nearer, (1.5 * step).clamp(max=1), step / 2)
        best = off.norm(dim=-1).unflatten(1, (len(begin), -1)).argmin(1)  # (F, L)
    x = x.unflatten(1, (len(begin), -1))
    return numbers(x.gather(1, best[:, None, :, None].expand(-1, 1, -1, 3))[:, 0])


def apertures(
    prior: HeadPrior, identity: np.ndarray, z_exp: np.ndarray, head_from_world: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """How far (T, 2), millimetres, the lids of the left and the right eye are apart: means of two pairs of landmarks.

    `identity` (I,) weights, `z_exp` (T, E) codes, `head_from_world` (T, 4, 4), `places` (L, 3) landmarks at rest.
    """
    gaps = find_gaps(prior, identity, z_exp, places).length
    return gaps.reshape(len(gaps), 2, 2).mean(-1) / (pose.scale_of(head_from_world)[:, None] / 1e3)
