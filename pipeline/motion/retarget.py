"""Driving one person with another's motion: both were fitted with one head prior, so their codes mean the same."""

import numpy as np
import torch

from pipeline.head.model import pose
from pipeline.head.model.identity import Identity


def home(identity: Identity) -> np.ndarray:
    """head_from_world (4, 4) of a head at rest: in the mean place and direction of its key frames."""
    centre, up, front = (part.astype(float) for part in (identity.centre, identity.up, identity.front))
    return pose.similarity(centre, up, front, float(identity.scale[0]))


def retarget_poses(head_from_world: np.ndarray, driver: Identity, driven: Identity) -> np.ndarray:
    """Poses (T, 4, 4) of the driven head in its own world, that move from its rest as the driver's from theirs.

    `head_from_world` (T, 4, 4) are the driver's. Turns are kept, and lengths in head units.
    """
    return head_from_world @ np.linalg.inv(home(driver)) @ home(driven)


def strengthened(z_exp: torch.Tensor, neutral: torch.Tensor, strength: float) -> torch.Tensor:
    """Codes (T, E) `strength` times as far from the neutral one (E,)."""
    return neutral + strength * (z_exp - neutral)
