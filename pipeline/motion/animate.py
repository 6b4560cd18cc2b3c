"""A head's motion from keyframes or from the curves of a face capture app."""

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.capture.curves import ARKIT, Curves
from pipeline.errors import DataError
from pipeline.head.model import pose
from pipeline.head.model.arkit import ArkitMap
from pipeline.motion.easing import between
from pipeline.motion.eyes import looked
from pipeline.settings.keyframes import Animation

Motion = tuple[np.ndarray, np.ndarray, np.ndarray]  # codes (T, E), poses (T, 4, 4), gaze from rest (T, 2, 2)


def turned(home: np.ndarray, yaw_pitch_roll: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Poses (T, 4, 4) of a head at `home` (4, 4) that is turned by radians (T, 3) and moved by head units (T, 3).

    Yaw to the subject's left, pitch down and roll to the right are positive. The head turns about its own origin.
    """
    world_from_head = np.broadcast_to(np.eye(4), (len(move), 4, 4)).copy()
    # Intrinsic: turned to the side first, then nodded, then tilted, each about the axes of the head by then.
    world_from_head[:, :3, :3] = Rotation.from_euler("YXZ", yaw_pitch_roll).as_matrix()
    world_from_head[:, :3, 3] = move
    return np.linalg.inv(world_from_head) @ home


def of_curves(curves: Curves, arkit: ArkitMap, neutral: np.ndarray, home: np.ndarray, radians: float) -> Motion:
    """Motion of curves at the film's moments; `radians` is what one unit of their angles is.

    Eyes turn as the head does, to the left and down; where curves have none, by the weights that look somewhere.

    `neutral` (E,) is the subject's code at rest, `home` (4, 4) its pose. The head turns from where it is at first.
    """
    codes = neutral + arkit.z_exp(curves.weights)
    still = np.zeros((len(codes), 3))
    poses = turned(home, still if curves.head is None else radians * curves.head, still)
    if curves.head is not None:
        poses = poses @ np.linalg.inv(poses[0]) @ home
    gaze = looked(curves.weights) if curves.eyes is None else radians * curves.eyes * [1, -1]  # a track's goes up
    return codes.astype(np.float32), poses, gaze


def of_keyframes(
    animation: Animation,
    rate: float,
    arkit: ArkitMap,
    neutral: np.ndarray,
    home: np.ndarray,
    own_face: Callable[[str], np.ndarray],
) -> Motion:
    """Motion of keyframes at a film's moments; `own_face` finds the code (E,) of the subject's "sequence:step"."""
    keys, seconds = animation.keyframes, np.arange(animation.steps(rate)) / rate
    codes, gazes = [], []
    for key in keys:
        if unknown := set(key.weights) - set(ARKIT):
            raise DataError(f"keyframe at {key.seconds:g} s: no weight {', '.join(sorted(unknown))}; ARKit names them")
        weights = np.array([key.weights.get(name, 0.0) for name in ARKIT])
        codes.append((own_face(key.like) if key.like else neutral) + arkit.z_exp(weights))
        gazes.append(np.radians([key.gaze_degrees] * 2) if key.gaze_degrees else looked(weights))
    angles = between(keys, np.radians([key.turn_degrees for key in keys]), seconds)
    units = pose.scale_of(home) / 1e3
    poses = turned(home, angles, units * between(keys, np.array([key.move_mm for key in keys]), seconds))
    return between(keys, np.stack(codes), seconds).astype(np.float32), poses, between(keys, np.stack(gazes), seconds)
