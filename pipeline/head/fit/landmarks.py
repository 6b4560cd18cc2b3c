"""Landmarks of a detector against the prior's own: whether they can be believed, and each point's constant bias."""

from copy import deepcopy

import numpy as np
import torch
from scipy.spatial import KDTree

from pipeline.cameras.rig import Rig
from pipeline.cli import log
from pipeline.evenly import evenly
from pipeline.head.fit.beside import usual_bias
from pipeline.head.fit.clouds import Clouds, Frame
from pipeline.head.fit.least_squares.lids import PAIRS, USED
from pipeline.head.fit.least_squares.residuals import Heads, canonical_landmarks, in_box
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers
from pipeline.settings.fit import FitSettings

LOOKED_AT = 5  # time steps that are compared, spread over the sequence
# Medians of captures 901, 904 and 905 are 2 to 4 mm, points of half-size, normalised or swapped pictures 70 mm and more
NEAR_CLOUD = 0.02  # metres
INSIDE = 0.75  # least share of views of landmarks that lie within the silhouettes
OWN_MM = 1.5  # by which each coordinate of a landmark's bias differs between subjects, a standard deviation
# The same of gaps between lids: 0.1 mm too wide in the median on 901, 0.3 too narrow on 904, 0.1 too wide on 905
LID_OWN_MM = 0.3
TOGETHER = 5  # landmarks, those of a brow or a lip, whose biases differ alike


def believed(clouds: Clouds, rig: Rig) -> Clouds:
    """The same clouds; without landmarks, and a warning says why, where these lie off the clouds or the silhouettes."""
    steps = [step for step in range(len(clouds)) if np.isfinite(clouds.landmarks[step]).any()]
    if not steps:
        return clouds
    frames = [clouds.frame(steps[i]) for i in evenly(len(steps), LOOKED_AT)]
    off = float(np.median(np.concatenate([_from_cloud(frame) for frame in frames])))
    inside = float(np.mean([_inside(rig, frame) for frame in frames]))
    if off <= NEAR_CLOUD and inside >= INSIDE:
        return clouds
    log.warning(
        "%s: landmarks lie %.0f mm off the clouds in the median (expected at most %.0f), %.0f %% within the silhouettes"
        " (expected at least %.0f), so they are left out; are they pixels x, y of the recorded pictures?",
        clouds.sequence, 1e3 * off, 1e3 * NEAR_CLOUD, 100 * inside, 100 * INSIDE,
    )  # fmt: skip
    return clouds.with_landmarks(np.full_like(clouds.landmarks, np.nan))


def _known(frame: Frame) -> np.ndarray:
    return frame.landmarks[np.isfinite(frame.landmarks).all(-1)]


def _from_cloud(frame: Frame) -> np.ndarray:
    """Distances (L,) of known landmarks to the nearest point of the cloud, metres."""
    return KDTree(frame.points).query(_known(frame))[0]


def _inside(rig: Rig, frame: Frame) -> float:
    """Share of views of known landmarks that lie within the silhouettes; a point outside the picture is in none."""
    shares = []
    for camera, cover in zip(rig.cameras, frame.alpha, strict=True):
        seen, row, column, _ = camera.hits(_known(frame))
        shares.append((cover[row, column] > 127).sum() / len(seen))
    return float(np.mean(shares))


def bias_of(prior: HeadPrior, heads: Heads, landmarks: np.ndarray, frame_mm: float) -> np.ndarray:
    """How far (L, 3), head units at rest, a detector sees each landmark off the prior's place, constantly.

    `heads` of F frames; `landmarks` (F, L, 3), world metres, NaN where unknown, each off by `frame_mm` from frame to
    frame. The usual bias where nothing is known; the median over the frames takes its place as these become more: one
    frame tells hardly what is a bias from what is an expression that the fit missed. Zero for lids, which count by
    their gaps.
    """
    x = pose.apply(heads.head_from_world, landmarks)
    known = in_box(prior, x)
    with torch.no_grad():
        z_id, z_exp = prior.z_id_from(prior.tensor(heads.identity)), prior.z_exp_from(prior.tensor(heads.expression))
        rest = numbers(prior.warp(prior.tensor(np.where(known[..., None], x, 0)), z_id, z_exp)[..., :3])
    off = np.where(known[..., None], rest - canonical_landmarks(prior, heads.identity)[0], np.nan)
    usual, frames = usual_bias(prior), known.sum(0)
    seen = frames > 0
    seen[USED] = False
    result = usual.copy()
    trust = believe(frames[seen], OWN_MM, frame_mm)[:, None]
    result[seen] += trust * (np.nanmedian(off[:, seen], axis=0) - usual[seen])
    return result


def believe(count: np.ndarray, own: float, each: float, shared: float = 0) -> np.ndarray:
    """How much to believe, 0 to 1, a mean of `count` (...,) measurements, each with the standard deviation `each` and
    all with an error `shared`, of something that itself differs by `own` between subjects."""
    return own**2 / (own**2 + shared**2 + each**2 / count)


def each_of(count: int, own: float, each: float) -> float:
    """The standard deviation to give each of `count` measurements that differ by `each` and share a bias `own`, so that
    their mean has its variance, own^2 + each^2 / count."""
    return float(np.sqrt(count * own**2 + each**2))


def shared_mm(settings: FitSettings, frames: int) -> dict[str, float]:
    """The settings `landmark_mm` and `lid_mm` for a fit of an identity to so many key frames, which all share the
    subject's own bias, as do landmarks beside each other and all lids."""
    return {
        "landmark_mm": each_of(frames * TOGETHER, OWN_MM, settings.landmark_mm),
        "lid_mm": each_of(frames * len(PAIRS), LID_OWN_MM, settings.lid_mm),
    }


def as_seen(prior: HeadPrior, bias: np.ndarray) -> HeadPrior:
    """The prior with its landmarks where a detector sees them: moved by `bias` (L, 3), head units at rest."""
    if not bias.any():
        return prior
    moved = deepcopy(prior)
    moved.landmarks.mean.add_(torch.as_tensor(bias.reshape(-1), dtype=moved.landmarks.mean.dtype))
    return moved
