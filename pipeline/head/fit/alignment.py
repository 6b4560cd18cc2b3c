"""The first pose of a head: from where the cameras stand and the cloud, refined from many starts; or from landmarks."""

import itertools
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.cameras.aim import aim_of
from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.head.fit.clouds import Frame
from pipeline.head.fit.least_squares.residuals import (
    Heads,
    Linearised,
    Samples,
    canonical_landmarks,
    draw,
    in_box,
)
from pipeline.head.fit.least_squares.solver import Free, Point, Schedule, kernel_weight, levenberg, millimetres
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior

RADIUS = 0.2  # metres: what is further from the vertical through the cameras' aim is no head
TOP_ABOVE_ORIGIN = 0.17  # metres: crown of an average head with its hair above the origin of head space
FACE_BEFORE_ORIGIN = 0.025  # metres: median of what front cameras see of a head, before its origin
SLAB = 0.01  # metres: height of a layer of points in the search for the crown

POLISHED = 1000  # points of the cloud that the last steps ask
ROUNDS = (  # robust descent, points asked, candidates that go on
    (Schedule(widest=40, narrowest=25, steps=3, worth=300, shrink=0.8), 200, 9),
    (Schedule(widest=30, narrowest=15, steps=4, worth=300, shrink=0.8), 300, 3),
    (Schedule(widest=20, narrowest=6, steps=6, worth=300, shrink=0.8), POLISHED, 1),
)
POLISH = Schedule(widest=30, narrowest=4, steps=12, worth=400, shrink=0.75)  # identity and expression free
ENOUGH_LANDMARKS = 12  # of 51: with fewer, say of one eye, the head could turn
LANDMARK_WIDTHS = (0.05, 0.025, 0.0125, 0.0125)  # metres: at the end a mouth that shouts has no say
# A head that guides the matching: the schedule of its one fit, points asked, and beyond which median it is none
ROUGH = Schedule(widest=20, narrowest=2, steps=10, worth=200, shrink=0.7)
ROUGH_POINTS, ROUGH_MM = 1000, 4.0  # 1.0 to 1.7 mm on the captures at hand
YAWS, PITCHES = (-25, 0, 25), (-20, 0, 20)  # degrees
HEIGHTS = (-0.04, 0, 0.04)  # metres
# A neutral average head tips 4 to 17 degrees backwards to meet an open mouth, thick hair too: on the demo's capture the
# polish alone left 4 of 42 frames 3.5 to 8 degrees off (all with the mouth wide open), with a nod first it leaves none
NODS = (0, -15)  # degrees


def pose_from_rig(rig: Rig, points: np.ndarray, scale: float) -> np.ndarray:
    """A first guess of head_from_world (4, 4) from the cameras and one cloud (N, 3), world metres.

    Up is the cameras' common up; the face looks to the middle of their arc; the height comes from the crown: the
    highest layer that holds a fair share of points. Raises DataError when no point lies where the cameras aim.
    """
    aim = aim_of(rig)
    up = np.mean([-camera.camera_from_world[1, :3] for camera in rig.cameras], 0)
    up = up / np.linalg.norm(up)
    front = np.mean([_unit(camera.centre - aim) for camera in rig.cameras], 0)
    front = _unit(front - (front @ up) * up)
    from_aim = points - aim
    height = from_aim @ up
    near = (np.linalg.norm(from_aim - height[:, None] * up, axis=1) < RADIUS) & (np.abs(height) < 2 * RADIUS)
    if not near.any():
        raise DataError(f"none of {len(points)} cloud points lies where the cameras aim")
    layer = np.floor(height[near] / SLAB).astype(int)
    layers, members = np.unique(layer, return_counts=True)
    crown = (layers[members > 0.25 * members.max()].max() + 1) * SLAB
    head = points[near][(height[near] < crown) & (height[near] > crown - 2 * TOP_ABOVE_ORIGIN)]
    middle = np.median(head - aim, axis=0)
    level = middle - (middle @ up) * up - FACE_BEFORE_ORIGIN * front
    return pose.similarity(aim + level + (crown - TOP_ABOVE_ORIGIN) * up, up, front, scale)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def starts(guess: np.ndarray) -> np.ndarray:
    """Poses (S, 4, 4) round a guess (4, 4): every yaw and pitch with every height."""
    scale = float(pose.scale_of(guess))
    motions = [
        np.concatenate([Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_rotvec(), [0, scale * height, 0]])
        for yaw, pitch, height in itertools.product(YAWS, PITCHES, HEIGHTS)
    ]
    return pose.moved(np.broadcast_to(guess, (len(motions), 4, 4)), np.array(motions))


def pose_from_landmarks(prior: HeadPrior, identity: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """head_from_world (4, 4) that takes landmarks (L, 3), world metres, to where identity weights (I,) have them.

    NaN where unknown; the scale is the prior's. Least squares (Kabsch 1976), weighted anew with a narrowing kernel, so
    that neither false landmarks nor an open mouth turn the head.
    """
    known = np.isfinite(landmarks).all(-1)
    seen, rest = landmarks[known], canonical_landmarks(prior, identity)[0][known]
    scale, weight = prior.config.units_per_metre, np.ones(len(seen))
    for width in LANDMARK_WIDTHS:
        share = weight / weight.sum()
        middle, aim = share @ seen, share @ rest
        rotation, _ = Rotation.align_vectors(rest - aim, scale * (seen - middle), weight)
        result = np.eye(4)
        result[:3, :3] = scale * rotation.as_matrix()
        result[:3, 3] = aim - result[:3, :3] @ middle
        off = np.linalg.norm(pose.apply(result, seen) - rest, axis=-1)
        weight = kernel_weight(off, width * scale)
    return result


def first_head(prior: HeadPrior, rig: Rig, identity: np.ndarray, frame: Frame, seed: int) -> Heads:
    """The head of one frame that meets its cloud best, with an identity of its own, sought from identity weights (I,).

    Where enough landmarks are known they say where to begin, otherwise many starts round the guess from the rig. From
    there as it is and nodding, with identity and expression free. Raises DataError when the cloud holds no points where
    a head could be.
    """
    if _enough(frame.landmarks):
        start = pose_from_landmarks(prior, identity, frame.landmarks)[None]
        drawn = draw(frame.points, frame.normals, start[0], prior, POLISHED, seed)
    else:
        start, drawn = _best_start(prior, rig, identity, frame, seed)
    drawn = replace(drawn, landmarks=frame.landmarks[None])
    polished = [_polish(prior, pose.moved(start, nod[None]), identity, drawn) for nod in _nods()]
    return min(polished, key=lambda found: found[0])[1]


def rough_head(prior: HeadPrior, points: np.ndarray, normals: np.ndarray, landmarks: np.ndarray) -> Heads | None:
    """The head of one first, noisy cloud, (N, 3) points and outward unit normals, world metres, in a single fit of
    everything from where the `landmarks` (L, 3) have it, world metres, NaN where unknown.

    None where too few landmarks are known, or where no head at them meets the cloud.
    """
    if not _enough(landmarks):
        return None
    mean = np.zeros(prior.config.identity_modes)
    start = pose_from_landmarks(prior, mean, landmarks)[None]
    if not in_box(prior, pose.apply(start[0], points)).any():
        return None
    drawn = replace(draw(points, normals, start[0], prior, ROUGH_POINTS, seed=0), landmarks=landmarks[None])
    heads, linear = _everything(prior, start, mean, drawn, ROUGH)
    return heads if np.median(millimetres(heads, linear)) < ROUGH_MM else None


def _enough(landmarks: np.ndarray) -> bool:
    """Whether so many of the landmarks (L, 3) are known that they say where a head is."""
    return bool(np.isfinite(landmarks).all(-1).sum() >= ENOUGH_LANDMARKS)


def _best_start(
    prior: HeadPrior, rig: Rig, identity: np.ndarray, frame: Frame, seed: int
) -> tuple[np.ndarray, Samples]:
    """The pose (1, 4, 4) that starts round the guess from the rig lead to, and points of the cloud near it.

    All of them take a few coarse steps side by side, the best of them finer ones.
    """
    middle = pose_from_rig(rig, frame.points, prior.config.units_per_metre)
    poses = starts(middle)
    heads = Heads(identity, np.zeros((len(poses), prior.config.expression_modes)), poses)
    for schedule, count, keep in ROUNDS:
        drawn = draw(frame.points, frame.normals, middle, prior, count, seed)
        repeated = drawn.frames(np.zeros(len(heads.expression), int))
        heads, linear = levenberg(prior, heads, repeated, schedule, Free(expression=False))
        width = np.full(len(heads.expression), schedule.narrowest * float(pose.scale_of(middle)) / 1e3)
        order = np.argsort(Point(heads, linear).energy(width, schedule), kind="stable")[:keep]
        heads = heads.frames(order)
        middle = heads.head_from_world[0]
    return heads.head_from_world[:1], drawn


def _nods() -> np.ndarray:
    """Motions (len(NODS), 6)."""
    motions = np.zeros((len(NODS), pose.POSE))
    motions[:, 0] = np.radians(NODS)
    return motions


def _polish(prior: HeadPrior, start: np.ndarray, identity: np.ndarray, drawn: Samples) -> tuple[float, Heads]:
    """What a head with everything free comes to from a pose (1, 4, 4): its energy, and the head."""
    heads, linear = _everything(prior, start, identity, drawn, POLISH)
    width = np.array([POLISH.narrowest * float(pose.scale_of(start)[0]) / 1e3])
    energy = Point(heads, linear).energy(width, POLISH)[0] + (heads.identity**2).sum()
    return float(energy), heads


def _everything(
    prior: HeadPrior, start: np.ndarray, identity: np.ndarray, drawn: Samples, schedule: Schedule
) -> tuple[Heads, Linearised]:
    """The head of one frame after a fit of everything, at rest before it, from a pose (1, 4, 4)."""
    heads = Heads(identity, np.zeros((1, prior.config.expression_modes)), start)
    return levenberg(prior, heads, drawn, schedule, Free(identity=True))
