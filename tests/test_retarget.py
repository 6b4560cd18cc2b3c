"""Driving by another person: poses that move alike from another rest, codes, the stage, who is needed for it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.capture.curves import ARKIT
from pipeline.head.fit.eyes import lids_of
from pipeline.head.model import pose
from pipeline.head.model.arkit import SHIPPED, read_map
from pipeline.head.model.identity import Identity, file_digest, read_identity, write_identity
from pipeline.head.model.prior import load_prior
from pipeline.motion.retarget import guarded, home, resting, retarget_codes, retarget_gaze, retarget_poses
from pipeline.provenance import ROOT
from pipeline.store.chunk import Array, read_arrays, read_attributes, write_chunk
from tests import in_process

PRIOR = ROOT / "pipeline/head/weights/head_prior.safetensors"
MOTION = st.lists(st.floats(-0.5, 0.5), min_size=6, max_size=6).map(np.array)


def person(seed: int, prior: str = "", width: int = 4, weights: int = 4) -> Identity:
    """Somebody who sits somewhere, at a scale of four head units per metre; lengths of the code and of its weights."""
    rng = np.random.default_rng(seed)
    up, front = rng.normal(size=(2, 3))
    up /= np.linalg.norm(up)
    front -= (front @ up) * up
    front /= np.linalg.norm(front)
    place = (rng.normal(size=3), up, front)
    code = rng.normal(size=width).astype(np.float32)
    scale = np.array([4.0], np.float32)
    w = rng.normal(size=weights).astype(np.float32)
    return Identity(code, w, scale, *(part.astype(np.float32) for part in place), prior, ("A:0",), (1.0,))


@given(MOTION)
def test_the_driven_head_moves_from_its_rest_as_the_driver_from_theirs(motion):
    driver, driven = person(1), person(2)
    moving = pose.moved(home(driver)[None], motion[None])
    found = pose.motion_between(home(driven)[None], retarget_poses(moving, driver, driven))
    np.testing.assert_allclose(found[0], motion, atol=1e-9)


def test_a_person_drives_themselves_as_they_moved():
    moving = pose.moved(home(person(3))[None], np.full((1, 6), 0.1))
    np.testing.assert_allclose(retarget_poses(moving, person(3), person(3)), moving, atol=1e-12)


def test_rest_is_where_the_identity_says():
    somebody = person(4)
    centre, up, front = pose.centre_up_front(home(somebody))
    for found, expected in ((centre, somebody.centre), (up, somebody.up), (front, somebody.front)):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert pose.scale_of(home(somebody)) == pytest.approx(4)


def test_who_may_read_other_files_may_read_an_identity(tmp_path):
    write_identity(tmp_path / "identity.safetensors", person(7))
    (tmp_path / "any").touch()
    assert (tmp_path / "identity.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_strength_counts_from_the_neutral_code():
    codes, neutral = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([1.0, 1.0])
    for strength, expected in ((0, [neutral] * 2), (1, codes), (2, [[1, 3], [5, -3]])):
        found = retarget_codes(codes, codes, neutral, strength, relative=False, guard=0)
        np.testing.assert_allclose(found, expected)


def test_what_a_face_is_at_rest_stays_with_it():
    rng = np.random.default_rng(0)
    moves = np.vstack([np.zeros((2, 6)), rng.normal(size=(18, 6))])
    theirs, ours = rng.normal(size=(2, 6)) * 0.1
    found = retarget_codes(theirs + moves, ours + moves[::-1], np.zeros(6), 1.0, relative=True, guard=0)
    np.testing.assert_allclose(found, ours + moves, atol=1e-6)
    np.testing.assert_allclose(resting(theirs + moves, np.zeros(6)), theirs)


@given(st.integers(1, 5), st.floats(0, 1), st.integers(0, 1000))
def test_guard_keeps_what_the_subject_shows_and_takes_the_rest(shown, guard, seed):
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    own, other = frame[:shown], frame[shown:]
    inside, outside = rng.normal(size=(4, shown)) @ own, rng.normal(size=(4, 8 - shown)) @ other
    mixes = rng.uniform(0.5, 1, (20, shown)) * np.sign(rng.normal(size=(20, shown)))
    mixes[:shown] += 3 * np.eye(shown)
    found = guarded(inside + outside, mixes @ own, guard)
    np.testing.assert_allclose(found, inside + (1 - guard) * outside, atol=1e-9)


def test_gaze_goes_from_rest_to_rest():
    theirs = np.random.default_rng(3).normal(size=(9, 2, 2)).astype(np.float32)
    ours = theirs[:5] + np.float32(0.3)
    found = retarget_gaze(theirs, [ours])
    np.testing.assert_allclose(np.median(found, axis=0), np.median(ours, axis=0), atol=1e-6)
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(theirs, axis=0), atol=1e-6)
    np.testing.assert_array_equal(retarget_gaze(theirs, []), theirs)


def test_head_may_start_where_it_is_or_stand_still():
    driver, driven = person(1), person(2)
    poses = pose.moved(np.stack([home(driver)] * 4), np.linspace(0.1, 0.4, 24).reshape(4, 6))
    start = retarget_poses(poses, driver, driven, "start")
    np.testing.assert_allclose(start[0], home(driven), atol=1e-12)
    np.testing.assert_allclose(pose.motion_between(start[:-1], start[1:]), pose.motion_between(poses[:-1], poses[1:]))
    np.testing.assert_array_equal(retarget_poses(poses, driver, driven, "still"), np.stack([home(driven)] * 4))


def call(folder: Path, **settings: float) -> subprocess.CompletedProcess[str]:
    """Run the stage on the files of `folder`."""
    files = {"driver": "driver.safetensors", "track": "track.zarr.zip", "identity": "driven.safetensors"}
    files["own"] = "own.zarr.zip"
    options = [part for name, file in files.items() for part in (f"--{name}", str(folder / file))]
    names = ["--prior", str(PRIOR), "--subject", "1", "--sequence", "2~NOD", "--output", str(folder / "out.zarr.zip")]
    return in_process.run("stages.retarget", "--settings", json.dumps(settings), *options, *names)


@pytest.fixture
def two_people(tmp_path: Path) -> Path:
    """A driver with a track of three steps, and somebody to be driven."""
    prior = load_prior(PRIOR)
    for seed, name in ((5, "driver"), (6, "driven")):
        write_identity(
            tmp_path / f"{name}.safetensors",
            person(seed, file_digest(PRIOR), prior.identity.mean.shape[0], prior.config.identity_modes),
        )
    poses = pose.moved(np.stack([home(person(5))] * 3), np.linspace(0, 0.1, 18).reshape(3, 6))
    codes = np.abs(np.random.default_rng(0).normal(size=(3, len(prior.neutral)))).astype(np.float32)
    arrays = {
        "z_exp": Array(codes, ("time", "code"), "1", "codes"),
        "head_from_world": Array(poses, ("time", "row", "column"), "head unit / m", "poses"),
    }
    about = {"stage": "fit_sequence", "subject": "2", "sequence": "NOD", "start": 0, "stop": 3}
    gaze = np.random.default_rng(1).normal(size=(3, 2, 2)).astype(np.float32)
    eyes = {"gaze": Array(gaze, ("time", "eye", "angle"), "radian", "gaze")}
    write_chunk(tmp_path / "track.zarr.zip", arrays | eyes, about)
    own = {**arrays, "z_exp": Array(np.zeros_like(codes), ("time", "code"), "1", "codes")}
    write_chunk(tmp_path / "own.zarr.zip", own, about | {"subject": "1", "sequence": "OWN"})
    return tmp_path


def test_stage(two_people):
    result = call(two_people, relative=False, guard=0, head="rest")
    assert result.returncode == 0, result.stderr
    codes, poses = read_arrays(two_people / "out.zarr.zip", "z_exp", "head_from_world")
    given_codes, given_poses = read_arrays(two_people / "track.zarr.zip", "z_exp", "head_from_world")
    np.testing.assert_array_equal(codes, given_codes)
    np.testing.assert_allclose(
        poses[0] @ np.linalg.inv(home(person(6))), given_poses[0] @ np.linalg.inv(home(person(5)))
    )
    np.testing.assert_array_equal(
        *(read_arrays(two_people / name, "gaze")[0] for name in ("out.zarr.zip", "track.zarr.zip"))
    )
    (lids,) = read_arrays(two_people / "out.zarr.zip", "lids")
    again = lids_of(load_prior(PRIOR), read_identity(two_people / "driven.safetensors").w_id, codes, poses)
    np.testing.assert_allclose(lids, again, atol=1e-3)  # the subject's own under the driver's codes
    attributes = read_attributes(two_people / "out.zarr.zip")
    assert (attributes["subject"], attributes["sequence"], attributes["stop"]) == ("1", "2~NOD", 3)


def test_codes_stay_within_what_the_prior_knows(two_people):
    assert call(two_people, strength=2).returncode == 0  # relative: what is below the driver's rest is below zero
    assert read_arrays(two_people / "out.zarr.zip", "z_exp")[0].min() == 0


def test_lids_shut_as_the_drivers_do_each_relative_to_their_own_rest(two_people):
    """The subject's own track never shows a blink, which a guard of 1 takes out of the code altogether."""
    prior = load_prior(PRIOR)
    blinks = np.zeros((3, len(ARKIT)), np.float32)
    blinks[1, ARKIT.index("eyeBlinkLeft")] = 1
    blinks[2, [ARKIT.index("eyeBlinkLeft"), ARKIT.index("eyeBlinkRight")]] = 0.9
    codes = read_map(SHIPPED, prior.config.exp).z_exp(blinks)
    (poses,) = read_arrays(two_people / "track.zarr.zip", "head_from_world")
    track = {
        "z_exp": Array(codes, ("time", "code"), "1", "codes"),
        "head_from_world": Array(poses, ("time", "row", "column"), "head unit / m", "poses"),
    }
    write_chunk(two_people / "track.zarr.zip", track, read_attributes(two_people / "track.zarr.zip"))
    theirs = lids_of(prior, read_identity(two_people / "driver.safetensors").w_id, codes, poses)
    assert call(two_people, guard=1).returncode == 0
    lids, driven = read_arrays(two_people / "out.zarr.zip", "lids", "z_exp")
    assert (theirs[2] < 0.5 * theirs[0]).all()
    np.testing.assert_allclose(lids / lids[0], theirs / theirs[0], atol=0.06)
    np.testing.assert_array_equal(driven[0], prior.neutral.numpy())
    assert call(two_people, guard=1, strength=0.5).returncode == 0
    (lids,) = read_arrays(two_people / "out.zarr.zip", "lids")
    np.testing.assert_allclose(lids / lids[0], (1 + theirs / theirs[0]) / 2, atol=0.06)


def test_stage_with_a_face_at_rest(two_people):
    assert call(two_people, strength=0).returncode == 0
    (codes,) = read_arrays(two_people / "out.zarr.zip", "z_exp")
    np.testing.assert_array_equal(codes, load_prior(PRIOR).neutral.numpy()[None].repeat(3, 0))


def test_a_person_fitted_with_another_prior_is_refused(two_people):
    write_identity(two_people / "driver.safetensors", person(5, "another"))
    result = call(two_people)
    assert result.returncode == 1
    assert "driver.safetensors: fitted with another head prior" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (two_people / "out.zarr.zip").exists()
