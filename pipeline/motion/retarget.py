"""Driving one person with another's motion: both were fitted with one head prior, so their codes mean the same."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.head.model import pose
from pipeline.head.model.identity import Identity
from pipeline.motion.eyes import resting_gaze

QUIET = 0.1  # share of a person's steps, those with the least expression, whose mean is their face at rest
WEAKEST = 0.05  # of the strongest: directions below it are noise of the fits, not what a face has shown


def home(identity: Identity) -> np.ndarray:
    """head_from_world (4, 4) of a head at rest: in the mean place and direction of its key frames."""
    centre, up, front = (part.astype(float) for part in (identity.centre, identity.up, identity.front))
    return pose.similarity(centre, up, front, float(identity.scale[0]))


def retarget_poses(
    head_from_world: np.ndarray, driver: Identity, driven: Identity, head: Literal["start", "rest", "still"] = "rest"
) -> np.ndarray:
    """Poses (T, 4, 4) of the driven head in its own world, that move from its rest as the driver's from theirs.

    `head_from_world` (T, 4, 4) are the driver's; their rest is the first of them or that of their identity. Turns are
    kept, and lengths in head units.
    """
    if head == "still":
        return np.broadcast_to(home(driven), head_from_world.shape).copy()
    rest = head_from_world[0] if head == "start" else home(driver)
    return head_from_world @ np.linalg.inv(rest) @ home(driven)


def resting(codes: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """A person's code (E,) at rest: the mean of their quietest codes (T, E), those nearest to the neutral one (E,)."""
    distance = np.linalg.norm(codes - neutral, axis=1)
    return codes[np.argsort(distance, kind="stable")[: max(1, round(QUIET * len(codes)))]].mean(0)


def guarded(moves: np.ndarray, own: np.ndarray, guard: float) -> np.ndarray:
    """Movements (T, E) of the code, less a share `guard` of what lies outside the span of the own ones (N, E)."""
    _, strength, direction = np.linalg.svd(own, full_matrices=False)
    span = direction[strength > WEAKEST * strength.max(initial=0)]
    return (1 - guard) * moves + guard * (moves @ span.T) @ span


def retarget_codes(
    codes: np.ndarray, own: np.ndarray, neutral: np.ndarray, strength: float, relative: bool, guard: float
) -> np.ndarray:
    """Codes (T, E) float32 for the subject from the driver's (T, E), the subject's own (N, E) and the neutral one (E,).

    Where a driver's rest is another than the prior's, that is their face's shape left over from the fit of their
    identity: it stays with them when `relative`.
    """
    theirs, ours = (resting(some, neutral) if relative else neutral for some in (codes, own))
    moves = guarded(codes - theirs, own - ours, guard) if guard else codes - theirs
    return (ours + strength * moves).astype(np.float32)


def retarget_gaze(gaze: np.ndarray, own: Sequence[np.ndarray]) -> np.ndarray:
    """A gaze (T, 2, 2) from the driver's rest to the subject's, whose tracks have `own` gazes; as it is without any."""
    if not own:
        return gaze
    return (gaze - resting_gaze([gaze]) + resting_gaze(own)).astype(gaze.dtype)
