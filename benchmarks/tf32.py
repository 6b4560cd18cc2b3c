"""What a head prior's distances lose in TF32, the GPU's faster products, on a CPU. Prints one JSON line last.

    python -m benchmarks.tf32 [--prior official] [--resolution 48]

The mesh is made in float32; then the distance is evaluated again at its vertices with all products rounded as TF32
rounds them: factors to 10 bits, sums in float32. rms_mm and max_mm are by how much it changes, and so by how much the
surface moves. three_rms_mm and three_max_mm: each factor is split into two TF32 numbers, each product made of three.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks.meshing import subject
from pipeline.mesh.sparse import extract

DROPPED = 13  # of float32's 23 bits
PRODUCTS = {"linear", "addmm", "matmul", "__matmul__", "mm", "bmm", "baddbmm", "einsum"}


def rounded(numbers: Tensor) -> Tensor:
    """The nearest TF32 numbers; of two that are as near the even one."""
    bits = numbers.contiguous().view(torch.int32)
    half = (1 << (DROPPED - 1)) - 1 + ((bits >> DROPPED) & 1)
    return ((bits + half) & -(1 << DROPPED)).view(torch.float32)


def product(one: Tensor, other: Tensor) -> Tensor:
    """As TF32 makes it."""
    return rounded(one) @ rounded(other)


def three_products(one: Tensor, other: Tensor) -> Tensor:
    """Of two parts of each factor, but for that of the small parts."""
    near, close = rounded(one), rounded(other)
    return near @ close + (product(one - near, close) + product(near, other - close))


class Rounding(TorchFunctionMode):
    """Makes all products of float32 matrices as `multiply` does."""

    def __init__(self, multiply: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.multiply = multiply
        self.count = 0

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name not in PRODUCTS:
            return function(*arguments, **(options or {}))
        self.count += 1
        if name == "addmm":
            return arguments[0] + self.multiply(*arguments[1:])
        if name == "linear":
            result = self.multiply(arguments[0], arguments[1].mT)
            return result if len(arguments) < 3 or arguments[2] is None else result + arguments[2]
        if name not in ("matmul", "__matmul__"):
            raise RuntimeError(f"a product by {name}, which is not rounded here; expected linear, addmm or matmul")
        return self.multiply(*arguments)


@torch.inference_mode()
def main() -> None:
    """Mesh once, then ask twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="official", help="official, shipped, or a file")
    parser.add_argument("--resolution", type=int, default=48)
    given = parser.parse_args()
    head = subject(given.prior, "cpu")
    field = head.field()
    vertices = torch.from_numpy(extract(field, *head.box(given.resolution))[0])
    expected = field(vertices).double()
    figures = {"prior": given.prior, "vertices": len(vertices)}
    for name, multiply in (("", product), ("three_", three_products)):
        with Rounding(multiply) as rounding:
            apart = (field(vertices) - expected).abs() * 1e3 / head.prior.config.units_per_metre
        if not rounding.count:
            raise RuntimeError("no product was rounded")
        figures[f"{name}rms_mm"] = float(f"{apart.square().mean().sqrt():.2g}")
        figures[f"{name}max_mm"] = float(f"{apart.max():.2g}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
