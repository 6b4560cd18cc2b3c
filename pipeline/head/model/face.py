"""Where the face lies in head space, between hair, ears and neck."""

import numpy as np

# Head units. Eyes and the whole mouth, its hollow too when it is open, lie in front of FRONT; ears and neck behind it.
FRONT = 0.1
# Brows lie under BROWS, no hair of the head does; under HAIRLINE no hair stands off the mesh.
BROWS, HAIRLINE = 0.3, 0.5


def on_face(x_can: np.ndarray, top: float) -> np.ndarray:
    """Which points (..., 3 or more) of head space belong to the face up to the height `top`, (...,) bool."""
    return (x_can[..., 2] > FRONT) & (x_can[..., 1] < top)
