"""Lids of a driven head: as far open or shut as the driver's, each relative to their own face at rest."""

import numpy as np

from pipeline.head.fit.blink import move_lids, usual_slopes
from pipeline.head.fit.least_squares.lids import find_gaps
from pipeline.head.fit.least_squares.residuals import Heads, canonical_landmarks
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers, within_reach

NEAR_MM = 0.2  # lids that lie so near to where they should be are left
LID_MM = 0.1  # a gap that is off by this costs as much as a change of the expression by one standard deviation


def gaps_of(prior: HeadPrior, w_id: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Gaps (T, 4) between the lids of weights (I,) under codes (T, E), head units, two of the left eye first."""
    who = w_id.astype(float)
    return find_gaps(prior, who, codes, canonical_landmarks(prior, who)[0]).length


def opened(prior: HeadPrior, w_id: np.ndarray, codes: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """How far the eyes of weights (I,) are open (T, 2) under codes (T, E), in shares of what they are under `rest`
    (E,), left first. A share, so that an eye that shuts shuts on a face whose eyes are larger or smaller too."""
    now, then = (gaps_of(prior, w_id, some).reshape(-1, 2, 2).mean(-1) for some in (codes, rest[None]))
    return now / then


def with_lids(
    prior: HeadPrior,
    w_id: np.ndarray,
    codes: np.ndarray,
    head_from_world: np.ndarray,
    rest: np.ndarray,
    shares: np.ndarray,
) -> np.ndarray:
    """Codes (T, E) float32 nearest to the given ones whose eyes are open by `shares` (T, 2) of what they are at rest.

    Of a head of weights (I,) at poses (T, 4, 4) with the code `rest` (E,). Lids already there keep their code.
    """
    per_mm = float(pose.scale_of(head_from_world)[0]) / 1e3
    target = gaps_of(prior, w_id, rest[None]) * np.repeat(shares, 2, axis=1)  # (T, 4)
    off = np.abs(gaps_of(prior, w_id, codes) - target).max(1) > NEAR_MM * per_mm
    if not off.any():
        return codes
    who = w_id.astype(float)
    usual = usual_slopes(prior, who, head_from_world)
    mean, basis = (numbers(part) for part in (prior.expression.mean, prior.expression.basis))
    stiff = np.eye(basis.shape[1])
    result = codes.copy()
    for step in np.flatnonzero(off):
        start = np.linalg.lstsq(basis, codes[step] - mean, rcond=None)[0]
        heads = Heads(who, start[None], head_from_world[step : step + 1])
        moved = move_lids(prior, heads, target[step : step + 1] / per_mm / 1e3, stiff, LID_MM, usual)
        result[step] = within_reach(prior, codes[step] + basis @ (moved.expression[0] - start))
    return result.astype(np.float32)
