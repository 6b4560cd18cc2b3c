"""Cameras from matches alone: COLMAP's incremental mapper from rough focal lengths, one image per view."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.capture.sfm import model
from pipeline.capture.sfm.adjust import ROBUST, bundle, keep_long, quietly
from pipeline.capture.sfm.matching.matches import FEWEST, TOLERANCE, Pairs, Seen

# Focal lengths tried where none is known, shares of the picture's longer side: a phone's lens, a portrait lens. The
# mapper keeps the one it starts with, since few views leave it open: refining it there placed 5 of 13 cameras of a
# sequence of 905. The fit afterwards finds it: 901's 2.3 as 2.2 or 2.3.
FOCALS = (1.2, 2.4)


def solve(
    seen: Sequence[Seen], pairs: Pairs, cameras: Sequence[Camera], known: bool, shared: bool
) -> dict[int, Camera]:
    """The cameras that could be placed, by number, in a unit of their own, from `cameras` without poses.

    `known`: their focal lengths are near the truth; otherwise several are tried. `shared`: alike cameras have one lens.
    """
    best: tuple[int, int, dict[int, Camera]] = (0, 0, {})
    for factor in (None,) if known else FOCALS:
        start = [
            camera if factor is None else with_focal(camera, factor * max(view.view.size))
            for camera, view in zip(cameras, seen, strict=True)
        ]
        best = max(best, _mapped(seen, pairs, start, known, shared), key=lambda found: found[:2])
    return best[2]


def with_focal(camera: Camera, focal: float) -> Camera:
    """A camera with another focal length, in pixels."""
    matrix = camera.intrinsics.copy()
    matrix[[0, 1], [0, 1]] = focal
    return replace(camera, intrinsics=matrix)


def _mapped(
    seen: Sequence[Seen], pairs: Pairs, start: Sequence[Camera], known: bool, shared: bool
) -> tuple[int, int, dict[int, Camera]]:
    """What the mapper makes with these lenses, refined afterwards unless `known`: views, observations, cameras."""
    tolerance = max(view.view.tolerance for view in seen)
    options = pycolmap.IncrementalPipelineOptions()
    options.multiple_models, options.extract_colors, options.num_threads = False, False, 1
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = model.SEED
    options.min_num_matches, options.min_model_size = FEWEST, min(3, len(seen))
    options.mapper.init_min_num_inliers, options.mapper.init_min_tri_angle = FEWEST, 8.0
    options.triangulation.ignore_two_view_tracks = False
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = False
    options.mapper.filter_max_reproj_error = options.triangulation.merge_max_reproj_error = 2 * tolerance
    options.triangulation.complete_max_reproj_error = 2 * tolerance
    options.mapper.abs_pose_max_error = 4 * tolerance
    with tempfile.TemporaryDirectory(prefix="sfm-") as name:
        folder = Path(name)
        model.write_database(folder / "matches.db", seen, start, pairs, shared)
        (folder / "model").mkdir()
        made = quietly(pycolmap.incremental_mapping, folder / "matches.db", folder, folder / "model", options)
    if not made:
        return 0, 0, {}
    largest = max(made.values(), key=lambda found: found.num_reg_images())
    placed, observations = largest.num_reg_images(), largest.compute_num_observations()
    # The mapper trusts every match: without a robust fit to points that three see, cameras of 901, 904 and 905 lay 14,
    # 17 and 25 mm off (median), with it 3, 4 and 17 mm.
    keep_long(largest)
    bundle(largest, not known, (), ROBUST * tolerance / TOLERANCE)
    return placed, observations, model.placed(largest, start)
