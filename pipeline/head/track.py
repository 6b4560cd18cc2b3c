"""The arrays of a track (docs/formats.md): expression, pose, gaze and lids of a head in every time step."""

import numpy as np

from pipeline.store.chunk import Array


def track_arrays(
    z_exp: np.ndarray, head_from_world: np.ndarray, gaze: np.ndarray | None, lids: np.ndarray | None
) -> dict[str, Array]:
    """Codes (T, E), similarities (T, 4, 4), and of the left and the right eye gaze (T, 2, 2) and lids (T, 2), if known.

    Gaze in radians, head space: yaw to the subject's left, pitch upwards. Lids in millimetres.
    """
    arrays = {
        "z_exp": Array(z_exp, ("time", "code"), "1", "expression codes of the head prior"),
        "head_from_world": Array(
            head_from_world, ("time", "row", "column"), "head unit / m", "similarity from world metres to head units"
        ),
    }
    if gaze is not None:
        about = "yaw to the subject's left and pitch upwards of the left and the right eye, head space"
        arrays["gaze"] = Array(gaze.astype(np.float32), ("time", "eye", "angle"), "radian", about)
    if lids is not None:
        about = "between the lids of the left and the right eye"
        arrays["lids"] = Array(lids.astype(np.float32), ("time", "eye"), "mm", about)
    return arrays
