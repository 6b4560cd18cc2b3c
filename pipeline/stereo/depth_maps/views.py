"""A time step's pictures at one level of a resolution pyramid, and which cameras are matched with which."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.cameras.camera import Camera

GREY = np.array([0.299, 0.587, 0.114], np.float32)
GAMMA = 2.2
LINEAR = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)  # of a pixel's value
SKIN = 0.35  # blue over red of skin of any kind, in linear light; 0.31 on 905's face, 0.40 on 901's
NOT_SKIN = 1.0, 0.85  # from the one on (blue over red) a pixel is held for something else, below the other for skin
BLURRED = 1.5  # pixels, standard deviation: most shine is broader, the noise of single pixels is not
# The edges of strong highlights are not broader. Blurred like all shine, so much of those on 905's chin stayed that its
# windows matched best 7 mm behind it by 1.6 nats; now by 0.9 (`benchmarks.matching_bias`, half the resolution).
SHARP = 0.6  # pixels: so little it is blurred there; everywhere that would take skin's texture away
STRONG = 0.06  # share of the light by which the shine differs (standard deviation) where a highlight is strong ...
AROUND = 4.0  # ... within so many pixels
WIDEST = 50.0  # degrees between cameras that are matched
# Degrees between cameras of which one tells more than the other. Of pictures taken every few degrees, the nearest ones
# tell little of a depth: a cloud from 65 round a man had 1.06 mm of noise on his face with neighbours 3 to 9 degrees
# away, 0.94 with those chosen (median distance to the plane of the points within 5 mm).
APART = 14.0
# Share of the cameras within WIDEST that must agree on a point: three of sixteen, twelve of 65,
# where three agree by chance (noise as above 0.94 mm, 0.66 with twelve).
AGREEING = 0.2
DARKEST = 0.2  # share of a place's light that is left at least
DARK = 0.05  # luma below which a highlight's share of the light is noise


@dataclass(frozen=True)
class View:
    """One camera's picture: `grey` (h, w) float32, sRGB luma without shine, about [0, 1]; `person`
    (h, w) bool; `camera` of this size."""

    camera: Camera
    grey: np.ndarray
    person: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.grey.shape


def make_views(
    rgb: Sequence[np.ndarray], alpha: Sequence[np.ndarray], cameras: Sequence[Camera], shrink: int
) -> list[View]:
    """Views at 1/`shrink` of the resolution from `rgb` (H, W, 3) uint8 and `alpha` (H, W) uint8 of each."""
    views = []
    for picture, cover, camera in zip(rgb, alpha, cameras, strict=True):
        width, height = camera.width // shrink, camera.height // shrink
        extent = np.s_[: height * shrink, : width * shrink]
        picture, cover = (
            cv2.resize(part[extent], (width, height), interpolation=cv2.INTER_AREA) for part in (picture, cover)
        )
        views.append(View(camera.crop(0, 0, shrink, width, height), matte(picture, cover > 127), cover > 127))
    return views


def matte(picture: np.ndarray, person: np.ndarray) -> np.ndarray:
    """sRGB luma (h, w) float32 of a `picture` (h, w, 3) uint8, without the highlights of the `person` (h, w) bool.

    A highlight is a mirror image of a lamp that lies behind the surface: where there is little other contrast, matching
    finds its depth. It is white. Linear blue less a fixed share of linear red grows with white light and else depends
    on the surface alone, not on the camera; so luma less that, blurred, is the same from everywhere. It is blurred less
    where highlights are strong. What is not of skin's colour, as clothes, stays as it is, and does not shine upon the
    skin beside it.
    """
    linear = LINEAR[picture]
    colour = _blur(linear, 0.5 * BLURRED)
    ratio = colour[..., 2] / np.maximum(colour[..., 0], 1e-4)
    skin = person * np.clip((ratio - NOT_SKIN[0]) / (NOT_SKIN[1] - NOT_SKIN[0]), 0, 1).astype(np.float32)
    white = (linear[..., 2] - SKIN * linear[..., 0]) / (1 - SKIN)
    both = np.dstack([linear @ GREY, white])
    shine, luma = _shine(both, skin, BLURRED)
    sharp, _ = _shine(both, skin, SHARP)
    strong = _strength(shine, luma, skin)
    return picture @ (GREY / 255) - (shine + strong * (sharp - shine)) * skin


def _shine(both: np.ndarray, skin: np.ndarray, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """By how much the white part of the light raises luma, and the luma, blurred over the `skin`; (h, w) float32 each.

    `both` (h, w, 2) are the light and its white part, linear; `skin` (h, w) is a weight.
    """
    light, white = _mean(both, skin, blur)
    left = np.maximum(light - white, DARKEST * light)
    luma = light ** np.float32(1 / GAMMA)
    return luma - left ** np.float32(1 / GAMMA), luma


def _strength(shine: np.ndarray, luma: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """From 0 to 1, (h, w) float32: whether the shine differs by more than STRONG of the luma round each pixel."""
    mean, square, luma = _mean(np.dstack([shine, shine**2, luma]), skin, AROUND)
    spread = np.maximum(square - mean**2, 0) / np.maximum(luma, DARK) ** 2
    return spread**2 / (spread**2 + np.float32(STRONG**4))


def _mean(values: np.ndarray, weight: np.ndarray, blur: float) -> tuple[np.ndarray, ...]:
    """Weighted Gaussian means of the channels of `values` (h, w, n), with weights (h, w); n times (h, w)."""
    sums = _blur(np.dstack([weight, weight[..., None] * values]), blur)
    return tuple(np.moveaxis(sums[..., 1:] / np.maximum(sums[..., :1], 1e-3), -1, 0))


def _blur(values: np.ndarray, deviation: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), deviation)


def neighbours(cameras: Sequence[Camera], count: int, widest: float = WIDEST) -> list[list[int]]:
    """For every camera `count` others, near it in viewing direction but APART, none over `widest` degrees away.

    The nearest that are apart from it and from those chosen before; where these are too few, a third as far apart, and
    at last the nearest that are left.
    """
    axes = np.stack([camera.camera_from_world[2, :3] for camera in cameras])
    angles = np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1)))
    return [_neighbours(i, angles, count, widest) for i in range(len(cameras))]


def _neighbours(i: int, angles: np.ndarray, count: int, widest: float) -> list[int]:
    """Those of camera `i`, nearest first, where `angles` (C, C) degrees lie between viewing directions."""
    near = [int(j) for j in np.argsort(angles[i], kind="stable") if j != i and angles[i, j] <= widest]
    chosen: list[int] = []
    for least in (APART, APART / 3, 0):
        for j in near:
            if len(chosen) < count and j not in chosen and angles[j, [i, *chosen]].min() >= least:
                chosen.append(j)
    return sorted(chosen, key=near.index)


def demanded(cameras: Sequence[Camera], least: int, widest: float = WIDEST) -> np.ndarray:
    """How many cameras (C,) must agree on what each one sees: `least`, more where many look from there.

    Of many cameras some agree by chance: a share of those within `widest` degrees must.
    """
    axes = np.stack([camera.camera_from_world[2, :3] for camera in cameras])
    beside = (axes @ axes.T >= np.cos(np.radians(widest))).sum(1) - 1
    return np.maximum(least, (AGREEING * beside).astype(int))


def neighbour_from_reference(reference: Camera, neighbour: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Matrix A (3, 3) and vector b (3,): pixel p at depth z in the reference lies at z * A p + b in the neighbour."""
    between = neighbour.camera_from_world @ reference.world_from_camera
    matrix = neighbour.intrinsics @ between[:3, :3] @ np.linalg.inv(reference.intrinsics)
    return matrix, neighbour.intrinsics @ between[:3, 3]
