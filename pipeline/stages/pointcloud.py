"""pointcloud: a clean dense cloud with normals and colours for every time step of one span.

Where the capture brings clouds along, those are taken.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from pipeline import cli
from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig, read_rig
from pipeline.device import claim
from pipeline.errors import DataError
from pipeline.head.fit.alignment import rough_head
from pipeline.head.fit.clouds import read_landmarks, read_points
from pipeline.head.model.prior import load_prior
from pipeline.mesh.cut import Plane
from pipeline.mesh.head import mesh_head
from pipeline.raster.backends.embree import EmbreeRasterizer
from pipeline.settings.pointcloud import PointcloudSettings
from pipeline.stereo.cloud import Cloud, point_cloud
from pipeline.stereo.colmap import require_cuda
from pipeline.stereo.given import given_cloud
from pipeline.store.chunk import Layout, chunk_writer, open_chunk
from pipeline.workers import compute_alike, workers

GUIDE_VOXEL_MM, GUIDE_NECK = 4.0, Plane(-0.5, 0)  # of the mesh that guides: its neck counts as well
known_prior = cache(load_prior)

LAYOUTS = {
    "points": Layout((0, 3), np.float32, ("point", "xyz"), "m", "points of all steps, world frame"),
    "normals": Layout((0, 3), np.float32, ("point", "xyz"), "1", "outward unit normals, world frame"),
    "colors": Layout((0, 3), np.uint8, ("point", "channel"), "sRGB", "colours, 0 to 255"),
    "offsets": Layout((0,), np.int64, ("step",), "1", "step t owns rows offsets[t]:offsets[t+1]"),
}


def head_surface(
    prior: Path, landmarks: np.ndarray, points: np.ndarray, normals: np.ndarray, cameras: Sequence[Camera]
) -> list[np.ndarray] | None:
    """A `Guide` of the matching: the depth maps of a head that is fitted to the first cloud and `landmarks` (L, 3)."""
    model = known_prior(prior)
    heads = rough_head(model, points, normals, landmarks)
    if heads is None:
        return None
    with torch.no_grad():
        z_id = model.z_id_from(model.tensor(heads.identity))
        z_exp = model.z_exp_from(model.tensor(heads.expression[0]))
    mesh = mesh_head(model, z_id, z_exp, heads.head_from_world[0], GUIDE_VOXEL_MM, GUIDE_NECK)
    fragments = EmbreeRasterizer().rasterize(mesh.vertices, mesh.faces, cameras)
    return [np.where(one.hit, one.depth, 0).astype(np.float32) for one in fragments]


def step_cloud(
    step: int,
    frames: Path,
    start: int,
    rig: Rig,
    settings: PointcloudSettings,
    given: Sequence[Path],
    prior: Path,
    landmarks: np.ndarray | None,
) -> Cloud:
    """The cloud of one step of the chunk; errors name the file and the time step. With landmarks (T, L, 3) of the chunk
    a head of the prior guides the matching."""
    with open_chunk(frames) as group:
        alpha = group["alpha"][step]
        rgb = None if given else group["rgb"][step]
    if alpha.shape != rig.padded_shape:
        raise DataError(f"{frames}: pictures of shape {alpha.shape}; cameras.json expects {rig.padded_shape}")
    try:
        if rgb is None:
            return given_cloud(given[step], alpha, rig.cameras)
        guide = None if landmarks is None else partial(head_surface, prior, landmarks[step])
        return point_cloud(rgb, alpha, rig.cameras, settings, guide)
    except DataError as error:
        raise DataError(f"{frames}: time step {start + step}: {error}") from error


def read_known(prior: Path, points: list[Path], landmarks: list[Path], start: int, stop: int) -> np.ndarray | None:
    """The landmarks (T, L, 3) of the chunk, detected or the capture's own; None where there is no file of them."""
    if not points and not landmarks:
        return None
    model = known_prior(prior)
    (known,) = (read_points(points, model) or read_landmarks(landmarks, model)).values()
    if len(known) < stop:
        raise DataError(f"{(points or landmarks)[0]}: landmarks of {len(known)} steps; expected {stop} or more")
    return known[start:stop]


def main() -> None:
    """Read one chunk of frames, reconstruct every step, publish one chunk of clouds."""
    parser = cli.parser(__doc__, PointcloudSettings)
    cli.add_span(parser)
    parser.add_argument("--cameras", type=cli.existing_file, required=True, help="cameras.json")
    parser.add_argument("--frames", type=cli.existing_file, required=True, help="frames/{sequence}/{span}.zarr.zip")
    parser.add_argument("--given", type=Path, nargs="+", default=[], help="the capture's own clouds, one per time step")
    parser.add_argument("--prior", type=cli.existing_file, required=True, help="head prior, of the head that guides")
    parser.add_argument("--points", type=Path, nargs="+", default=[], help="what triangulate made of the sequence")
    parser.add_argument("--landmarks", type=Path, nargs="+", default=[], help="the capture's own, in place of points")
    parser.add_argument("--threads", type=int, default=1, help="time steps reconstructed at once")
    parser.add_argument("--output", type=Path, required=True, help="clouds/{sequence}/{span}.zarr.zip")
    options = parser.parse_args()
    count = options.stop - options.start
    if options.given and len(options.given) != count:
        raise DataError(f"{options.given[0]}: {len(options.given)} clouds; expected {count}, one for each step")
    if options.settings.backend == "colmap_cuda" and not options.given:
        require_cuda()
        claim("cuda")
    rig, known = read_rig(options.cameras), None
    if options.settings.guided:
        known = read_known(options.prior, options.points, options.landmarks, options.start, options.stop)
    progress, total = cli.Progress(count, "steps"), 0
    with (
        chunk_writer(options.output, LAYOUTS, cli.record("pointcloud", options)) as chunk,
        workers(min(options.threads, count), compute_alike) as run,
    ):
        chunk.append("offsets", np.zeros(1, np.int64))
        job = partial(
            step_cloud,
            frames=options.frames,
            start=options.start,
            rig=rig,
            settings=options.settings,
            given=options.given,
            prior=options.prior,
            landmarks=known,
        )
        for done, cloud in enumerate(run(job, range(count)), start=1):
            for remark in cloud.remarks:
                cli.log.warning("%s: time step %d: %s", options.frames, options.start + done - 1, remark)
            for name in ("points", "normals", "colors"):
                chunk.append(name, getattr(cloud, name))
            total += len(cloud.points)
            chunk.append("offsets", np.array([total]))
            progress.update(done, f", {len(cloud.points)} points")


if __name__ == "__main__":
    cli.run(main)
