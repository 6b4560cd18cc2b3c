"""Where eyes look, from irises in space to a gaze per eye and time step; and how far their lids are apart."""

import numpy as np
import torch

from pipeline.cli import log
from pipeline.head.fit.landmarks import believe
from pipeline.head.fit.least_squares.lids import apertures
from pipeline.head.fit.least_squares.residuals import canonical_landmarks
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers

OPEN_MM = 4.0  # between the lids: less shows too little of an iris
# Irises half way between the network's and the darkest disc turn sideways as the eye does, up and down a little less:
# chosen on the training sequences of 904, the one capture whose eyes turn.
YAW_SLOPE, PITCH_SLOPE = 1.0, 0.85
TOGETHER = 0.5  # how much of each eye's gaze is that of both: eyes turn together, and errors are each one's own
STILL = (10, 11, 12, 19, 22, 25, 28)  # iBUG's landmarks that no expression moves: bridge of the nose, corners of eyes
ASIDE = 0.3  # radians off straight ahead that lids at rest leave free, sideways; half of it up and down
REACH = (0.5, 1.3, 81)  # of the prior's mean radius: where an eyeball's surface is looked for, and how many places
# People look straight ahead in the median of a sequence, give or take AHEAD, and from there SPREAD to and fro; fitted
# eyeballs and irises turn a whole sequence by CONSTANT (up to 3 degrees on 901 and 904, 5 on 905). All in radians.
AHEAD, SPREAD, CONSTANT = np.radians([4.0, 12.0, 3.0])
NEAR_STEPS, NEAR_RADIANS = 2, np.radians(2)  # steps are smoothed over so many each way that look so nearly alike


def gaze_directions(gaze: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) in head space of gazes (..., 2): yaw to the subject's left and pitch upwards, radians."""
    yaw, pitch = gaze[..., 0], gaze[..., 1]
    return np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], -1)


def lids_of(prior: HeadPrior, w_id: np.ndarray, codes: np.ndarray, head_from_world: np.ndarray) -> np.ndarray | None:
    """How far lids are apart (T, 2), mm, left first, of weights (I,) under codes (T, E) at poses (T, 4, 4).

    None for a prior that does not know where lids are.
    """
    if not prior.config.landmarks:
        return None
    who = w_id.astype(float)
    return apertures(prior, who, codes, head_from_world, canonical_landmarks(prior, who)[0])


def eyeballs_of(prior: HeadPrior, w_id: np.ndarray) -> np.ndarray:
    """Eyeballs (2, 4) at rest of weights (I,): centre and radius, head units, the left one first.

    The radius is what is seen between the lids: from the centre to the surface ahead, NaN where there is none. ICT's
    eyeballs are no spheres, their backs are 19 mm and their fronts 10 to 12 mm from the middle of their vertices; the
    mean of that, 14.7 mm, takes shut lids for eyeballs.
    """
    with torch.no_grad():
        w = prior.tensor(w_id)
        z_id, centres = prior.z_id_from(w), prior.eyes_from(w)  # (D,), (2, 3)
        angles = torch.cartesian_prod(torch.linspace(-ASIDE, ASIDE, 5), torch.linspace(-ASIDE, ASIDE, 5) / 2)
        ahead = torch.from_numpy(gaze_directions(angles.numpy())).to(w.dtype)  # (R, 3)
        far = prior.eye_radius[:, None] * torch.linspace(*REACH)  # (2, S)
        points = centres[:, None, None] + far[:, None, :, None] * ahead[:, None]  # (2, R, S, 3)
        inside = prior.sdf(prior.warp(points.reshape(-1, 3), z_id, prior.neutral), z_id).view(points.shape[:3]) < 0
        leaves = inside[..., :-1] & ~inside[..., 1:]
        first = leaves.int().argmax(-1, keepdim=True)
        middle = (far[:, :-1] + far[:, 1:])[:, None] / 2
        radius = middle.expand(leaves.shape).gather(-1, first).masked_fill(~leaves.any(-1, keepdim=True), torch.nan)
        return torch.cat([centres, radius.flatten(1).nanmedian(-1, keepdim=True).values], -1).numpy()


def name_unseen(eyeballs: np.ndarray, sequence: str) -> None:
    """A line of warning for each of the eyeballs (2, 4) of a sequence whose radius is NaN: no surface lies ahead."""
    for eye in np.flatnonzero(np.isnan(eyeballs[:, 3])).tolist():
        log.warning(
            "%s: nothing lies ahead of the %s eyeball of the head at rest, and so in every step (expected a surface"
            " %.1f to %.1f times the prior's radius from its centre); its radius is NaN, and an avatar has none there",
            sequence, ("left", "right")[eye], *REACH[:2],
        )  # fmt: skip


def gaze_of(
    prior: HeadPrior,
    identity: np.ndarray,
    head_from_world: np.ndarray,
    irises: np.ndarray,
    landmarks: np.ndarray,
    apertures_mm: np.ndarray,
) -> np.ndarray:
    """Gaze (T, 2, 2) of the left and the right eye: yaw to the subject's left and pitch upwards, radians, head space.

    `identity` (I,) weights, `head_from_world` (T, 4, 4), `irises` (T, 2, 3) centres, `landmarks` (T, L, 3), both world
    metres, NaN where unknown, `apertures_mm` (T, 2). A millimetre is five degrees here, and fitted poses are no better:
    so the eyeballs go with what the same cameras see of the skull round them. What both eyes have constantly apart is
    the places' error, not the eyes': over a sequence their gazes are parallel in the median, and near straight ahead. A
    shut or unseen eye looks where the other one does, else where it looked in the nearest step in which it was seen;
    straight ahead where it never was.
    """
    centres = numbers(prior.eyes_from(prior.tensor(identity)))
    still = pose.apply(head_from_world, landmarks[:, list(STILL)])
    moved = still - np.nanmedian(still, axis=0)
    sight = pose.apply(head_from_world, irises) - centres - np.nanmedian(moved, axis=1)[:, None]
    angles = np.stack(
        [np.arctan2(sight[..., 0], sight[..., 2]), np.arctan2(sight[..., 1], np.hypot(sight[..., 0], sight[..., 2]))],
        -1,
    )
    angles[~(apertures_mm > OPEN_MM)] = np.nan
    both = np.isfinite(angles).all((1, 2))
    if both.any():
        apart = np.median(angles[both, 0] - angles[both, 1], axis=0)
        angles += np.stack([-apart, apart]) / 2
    gaze = _together(angles / [YAW_SLOPE, PITCH_SLOPE])
    return _smooth(_filled(gaze - _turned(gaze)))


def _turned(gaze: np.ndarray) -> np.ndarray:
    """By how much (2,) all of (T, 2, 2), NaN where unknown, is turned by the places' error: a share of its median.

    People may look aside themselves, the fewer the steps the likelier.
    """
    steps = gaze[np.isfinite(gaze).all((1, 2))]
    if not len(steps):
        return np.zeros(2)
    return np.median(steps, (0, 1)) * believe(np.array(len(steps)), CONSTANT, SPREAD, AHEAD)


def _together(gaze: np.ndarray) -> np.ndarray:
    """Each eye drawn towards the mean of both; an unknown eye looks where the other one does."""
    known = np.isfinite(gaze).all(-1, keepdims=True)
    mean = np.where(known, gaze, 0).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    mean = np.where(np.any(known, axis=1, keepdims=True), mean, np.nan)
    return np.where(known, (1 - TOGETHER) * gaze + TOGETHER * mean, mean)


def _filled(gaze: np.ndarray) -> np.ndarray:
    """Unknown steps of (T, 2, 2) as the nearest known one, the earlier of two; zero where there is none."""
    known = np.flatnonzero(np.isfinite(gaze).all((1, 2)))
    if not len(known):
        return np.zeros_like(gaze)
    nearest = np.abs(np.arange(len(gaze))[:, None] - known).argmin(1)
    return gaze[known[nearest]]


def _smooth(gaze: np.ndarray) -> np.ndarray:
    """(T, 2, 2) averaged over neighbours in time that look the same way, so that jumps of the eye stay jumps."""
    steps = np.arange(len(gaze))
    near = np.abs(steps[:, None] - steps) <= NEAR_STEPS
    apart = np.linalg.norm(gaze[:, None] - gaze[None], axis=-1)  # (T, T, 2)
    weight = near[..., None] * np.exp(-0.5 * (apart / NEAR_RADIANS) ** 2)
    return np.einsum("tse,sea->tea", weight, gaze) / weight.sum(1)[..., None]
