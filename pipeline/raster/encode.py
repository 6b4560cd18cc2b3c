"""The coding of stored buffers where the pictures lie, such as on a GPU, which then sends half the bytes.

The same numbers as `pipeline.raster.coding.encode`, which tests compare; one block of bytes goes to the host.
"""

import math

import numpy as np
import torch

from pipeline.raster.coding import CODED, DEPTH_STEP, HYPER_STEP, NORMAL_LEVELS, XYZ_STEP, check_levels

STEPS = {"depth": DEPTH_STEP, "x_can": XYZ_STEP, "hyper": HYPER_STEP}
STORED = {"depth": np.uint16, "x_can": np.int16, "hyper": np.int32}
WIDTHS = {2: torch.int16, 4: torch.int32}  # bytes; the bits of uint16 are those of int16


def encoded(depth: torch.Tensor, normals: torch.Tensor, x_can: torch.Tensor) -> dict[str, np.ndarray]:
    """The arrays of CODED (C, ..., h, w) from depth (C, h, w) metres, 0 background, unit normals (C, h, w, 3) and x_can
    (C, h, w, 5). Raises DataError for what does not fit."""
    given = {"depth": depth, "x_can": x_can[..., :3].movedim(-1, 1), "hyper": x_can[..., 3:].movedim(-1, 1)}
    levels = {name: (values.double() / STEPS[name]).round() for name, values in given.items()}
    hit = levels["depth"] > 0
    coded = {
        "depth": levels["depth"],
        "surface": torch.cat([levels["x_can"], _octahedral(normals)], 1),
        "hyper": levels["hyper"],
    }
    extremes = torch.stack([part.aminmax()[side] for part in levels.values() for side in (0, 1)])
    parts = [extremes]
    for name, (_, dtype, *_) in CODED.items():
        values = coded[name].masked_fill(~(hit if name == "depth" else hit[:, None]), 0)
        parts.append(values.int().to(WIDTHS[np.dtype(dtype).itemsize]))
    found = on_host(torch.cat([part.contiguous().view(-1).view(torch.uint8) for part in parts])).numpy()
    least_and_largest = found[: 8 * len(extremes)].view(np.float64).reshape(-1, 2)
    for (name, step), (low, high) in zip(STEPS.items(), least_and_largest, strict=True):
        check_levels(name, low, high, step, STORED[name])
    result, start = {}, 8 * len(extremes)
    for name, (before, dtype, *_) in CODED.items():
        shape = (len(depth), *before, *depth.shape[1:])
        end = start + math.prod(shape) * np.dtype(dtype).itemsize
        result[name], start = found[start:end].view(dtype).reshape(shape), end
    return result


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the host's memory: from a GPU into pinned memory, which it fills by itself."""
    if not tensor.is_cuda:
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)


def _octahedral(normals: torch.Tensor) -> torch.Tensor:
    """(C, 2, h, w) float64 levels: the sphere folded onto a square; 0 where a normal (C, h, w, 3) is 0."""
    x, y, z = normals.double().unbind(-1)
    total = x.abs() + y.abs() + z.abs()
    total = total.masked_fill(total == 0, 1)
    x, y = x / total, y / total
    folded = torch.where(z < 0, (1 - y.abs()).copysign(x), x), torch.where(z < 0, (1 - x.abs()).copysign(y), y)
    return (torch.stack(folded, 1) * NORMAL_LEVELS).round()
