"""Where a motion's eyes look: gaze by ARKit's weights, and a subject's own at rest."""

from collections.abc import Iterable

import numpy as np

from pipeline.capture.curves import ARKIT

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


def resting_gaze(tracks: Iterable[np.ndarray]) -> np.ndarray:
    """Where a subject looks at rest (2, 2): the median over their own tracks' gazes (T, 2, 2); ahead without any."""
    every = list(tracks)
    return np.median(np.concatenate(every), axis=0) if every else np.zeros((2, 2))
