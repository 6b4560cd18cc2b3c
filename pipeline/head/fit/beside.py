"""Where a detector sees landmarks: beside the prior's places of the same name, alike on all heads."""

import numpy as np

from pipeline.head.fit.least_squares.lids import USED
from pipeline.head.model.prior import HeadPrior

# How far the network's points, triangulated, lie from the prior's landmarks of the same name, mm in head axes: they
# mean other places (inner ends of brows 4 mm farther out, wings of the nose 4 mm wider). The mean of the four rendered
# heads' medians over all time steps, made symmetric; one head's differ from it by 1.1 mm in each axis (rms).
BESIDE = np.array(
    [
        *((-2.1, 0.7, -2.5), (-4.3, 0.4, -3.3), (-5.3, 1.7, -2.8), (-6.0, 2.0, -2.1), (-3.7, 3.0, -0.2)),  # right brow
        *((3.7, 3.0, -0.2), (6.0, 2.0, -2.1), (5.3, 1.7, -2.8), (4.3, 0.4, -3.3), (2.1, 0.7, -2.5)),  # left brow
        *((0.0, 4.0, -0.9), (0.0, -0.6, 2.7), (0.0, -2.8, 6.5), (0.0, 1.6, 3.6)),  # bridge and tip of the nose
        *((-4.4, 2.6, 2.3), (-1.4, 1.3, 3.9), (0.0, 2.3, 3.9), (1.4, 1.3, 3.9), (4.4, 2.6, 2.3)),  # below the nostrils
        *((-2.9, 1.4, -0.8), (-0.6, 1.2, -3.4), (-0.9, 1.0, -3.0), (0.7, 1.8, 2.8)),  # right eye
        *((-2.0, 0.4, -1.5), (-0.6, 1.2, -1.5)),
        *((-0.7, 1.8, 2.8), (0.9, 1.0, -3.0), (0.6, 1.2, -3.4), (2.9, 1.4, -0.8)),  # left eye
        *((0.6, 1.2, -1.5), (2.0, 0.4, -1.5)),
        *((-0.5, 0.3, -0.1), (2.1, 1.8, 2.2), (0.0, 0.8, 1.6), (0.0, 0.7, 2.2)),  # outer rim of the lips
        *((0.0, 0.8, 1.6), (-2.1, 1.8, 2.2), (0.5, 0.3, -0.1)),
        *((-3.2, -0.7, 3.8), (-2.5, 0.5, 2.6), (0.0, 1.3, 2.7), (2.5, 0.5, 2.6), (3.2, -0.7, 3.8)),
        *((-0.1, 0.9, 0.3), (4.7, 1.3, 2.2), (0.0, 1.6, 1.5), (-4.7, 1.3, 2.2), (0.1, 0.9, 0.3)),  # inner rim
        *((-4.5, 1.0, 4.9), (0.0, 1.8, 4.3), (4.5, 1.0, 4.9)),
    ]
)


def usual_bias(prior: HeadPrior) -> np.ndarray:
    """How far (L, 3), head units, a detector sees landmarks off the prior's places on any head; zero for lids, which
    count by their gaps."""
    bias = BESIDE * prior.config.units_per_metre / 1e3
    bias[USED] = 0
    return bias
