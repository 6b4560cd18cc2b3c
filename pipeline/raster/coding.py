"""How buffers are stored: fixed point and octahedral normals, and the one function that turns them back.

Measured by benchmarks/buffers.py (docs/figures/full-size.md). Prediction from neighbours would save another third, at
several times the CPU time of reading.
"""

from collections.abc import Callable

import numpy as np

from pipeline.errors import DataError
from pipeline.store.chunk import Chunk
from pipeline.store.reel import WHOLE, Reel, Window

DEPTH_STEP = 1e-4  # metres; 0 is background
XYZ_STEP = 2.0**-11  # head units: an eighth of a texel of planes with 512 texels over the bounds
# Hyper coordinates are looked up by their spread in the data (pipeline.avatar.model.condition), where a texel may be as
# small as 1e-3 * 2 / 512 = 3.9e-6
HYPER_STEP = 2.0**-21
NORMAL_LEVELS = (
    2047  # of each octahedral coordinate to either side: at most 0.06 degrees off (Cigolini and others 2014)
)
CODED = {  # name: shape before (h, w), dtype, axes there, unit, meaning
    "depth": ((), np.uint16, (), f"{DEPTH_STEP:g} m", "distance along the camera's z axis, 0 background"),
    "surface": (
        (5,),
        np.int16,
        ("channel",),
        f"2^-11 head unit; 1/{NORMAL_LEVELS}",
        "canonical x, y, z; octahedral coordinates of the outward world normal",
    ),
    "hyper": ((2,), np.int32, ("channel",), "2^-21", "canonical hyper coordinates"),
}
EVERY = ("depth", "normals", "x_can", "mask")


def encode(depth: np.ndarray, normals: np.ndarray, x_can: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of CODED from depth (h, w) metres, 0 background, normals (h, w, 3) and x_can (h, w, 5).

    Raises DataError for what does not fit: no head is that large or that far away.
    """
    coded = {
        "depth": _fixed("depth", depth, DEPTH_STEP, np.uint16),
        "surface": np.concatenate(
            [_fixed("x_can", np.moveaxis(x_can[..., :3], -1, 0), XYZ_STEP, np.int16), _octahedral(normals)]
        ),
        "hyper": _fixed("hyper", np.moveaxis(x_can[..., 3:], -1, 0), HYPER_STEP, np.int32),
    }
    hit = coded["depth"] > 0
    return {name: np.where(hit, array, 0).astype(array.dtype) for name, array in coded.items()}


def encode_all(depth: np.ndarray, normals: np.ndarray, x_can: np.ndarray) -> dict[str, np.ndarray]:
    """`encode` of C pictures, (C, ...) each."""
    each = [encode(*picture) for picture in zip(depth, normals, x_can, strict=True)]
    return {name: np.stack([coded[name] for coded in each]) for name in CODED}


def decode(read: Callable[[str], np.ndarray], names: tuple[str, ...] = EVERY) -> dict[str, np.ndarray]:
    """`depth` (h, w) float32 metres, `normals` (h, w, 3) float32 unit, world, `x_can` (h, w, 5) float32, `mask` (h, w)
    bool, those of them that are named; background 0. `read` gives an array of CODED for one picture.
    """
    depth = read("depth")
    mask = depth != 0
    found: dict[str, np.ndarray] = {"mask": mask}
    if "depth" in names:
        found["depth"] = depth * np.float32(DEPTH_STEP)
    surface = read("surface") if "normals" in names or "x_can" in names else np.empty(0)
    if "normals" in names:
        inside = np.flatnonzero(mask)  # a head fills a fifth to a half of the picture: the rest need not be computed
        normals = np.zeros((mask.size, 3), np.float32)
        normals[inside] = _unit(np.take(surface[3:].reshape(2, -1), inside, 1))
        found["normals"] = normals.reshape(*mask.shape, 3)
    if "x_can" in names:
        hyper = read("hyper")
        x_can = np.empty((*mask.shape, 5), np.float32)
        for channel in range(3):
            np.multiply(surface[channel], np.float32(XYZ_STEP), out=x_can[..., channel])
        for channel in range(2):
            np.multiply(hyper[channel], HYPER_STEP, out=x_can[..., 3 + channel], casting="same_kind")
        found["x_can"] = x_can
    return {name: found[name] for name in names}


def read_buffers(
    reel: Reel, step: int, camera: int, names: tuple[str, ...] = EVERY, window: Window = WHOLE
) -> dict[str, np.ndarray]:
    """The named buffers (see `decode`), (h, w) or (h, w, n), of one picture of a sequence, or of a window of it."""
    return decode(lambda name: reel.picture(name, step, camera, window), names)


def chunk_buffers(chunk: Chunk, index: int, camera: int, names: tuple[str, ...] = EVERY) -> dict[str, np.ndarray]:
    """The same, (h, w) or (h, w, n), for entry `index` of one chunk's axis of time."""
    return decode(lambda name: chunk[name][index, camera], names)


def check_levels(name: str, low: float, high: float, step: float, dtype: type) -> None:
    """Raise DataError where the least or the largest number of steps does not fit the type."""
    limits = np.iinfo(dtype)
    if low < limits.min or high > limits.max:
        found = step * (low if low < limits.min else high)
        raise DataError(f"{name} of {found:g} in the buffers; expected {limits.min * step:g} to {limits.max * step:g}")


def _fixed(name: str, values: np.ndarray, step: float, dtype: type) -> np.ndarray:
    levels = np.rint(values.astype(np.float64) / step)
    if levels.size:
        check_levels(name, levels.min(), levels.max(), step, dtype)
    return levels.astype(dtype)


def _octahedral(normals: np.ndarray) -> np.ndarray:
    """(2, h, w) int16: the sphere folded onto a square; 0 where a normal is 0."""
    x, y, z = np.moveaxis(normals.astype(np.float64), -1, 0)
    total = np.abs(x) + np.abs(y) + np.abs(z)
    total[total == 0] = 1
    x, y = x / total, y / total
    folded = np.where(z < 0, (np.copysign(1 - np.abs(y), x), np.copysign(1 - np.abs(x), y)), (x, y))
    return np.rint(folded * NORMAL_LEVELS).astype(np.int16)


def _unit(codes: np.ndarray) -> np.ndarray:
    """Unit vectors (P, 3) float32 of octahedral codes (2, P)."""
    x, y = codes * np.float32(1 / NORMAL_LEVELS)
    z = 1 - np.abs(x) - np.abs(y)
    fold = np.maximum(-z, 0)
    x, y = x - np.copysign(fold, x), y - np.copysign(fold, y)
    shorter = 1 / np.sqrt(x * x + y * y + z * z)
    normals = np.empty((len(z), 3), np.float32)
    for axis, along in enumerate((x, y, z)):
        np.multiply(along, shorter, out=normals[:, axis])
    return normals
