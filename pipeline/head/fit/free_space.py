"""Points that no head can hold: just outside a silhouette, near a head."""

import cv2
import numpy as np
import torch

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.errors import DataError
from pipeline.head.fit.least_squares.residuals import Heads
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, numbers

MARGIN = 0.002  # metres: a matte's edge is good to about a pixel, 1 mm on the demo's capture
REACH = 0.03  # metres outside a silhouette: without the term the demo's napes stood out by up to 21 mm
# A silhouette that denies more of the cloud's points is a few pixels off and has no say. The clouds keep none that a
# silhouette they believe denies (stereo/cloud.py), but for the pixel at its edge.
DENIED = 0.01
OUTSTANDING = 4  # times the median camera's share it must be too: stray points are denied by all alike
CANDIDATES = 40_000  # points thrown into the prior's box
LOOKED_AT = 4000  # of those outside a silhouette, how many are looked at for whether the head holds them


def free_points(
    prior: HeadPrior, rig: Rig, alpha: np.ndarray, points: np.ndarray, heads: Heads, count: int, seed: int
) -> np.ndarray:
    """The `count` points (count, 3), world, outside a silhouette that lie deepest in a head or nearest to it.

    `alpha` (C, H, W) uint8 of the rig's cameras, `points` (N, 3) of the cloud, world, `heads` of one frame. Silhouettes
    that deny the cloud are not asked. Where there are fewer, the rest lies outside the
    prior's box and says nothing. Raises DataError when the pictures are not the rig's.
    """
    low, high = np.array(prior.config.box_min), np.array(prior.config.box_max)
    rng = np.random.default_rng(seed)
    world_from_head = np.linalg.inv(heads.head_from_world[0])
    x = rng.uniform(low, high, (CANDIDATES, 3))
    check_pictures(rig, alpha)
    outside = distance_outside(rig, believed(rig, alpha, points), pose.apply(world_from_head, x))
    x = x[(outside > MARGIN) & (outside < REACH)][:LOOKED_AT]
    if len(x):
        x = x[np.argsort(_signed_distance(prior, heads, x), kind="stable")[:count]]
    x = np.concatenate([x, np.broadcast_to(high + 1, (count - len(x), 3))])
    return pose.apply(world_from_head, x)


def believed(rig: Rig, alpha: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The alpha (C, H, W) with those silhouettes filled, and so mute, that deny the cloud's points (N, 3), world."""
    outside = [_outside_one(camera, cover, points) for camera, cover in zip(rig.cameras, alpha, strict=True)]
    denied = np.array([(distance > MARGIN).mean() for distance in outside])
    doubted = (denied > DENIED) & (denied > OUTSTANDING * np.median(denied))
    return np.where(doubted[:, None, None], np.uint8(255), alpha)


def _signed_distance(prior: HeadPrior, heads: Heads, x: np.ndarray) -> np.ndarray:
    """(N,) of points (N, 3) in the one head, head units."""
    with torch.no_grad():
        z_id = prior.z_id_from(prior.tensor(heads.identity))
        z_exp = prior.z_exp_from(prior.tensor(heads.expression[0]))
        return numbers(prior.sdf(prior.warp(prior.tensor(x), z_id, z_exp), z_id))


def check_pictures(rig: Rig, alpha: np.ndarray) -> None:
    """Raise DataError unless alpha (C, H, W) is of the rig's cameras."""
    if alpha.shape != rig.padded_shape:
        raise DataError(f"pictures of shape {alpha.shape}; cameras.json expects {rig.padded_shape}")


def distance_outside(rig: Rig, alpha: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far (N,), metres, each point (N, 3), world, lies outside of the silhouette that it is farthest outside of.

    Zero inside all silhouettes; a camera whose picture a point misses has no say.
    """
    check_pictures(rig, alpha)
    farthest = np.zeros(len(points))
    for camera, cover in zip(rig.cameras, alpha, strict=True):
        np.maximum(farthest, _outside_one(camera, cover, points), out=farthest)
    return farthest


def _outside_one(camera: Camera, cover: np.ndarray, points: np.ndarray) -> np.ndarray:
    background = (camera.own(cover) < 128).astype(np.uint8)
    pixels_away = cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    seen, row, column, depth = camera.hits(points)
    result = np.zeros(len(points))
    result[seen] = pixels_away[row, column] * depth / camera.intrinsics[0, 0]
    return result
