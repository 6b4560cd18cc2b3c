"""Landmarks of a capture: read, triangulated against exact points and a plain reference, clear errors."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from pipeline.cameras.rig import Rig
from pipeline.cameras.triangulation import triangulate
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.capture.landmarks import COUNT, DETECTED, FIXED
from pipeline.errors import DataError
from pipeline.head.fit.clouds import read_landmarks
from pipeline.head.model.prior import load_prior
from pipeline.store.chunk import read_arrays
from tests import in_process
from tests.conftest import DEMO
from tests.fit_data import WEIGHTS

AGREE = 8e-3


@pytest.fixture(scope="module")
def rig() -> Rig:
    return read_rig_of(open_capture(DEMO), 1.0)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """(4, 68, 3) exact landmarks of capture 901, world metres: steps 0, 5, 10 and 15 of EXP-5-mouth."""
    return np.load(Path(__file__).parent / "data/landmarks/EXP-5-mouth.npz")["landmarks"].astype(float)


def looked_at(rig: Rig, points: np.ndarray) -> np.ndarray:
    """What a perfect detector sees of points (T, L, 3): (T, C, L, 3), all with confidence 1."""
    pixels = np.stack([camera.project(points)[0] for camera in rig.cameras], 1)
    return np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 0.8))
def test_exact_pictures_give_exact_points(rig, truth, seed, missing):
    rng = np.random.default_rng(seed)
    points = truth.mean((0, 1)) + rng.uniform(-0.1, 0.1, (2, 5, 3))
    seen = looked_at(rig, points)
    seen[rng.random(seen.shape[:3]) < missing] = 0
    found, views = triangulate(rig, seen, AGREE)
    known = views > 0
    np.testing.assert_allclose(found[known], points[known], atol=1e-9)
    assert np.isnan(found[~known]).all()
    assert (views <= (seen[..., 2] > 0).sum(1)).all()
    assert known[(seen[..., 2] > 0).sum(1) > 4].all()  # of five cameras of this rig two are 5 degrees apart


def test_noise_outliers_and_missing_cameras(rig, truth):
    rng = np.random.default_rng(0)
    seen = looked_at(rig, truth)
    seen[..., :2] += rng.normal(0, 1.5, seen[..., :2].shape)
    wrong = rng.random(seen.shape[:3]) < 0.15
    seen[wrong, :2] = rng.uniform(0, 250, (wrong.sum(), 2))
    seen[rng.random(seen.shape[:3]) < 0.3] = 0
    found, views = triangulate(rig, seen, AGREE)
    off = np.linalg.norm(found - truth, axis=-1) * 1e3
    assert (views > 0).mean() > 0.99
    assert np.nanmedian(off) < 1.5
    assert np.nanmax(off) < 8


def test_the_result_minimises_the_weighted_reprojection_of_the_cameras_that_agree(rig, truth):
    rng = np.random.default_rng(1)
    seen = looked_at(rig, truth[:1, :4])
    seen[..., :2] += rng.normal(0, 1, seen[..., :2].shape)
    seen[..., 2] = rng.uniform(0.2, 1, seen.shape[:3])
    seen[0, 3, :, :2] += 60  # a camera that is wrong throughout
    found, views = triangulate(rig, seen, AGREE)

    def metres(x: np.ndarray, landmark: int) -> list[float]:
        result = []
        for index, camera in enumerate(rig.cameras):
            pixels, depth = camera.project(x)
            off = (pixels - seen[0, index, landmark, :2]) * depth / camera.intrinsics[0, 0]
            held = np.linalg.norm(off) < AGREE
            result += list(off * held * np.sqrt(seen[0, index, landmark, 2]))
        return result

    for landmark in range(4):
        best = least_squares(metres, truth[0, landmark], args=(landmark,)).x
        np.testing.assert_allclose(found[0, landmark], best, atol=2e-5)
    assert (views <= len(rig.cameras) - 1).all()


def test_a_point_that_one_camera_or_two_side_by_side_saw_is_unknown(rig, truth):
    seen = looked_at(rig, truth)
    seen[:, 1:, 0] = 0
    centres = np.stack([camera.centre for camera in rig.cameras])
    twins = Rig((rig.cameras[0], rig.cameras[0]))
    found, views = triangulate(rig, seen, AGREE)
    assert np.isnan(found[:, 0]).all()
    assert (views[:, 0] == 0).all()
    assert (views[:, 1:] == len(centres)).all()
    assert np.isnan(triangulate(twins, looked_at(twins, truth), AGREE)[0]).all()


def stage(capture: Path, output: Path, frames: int = 3) -> subprocess.CompletedProcess:
    command = ["stages.landmarks", "--capture", capture, "--subject", "901"]
    command += ["--sequence", "EXP-5-mouth", "--frames", frames, "--stride", 2, "--output", output]
    return in_process.run(*command)


def write(capture: Path, camera: str, values: np.ndarray) -> None:
    """One camera's file."""
    folder = capture / "sequences/EXP-5-mouth/landmarks"
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{camera}.npy", values)


def test_the_stage_writes_the_landmarks_of_every_time_step(own_capture, truth, tmp_path):
    rig = read_rig_of(open_capture(own_capture), 1.0)
    seen = looked_at(rig, truth[:3])
    seen[0, :, 20] = np.nan
    seen[2, :, 30, 2] = 0.1  # not sure enough
    for index, camera in enumerate(rig.cameras):
        write(own_capture, f"cam_{camera.name}", seen[:, index].astype(np.float32))
    done = stage(own_capture, tmp_path / "landmarks.zarr.zip")
    assert done.returncode == 0, done.stderr
    points, views = read_arrays(tmp_path / "landmarks.zarr.zip", "points", "views")
    unknown = np.zeros((2, COUNT), bool)
    unknown[0, 20 - FIXED.start] = unknown[1, 30 - FIXED.start] = True
    np.testing.assert_array_equal(views, np.where(unknown, 0, 5))
    np.testing.assert_allclose(points[~unknown], truth[[0, 2]][:, FIXED][~unknown], atol=1e-6)

    (read,) = read_landmarks([tmp_path / "landmarks.zarr.zip"], load_prior(WEIGHTS)).values()
    np.testing.assert_array_equal(np.isnan(read).all(-1), unknown)


@pytest.mark.parametrize(
    ("camera", "values", "expected"),
    [
        ("cam_222200044", np.zeros((3, 51, 3)), "44.npy: float64 of shape (3, 51, 3); expected (3, 68, 3)"),
        ("cam_222200044", np.zeros((2, DETECTED, 3)), "44.npy: float64 of shape (2, 68, 3); expected (3, 68, 3)"),
        ("cam_222200044", np.full((3, DETECTED, 3), "a"), "44.npy: <U1 of shape (3, 68, 3); expected (3, 68, 3)"),
        ("cam_1", np.zeros((3, DETECTED, 3)), "cam_1.npy: of no calibrated camera; expected one of 2207"),
        ("222200044", np.zeros((3, DETECTED, 3)), "222200044.npy: of no calibrated camera"),
    ],
)
def test_a_wrong_file_is_one_clear_error(own_capture, tmp_path, camera, values, expected):
    write(own_capture, camera, values)
    done = stage(own_capture, tmp_path / "landmarks.zarr.zip")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "landmarks.zarr.zip").exists()


def test_a_file_that_is_no_array_is_named(own_capture, tmp_path):
    write(own_capture, "cam_222200044", np.zeros(1))
    (own_capture / "sequences/EXP-5-mouth/landmarks/cam_222200044.npy").write_bytes(b"no array")
    done = stage(own_capture, tmp_path / "landmarks.zarr.zip")
    assert done.returncode == 1
    assert "cam_222200044.npy: not an array" in done.stderr


def test_a_prior_that_knows_no_landmarks_says_so(own_capture, tmp_path):
    prior = load_prior(WEIGHTS)
    prior.config = prior.config.model_copy(update={"landmarks": 0})
    expected = r"landmarks\.zarr\.zip: this head prior does not know .*`python -m pipeline\.head\.marks"
    with pytest.raises(DataError, match=expected):
        read_landmarks([tmp_path / "landmarks.zarr.zip"], prior)
