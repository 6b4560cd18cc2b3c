"""Canonical coordinates beside a mesh: hair, and ears, that reach beyond it have a place on the head too."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.cameras.camera import Camera
from pipeline.mesh.mesh import Mesh
from pipeline.raster import buffers
from pipeline.raster.fragments import Rasterizer

# Of the picture's height. Heads of 901 reach 4 % of it beyond their mesh, at the lower corners of the hair.
BAND = 1 / 20


def band(height: int) -> int:
    """How many pixels beside the mesh get coordinates, in pictures of this height."""
    return math.ceil(BAND * height)


def rasterize(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """`buffers.rasterize`, with the band beside the mesh in depth and x_can, as a picture of stored buffers is read."""
    seen = buffers.rasterize(rasterizer, mesh, cameras)
    reach = band(cameras[0].height)
    pictures = zip(seen["depth"], seen["x_can"], seen["mask"], strict=True)
    depth, x_can = zip(*(continued(*picture, reach) for picture in pictures), strict=True)
    return seen | {"depth": np.stack(depth), "x_can": np.stack(x_can)}


def continued(depth: np.ndarray, x_can: np.ndarray, mask: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (h, w) and x_can (h, w, 5) that go on up to `reach` pixels beside the mask (h, w) bool.

    There x_can is that of the nearest pixel on it, and depth minus the distance to that, in shares of `reach`.
    """
    if not mask.any():
        return depth, x_can
    away = (~mask).astype(np.uint8)
    distance, label = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label = label.astype(np.int32, copy=False)
    place = np.zeros(label.max() + 1, int)
    place[label[mask]] = np.flatnonzero(mask)
    beside = ~mask & (distance <= reach)
    depth, x_can = depth.copy(), x_can.copy()
    x_can[beside] = x_can.reshape(-1, x_can.shape[-1])[place[label[beside]]]
    depth[beside] = -distance[beside] / reach
    return depth, x_can
