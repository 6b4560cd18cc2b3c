"""Motions of one's own: keyframes with easing, curves of a phone, the stage, and their names in the config."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.capture.curves import ARKIT
from pipeline.errors import ConfigError
from pipeline.head.fit.eyes import lids_of
from pipeline.head.model import pose
from pipeline.head.model.arkit import SHIPPED, read_map
from pipeline.head.model.identity import file_digest, read_identity, write_identity
from pipeline.head.model.prior import load_prior
from pipeline.motion.animate import turned
from pipeline.motion.easing import between, eased
from pipeline.motion.eyes import LOOK, looked, weights_of
from pipeline.motion.retarget import home
from pipeline.planning.films import View, check_names, motion_steps, view
from pipeline.provenance import ROOT
from pipeline.settings.animate import AnimateSettings
from pipeline.settings.keyframes import Pose
from pipeline.store.chunk import Array, read_arrays, write_chunk
from tests import in_process
from tests.test_curves import write_csv
from tests.test_retarget import PRIOR, person

EASINGS = ("linear", "smooth", "in", "out", "hold")


@pytest.mark.parametrize("easing", EASINGS)
@given(st.floats(0, 1), st.floats(0, 1))
def test_easing_goes_from_one_key_to_the_next_and_never_back(easing, one, other):
    low, high = sorted((one, other))
    assert eased(np.array(0.0), easing) == 0
    assert eased(np.array(1.0), easing) == 1
    assert eased(np.array(low), easing) <= eased(np.array(high), easing)


def test_values_hold_before_the_first_key_and_after_the_last():
    keys = [Pose(seconds=1), Pose(seconds=2, easing="linear"), Pose(seconds=3, easing="hold")]
    found = between(keys, np.array([[0.0], [10.0], [20.0]]), np.array([0, 1, 1.25, 2, 2.9, 3, 9]))
    np.testing.assert_allclose(found[:, 0], [0, 0, 2.5, 10, 10, 20, 20])
    np.testing.assert_array_equal(between(keys[:1], np.array([[5.0]]), np.array([0, 7])), [[5], [5]])


def test_angles_turn_to_the_left_down_and_to_the_right():
    rest = home(person(1))
    nose, crown = np.array([[0, 0, 1.0]]), np.array([[0, 1.0, 0]])
    for place, angle, point, axis in ((0, 0.3, nose, 0), (1, 0.3, nose, 1), (2, 0.3, crown, 0)):
        angles = np.zeros((1, 3))
        angles[0, place] = angle
        moved = turned(rest, angles, np.zeros((1, 3)))[0]
        seen = pose.apply(rest, pose.apply(np.linalg.inv(moved), point))[0]  # in the axes of the head at rest
        assert seen[axis] == pytest.approx(np.sin(0.3) if place == 0 else -np.sin(0.3))
    shifted = turned(rest, np.zeros((1, 3)), np.array([[0.1, 0.2, 0.3]]))
    origin = pose.apply(rest, pose.apply(np.linalg.inv(shifted[0]), np.zeros((1, 3))))
    np.testing.assert_allclose(origin, [[0.1, 0.2, 0.3]], atol=1e-9)


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    """Somebody with a track of four steps, the first of them nearly at rest."""
    write_identity(tmp_path / "identity.safetensors", person(5, file_digest(PRIOR), 880, 112))
    codes = np.abs(np.random.default_rng(0).normal(size=(4, 57))).astype(np.float32)
    codes[0] *= 0.01
    codes[3] = -0.1
    poses = np.stack([home(person(5))] * 4)
    arrays = {
        "z_exp": Array(codes, ("time", "code"), "1", "codes"),
        "head_from_world": Array(poses, ("time", "row", "column"), "head unit / m", "poses"),
    }
    write_chunk(tmp_path / "own.zarr.zip", arrays, {"subject": "1", "sequence": "SMILE", "start": 0, "stop": 4})
    return tmp_path


def animate(
    folder: Path, motion: Path, steps: int, run: Callable = in_process.run, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run the stage at 24 pictures a second."""
    command = ["stages.animate", "--settings", json.dumps(settings)]
    command += ["--motion", motion, "--prior", PRIOR, "--map", SHIPPED, "--identity", folder / "identity.safetensors"]
    command += ["--tracks", folder / "own.zarr.zip", "--rate", "24", "--steps", steps, "--subject", "1"]
    command += ["--sequence", "mine", "--output", folder / "out.zarr.zip"]
    return run(*command, cwd=ROOT)


def keyframes(folder: Path, *keys: dict) -> Path:
    """A file of keyframes."""
    (folder / "keys.json").write_text(json.dumps({"keyframes": keys}))
    return folder / "keys.json"


def test_keyframes(subject):
    keys = (
        {"seconds": 0},
        {"seconds": 0.5, "weights": {"jawOpen": 1}, "turn_degrees": [20, 0, 0], "gaze_degrees": [5, 0]},
    )
    done = animate(subject, keyframes(subject, *keys, {"seconds": 1, "like": "SMILE:2"}), 25, in_process.spawn)
    assert done.returncode == 0, done.stderr
    codes, poses, gaze = read_arrays(subject / "out.zarr.zip", "z_exp", "head_from_world", "gaze")
    (own,) = read_arrays(subject / "own.zarr.zip", "z_exp")
    jaw = read_map(SHIPPED, 57).z_exp_from_weights[:, ARKIT.index("jawOpen")]
    for step, expected in ((0, own[0]), (12, own[0] + jaw), (24, own[2])):
        np.testing.assert_allclose(codes[step], expected, atol=1e-6)
    turn = pose.motion_between(poses[:1], poses[12:13])[0]
    assert np.degrees(np.linalg.norm(turn[:3])) == pytest.approx(20)
    np.testing.assert_allclose(poses[24], home(person(5)), atol=1e-9)
    np.testing.assert_allclose(np.degrees(gaze[12]), [[5, 0], [5, 0]], atol=1e-4)


@given(st.lists(st.floats(-0.5, 0.5), min_size=4, max_size=4))
def test_weights_that_look_somewhere_give_the_gaze_back(angles):
    gaze = np.array(angles).reshape(2, 2)
    np.testing.assert_allclose(looked(weights_of(gaze)), gaze, atol=1e-12)
    left = np.zeros(len(ARKIT))
    left[[ARKIT.index("eyeLookOutLeft"), ARKIT.index("eyeLookInRight")]] = 1
    np.testing.assert_allclose(looked(left), [[LOOK, 0], [LOOK, 0]])


def test_eyes_shut_and_look_where_the_weights_say(subject):
    keys = ({"seconds": 0}, {"seconds": 0.5, "weights": {"eyeBlinkLeft": 1, "eyeLookUpRight": 0.5}})
    done = animate(subject, keyframes(subject, *keys), 13)
    assert done.returncode == 0, done.stderr
    gaze, lids = read_arrays(subject / "out.zarr.zip", "gaze", "lids")
    np.testing.assert_allclose(gaze[[0, 12]], [np.zeros((2, 2)), [[0, 0], [0, LOOK / 2]]], atol=1e-6)
    assert lids[12, 0] < 0.8 * lids[0, 0]
    assert lids[12, 1] > 0.8 * lids[0, 1]


def test_eyes_shut_on_a_face_that_was_fitted_below_what_the_prior_knows(subject):
    """With codes a tenth below zero the lids of the shipped prior do not move, however large a blink's weight is."""
    shut = {"eyeBlinkLeft": 1, "eyeBlinkRight": 1}
    done = animate(subject, keyframes(subject, {"seconds": 0, "like": "SMILE:3", "weights": shut}), 1)
    assert done.returncode == 0, done.stderr
    codes, lids = read_arrays(subject / "out.zarr.zip", "z_exp", "lids")
    assert codes.min() == 0
    below = codes + read_arrays(subject / "own.zarr.zip", "z_exp")[0][3]
    identity = read_identity(subject / "identity.safetensors")
    (before,) = lids_of(load_prior(PRIOR), identity.w_id, below, home(identity)[None])
    assert lids.max() < 0.5 * before.min()


def test_curves(subject):
    rows = [(f"10:00:00:{frame:02d}.000", {"JawOpen": frame / 60, "HeadYaw": 0.2 + frame / 600}) for frame in range(31)]
    path = write_csv(subject / "a.csv", rows)
    done = animate(subject, path, 13, reversed=["yaw"])
    assert done.returncode == 0, done.stderr
    codes, poses = read_arrays(subject / "out.zarr.zip", "z_exp", "head_from_world")
    (own,) = read_arrays(subject / "own.zarr.zip", "z_exp")
    jaw = read_map(SHIPPED, 57).z_exp_from_weights[:, ARKIT.index("jawOpen")]
    np.testing.assert_allclose(codes, own[0] + np.arange(13)[:, None] / 24 * jaw, atol=1e-5)
    np.testing.assert_allclose(poses[0], home(person(5)), atol=1e-9)  # it turns from where it is at first
    np.testing.assert_allclose(pose.motion_between(poses[:1], poses[12:13])[0, :3], [0, 0.05, 0], atol=1e-6)
    assert animate(subject, path, 13, head=False, strength=0).returncode == 0
    codes, poses = read_arrays(subject / "out.zarr.zip", "z_exp", "head_from_world")
    np.testing.assert_allclose(codes, np.stack([own[0]] * 13), atol=1e-6)
    np.testing.assert_allclose(poses, np.stack([home(person(5))] * 13), atol=1e-9)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"seconds": 0, "weights": {"jawWide": 1}}, "no weight jawWide"),
        ({"seconds": 0, "like": "SMILE:9"}, "no face SMILE:9; there are SMILE (0 to 3)"),
        ({"seconds": 0, "wieghts": {}}, "keys.json: keyframes.0.wieghts: Extra inputs"),
    ],
)
def test_faults_are_named(subject, key, message):
    done = animate(subject, keyframes(subject, key), 1)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (subject / "out.zarr.zip").exists()


def test_names_of_views():
    paths = {"near": "near.json"}
    assert view("orbit", paths) == View("orbit", "orbit", "world")
    assert view("shake@head", paths) == View("shake", "shake", "head")
    assert view("near", paths) == View("path", "near.json", "world")
    assert view("222200037@head", paths) == View("camera", "222200037", "head")


def test_config_names_faults_of_motions(subject):
    path = keyframes(subject, {"seconds": 0}, {"seconds": 2})
    assert motion_steps({"mine": str(path)}, 24, AnimateSettings()) == {"mine": 49}
    csv = write_csv(subject / "a.csv", [("01:00:00:00", {}), ("01:00:01:30", {})])
    assert motion_steps({"phone": str(csv)}, 24, AnimateSettings()) == {"phone": 37}
    with pytest.raises(ConfigError, match=r"films.motions: mine: .*seconds are \[2.0, 1.0\]; expected each"):
        motion_steps({"mine": str(keyframes(subject, {"seconds": 2}, {"seconds": 1}))}, 24, AnimateSettings())
    for name, message in (("a/b", "cannot be"), ("SMILE", "is taken"), ("c", "no file gone.json")):
        with pytest.raises(ConfigError, match=message):
            check_names("films.motions", {name: "gone.json" if name == "c" else str(path)}, ["SMILE"])
