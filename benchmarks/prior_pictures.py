"""Pictures of a head prior for its documentation: shaded meshes on three contact sheets.

    python -m benchmarks.prior_pictures [--prior F] [--output docs/images] [--voxel-mm 3]

prior_random.png: ten heads whose identity and expression are drawn from the prior's Gaussians, from the front and the
side. prior_between.png: ten steps on the straight line between two of them. prior_expressions.png: the mean head along
the four widest directions of the expressions, from -2.5 to 2.5 standard deviations.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.cameras.camera import Camera
from pipeline.cameras.orbit import look_at
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.raster.buffers import rasterize
from pipeline.report.tiles import shaded
from pipeline.settings.mesh import MeshSettings
from pipeline.store.chunk import publish

PIXELS = 160  # width of a tile
COUNT = 10
DIRECTIONS, STEPS, WIDE = 4, 7, 2.5  # of the expressions: how many, pictures along each, standard deviations
GREYS = 48  # colours kept: a sheet stays below 300 kB
SUPERSAMPLING = 3


def camera(yaw_degrees: float) -> Camera:
    """A camera 1.2 m before the head, turned to its left by an angle, 35 cm high at the head."""
    width, height = PIXELS * SUPERSAMPLING, PIXELS * 5 // 4 * SUPERSAMPLING
    yaw, middle = np.radians(yaw_degrees), np.array([0, 0.025, -0.02])
    eye = middle + 1.2 * np.array([np.sin(yaw), 0, np.cos(yaw)])
    focal = height * 1.2 / 0.35
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera("", width, height, intrinsics, look_at(eye, middle, np.array([0.0, 1, 0])), np.eye(3))


def portraits(prior: HeadPrior, z_id: Tensor, z_exp: Tensor, voxel_mm: float, yaws: list[float]) -> list[np.ndarray]:
    """A picture (h, w, 3) uint8 for each angle, of the head with codes (D,) and (E,)."""
    settings, units = MeshSettings(), prior.config.units_per_metre
    neck = Plane(settings.neck_offset, settings.neck_tilt_degrees)
    head_from_world = np.diag([units, units, units, 1])
    mesh = mesh_head(prior, z_id, z_exp, head_from_world, voxel_mm, neck)
    cameras = [camera(yaw) for yaw in yaws]
    seen = rasterize(EmbreeRasterizer(), mesh, cameras)
    normals, mask = seen["normals"], seen["mask"]
    large = [shaded(*view) for view in zip(cameras, normals, mask, strict=True)]
    size = (PIXELS, PIXELS * 5 // 4)
    return [np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX)) for picture in large]


def sheet(rows: list[list[np.ndarray]], path: Path) -> None:
    """Publish rows of pictures of one size as one PNG."""
    whole = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))
    data = io.BytesIO()
    whole.quantize(GREYS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(data, "png", optimize=True)
    with publish(path) as partial:
        partial.write_bytes(data.getvalue())
    print(f"{path}: {len(data.getvalue()) / 1e3:.0f} kB")


def drawn_from(prior: HeadPrior, count: int) -> tuple[Tensor, Tensor]:
    """Standard normal weights of identities (count, I) and expressions (count, J)."""
    generator = torch.Generator().manual_seed(1)
    modes = prior.config.identity_modes, prior.config.expression_modes
    w_id, w_exp = (torch.randn(count, width, generator=generator) for width in modes)
    return w_id, w_exp


def front_and_side(prior: HeadPrior, w_id: Tensor, w_exp: Tensor, voxel_mm: float) -> list[list[np.ndarray]]:
    """Two rows of pictures of the heads with weights (N, I) and (N, J)."""
    codes = zip(prior.z_id_from(w_id), prior.z_exp_from(w_exp), strict=True)
    columns = [portraits(prior, *code, voxel_mm, [0, 55]) for code in codes]
    return [list(row) for row in zip(*columns, strict=True)]


def random_heads(prior: HeadPrior, voxel_mm: float) -> list[list[np.ndarray]]:
    """Ten draws from the prior's Gaussians."""
    return front_and_side(prior, *drawn_from(prior, COUNT), voxel_mm)


def heads_between(prior: HeadPrior, voxel_mm: float) -> list[list[np.ndarray]]:
    """Ten steps from the first draw to the second."""
    shares = torch.linspace(0, 1, COUNT)[:, None]
    first_to_second = [(1 - shares) * w[0] + shares * w[1] for w in drawn_from(prior, COUNT)]
    return front_and_side(prior, *first_to_second, voxel_mm)


def expressions(prior: HeadPrior, voxel_mm: float) -> list[list[np.ndarray]]:
    """The mean head along the widest directions, one row each."""
    z_id = prior.z_id_from(torch.zeros(prior.config.identity_modes))
    rows = []
    for direction in torch.eye(prior.config.expression_modes)[:DIRECTIONS]:
        codes = prior.z_exp_from(torch.linspace(-WIDE, WIDE, STEPS)[:, None] * direction)
        rows.append([portraits(prior, z_id, z_exp, voxel_mm, [15])[0] for z_exp in codes])
    return rows


SHEETS = {"random": random_heads, "between": heads_between, "expressions": expressions}


def main() -> None:
    """Render the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", type=Path, default=Path("pipeline/head/weights/head_prior.safetensors"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--voxel-mm", type=float, default=3.0)
    parser.add_argument("--sheets", choices=SHEETS, nargs="+", default=list(SHEETS))
    options = parser.parse_args()
    prior = load_prior(options.prior)
    for name in options.sheets:
        sheet(SHEETS[name](prior, options.voxel_mm), options.output / f"prior_{name}.png")


if __name__ == "__main__":
    main()
