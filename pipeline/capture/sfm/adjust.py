"""Cameras refined on what they see of the person: guided matches, tracks of three views or more, bundle adjustment."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from pipeline.cameras.camera import Camera
from pipeline.capture.plausible import common_point
from pipeline.capture.sfm import model
from pipeline.capture.sfm.matching.matches import Seen, match_guided

WIDEST = np.radians(60)  # between cameras that are matched: nothing is found beyond
NEAREST = 14  # of a camera's neighbours at most are matched with it: photographs may be many
# Pixels (of a picture PIXELS_HIGH) off the epipolar line in each round: the first poses are rough, the later ones not.
BANDS = (2.5, 1.25, 0.8)
ROBUST = 0.25  # pixels where Cauchy's loss begins to discount: half the median residual of 901's matches


@dataclass(frozen=True)
class Adjusted:
    """`cameras` as refined, `error` the median reprojection error in pixels of each, `tracks` seen by three or more."""

    cameras: tuple[Camera, ...]
    error: np.ndarray
    tracks: int


def adjust(
    seen: Sequence[Seen],
    cameras: Sequence[Camera],
    *,
    focal: bool,
    shared: bool,
    fixed: Sequence[int] = (),
    bands: Sequence[float] = BANDS,
) -> Adjusted:
    """Refine poses (and focal lengths with `focal`; one for alike cameras with `shared`) from poses a few pixels off.

    Cameras numbered in `fixed` keep theirs. The result's unit and axes are the given ones but for what the fit leaves
    free: where none is fixed, the caller aligns.
    """
    for band in bands:
        scale = min(view.view.tolerance for view in seen) / 1.5
        pairs = match_guided(seen, cameras, near(cameras), band * scale)
        with tempfile.TemporaryDirectory(prefix="sfm-") as name:
            folder = Path(name)
            model.write_database(folder / "matches.db", seen, cameras, pairs, shared)
            options = pycolmap.IncrementalPipelineOptions()
            options.num_threads, options.extract_colors = 1, False
            options.random_seed = options.triangulation.random_seed = model.SEED
            options.triangulation.merge_max_reproj_error = options.triangulation.complete_max_reproj_error = (
                band * scale
            )
            options.triangulation.create_max_angle_error = options.triangulation.continue_max_angle_error = 0.5
            options.mapper.filter_max_reproj_error = band * scale
            (folder / "model").mkdir()
            found = quietly(
                pycolmap.triangulate_points,
                model.posed(cameras, shared),
                folder / "matches.db",
                folder,
                folder / "model",
                True,
                options,
            )
        keep_long(found)
        bundle(found, focal, fixed, ROBUST * scale)
        refined = model.placed(found, cameras)
        cameras = [refined[i] for i in range(len(cameras))]
    return Adjusted(tuple(cameras), errors(found, len(cameras)), found.num_points3D())


def quietly(run: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call to COLMAP, which warns of every picture that it looks for in vain to colour its points."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR  # pyright: ignore[reportAttributeAccessIssue]  # its stubs say read-only
    try:
        return run(*arguments)
    finally:
        pycolmap.logging.minloglevel = before


def near(cameras: Sequence[Camera]) -> list[tuple[int, int]]:
    """Pairs of cameras that see the same side of the person: each with its nearest, those at most WIDEST apart."""
    target = common_point(cameras)
    away = np.stack([camera.centre - target for camera in cameras])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosine = away @ away.T
    last = np.sort(cosine, axis=1)[:, -min(NEAREST + 1, len(cameras))]  # a camera is its own nearest
    near_enough = cosine >= np.maximum(np.minimum(last[:, None], last), np.cos(WIDEST))
    return [(a, b) for a, b in combinations(range(len(cameras)), 2) if near_enough[a, b]]


def keep_long(found: pycolmap.Reconstruction) -> None:
    """Drop the points that two views alone see: a wrong match on the epipolar line fits any pose."""
    for number in [n for n, point in found.points3D.items() if len(point.track.elements) < 3]:
        found.delete_point3D(number)


def bundle(found: pycolmap.Reconstruction, focal: bool, fixed: Sequence[int], robust: float) -> None:
    """Bundle adjustment under Cauchy's loss; the cameras numbered `fixed` stay."""
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length, options.refine_extra_params, options.print_summary = focal, False, False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = robust
    options.ceres.solver_options.num_threads = 1
    config = pycolmap.BundleAdjustmentConfig()
    for number in found.reg_image_ids():
        config.add_image(number)
        if number - 1 in fixed:
            config.set_constant_rig_from_world_pose(found.image(number).frame_id)
    if len(fixed) < 2:
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, found).solve()


def errors(found: pycolmap.Reconstruction, count: int) -> np.ndarray:
    """The median reprojection error (count,) of each view in pixels, infinite where it sees no point."""
    residuals: list[list[float]] = [[np.inf] for _ in range(count)]
    for point in found.points3D.values():
        for element in point.track.elements:
            image = found.image(element.image_id)
            shown = image.project_point(point.xyz)
            off = np.inf if shown is None else np.linalg.norm(shown - image.point2D(element.point2D_idx).xy)
            residuals[element.image_id - 1].append(float(off))
    return np.array([np.median(of[1:] or of) for of in residuals])
