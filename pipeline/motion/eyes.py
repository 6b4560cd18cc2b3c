"""What a motion says of eyes beside its codes, as fitted tracks do: where they look, and how far lids are apart."""

from collections.abc import Iterable

import numpy as np

from pipeline.capture.curves import ARKIT
from pipeline.head.fit.lids import apertures
from pipeline.head.fit.residuals import canonical_landmarks
from pipeline.head.model.identity import Identity
from pipeline.head.model.prior import HeadPrior

LOOK = np.radians(30)  # that an eye turns by at a weight of 1; ARKit does not say how far, ICT-FaceKit moves lids alone
# Of the left and the right eye: weights that turn it to the subject's left and to the right, upwards and downwards
LOOKS = (
    (("eyeLookOutLeft", "eyeLookInLeft"), ("eyeLookUpLeft", "eyeLookDownLeft")),
    (("eyeLookInRight", "eyeLookOutRight"), ("eyeLookUpRight", "eyeLookDownRight")),
)


def looked(weights: np.ndarray) -> np.ndarray:
    """Gaze (..., 2, 2) from straight ahead, radians to the left and up, of ARKit's weights (..., 52)."""
    more, less = (
        np.array([[ARKIT.index(pair[side]) for pair in eye] for eye in LOOKS]) for side in (0, 1)
    )  # (2, 2) each
    return LOOK * (weights[..., more] - weights[..., less])


def weights_of(gaze: np.ndarray) -> np.ndarray:
    """The weights (52,) whose gaze `looked` gives back, (2, 2): lids follow eyes that turn."""
    weights = np.zeros(len(ARKIT))
    for eye, pairs in enumerate(LOOKS):
        for angle, (more, less) in enumerate(pairs):
            share = gaze[eye, angle] / LOOK
            weights[ARKIT.index(more if share > 0 else less)] = abs(share)
    return weights


def lids_of(prior: HeadPrior, identity: Identity, codes: np.ndarray, head_from_world: np.ndarray) -> np.ndarray | None:
    """How far lids are apart (T, 2) float32, mm, left first, under codes (T, E): what a fit says of the same codes.

    None for a prior that does not know where lids are.
    """
    if not prior.config.landmarks:
        return None
    who = identity.w_id.astype(float)
    places = canonical_landmarks(prior, who)[0]
    return apertures(prior, who, codes, head_from_world, places).astype(np.float32)


def resting_gaze(tracks: Iterable[np.ndarray]) -> np.ndarray:
    """Where a subject looks at rest (2, 2): the median over their own tracks' gazes (T, 2, 2); ahead without any."""
    every = list(tracks)
    return np.median(np.concatenate(every), axis=0) if every else np.zeros((2, 2))
