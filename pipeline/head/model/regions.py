"""Canonical space: its bounds, and where eyes and mouth lie in it, for a loss and figures that look there closely."""

import torch

from pipeline.head.model.face import FRONT

# Of x_can: x, y, z and both hyper coordinates, head units (docs/formats.md)
LOWER = (-1.0, -1.0, -1.5, -0.2, -0.2)
UPPER = (1.0, 1.0, 0.5, 0.2, 0.2)

# Ellipses in (|x|, y), head units: centre and half axes. Under 100 random identities of the shipped prior's face model
# they hold the whole edge of the eyelids and of the lips' opening; what a blink moves and the red of the lips lie in
# them too (tests/test_regions.py). Canonical space is at rest, so no expression moves anything out of them.
ELLIPSES = {"eyes": ((0.13, 0.165), (0.09, 0.065)), "mouth": ((0.0, -0.135), (0.15, 0.105))}


def region(x_can: torch.Tensor, name: str) -> torch.Tensor:
    """Whether canonical points (..., 5), or (..., 3), lie in the region "eyes" or "mouth": (...) bool.

    The background, zero in all coordinates, lies in none. Ellipses are those of the shipped prior's face model; another
    prior has to have its head where MonoNPHM's space has it (docs/formats.md), give or take a centimetre.
    """
    (x, y), (width, height) = ELLIPSES[name]
    distance = ((x_can[..., 0].abs() - x) / width).square() + ((x_can[..., 1] - y) / height).square()
    return (distance < 1) & (x_can[..., 2] > FRONT)


def region_weights(x_can: torch.Tensor, eyes: float, mouth: float) -> torch.Tensor:
    """How much each pixel (...) of canonical points (..., 5) counts: 1, and `eyes` or `mouth` in these regions."""
    weights = torch.ones_like(x_can[..., 0])
    for name, weight in (("eyes", eyes), ("mouth", mouth)):
        weights = weights.masked_fill(region(x_can, name), weight)
    return weights
