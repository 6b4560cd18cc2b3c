"""Landmarks in the fit: where the prior has them, derivatives, the first pose without a rig, what clouds lack."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from pipeline.cameras.rig import Rig
from pipeline.capture.landmarks import COUNT, FIXED
from pipeline.errors import DataError
from pipeline.head.fit.alignment import first_head, pose_from_landmarks, pose_from_rig
from pipeline.head.fit.clouds import Clouds, Frame, by_sequence
from pipeline.head.fit.least_squares.adam import adam
from pipeline.head.fit.least_squares.residuals import (
    Heads,
    Linearised,
    Samples,
    canonical_landmarks,
    draw,
    join,
    linearise,
)
from pipeline.head.fit.least_squares.solver import Free, Point, Schedule, levenberg
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, load_prior, save_prior
from pipeline.head.train.ict import load_face_model
from pipeline.head.train.mark import marked
from pipeline.settings.prior import PriorModel
from tests import in_process
from tests.fit_capture import write_spans
from tests.fit_data import SCALE, WEIGHTS, cloud, facing_pose, posed_landmarks, random_prior, rig_in_front
from tests.tiny_face import write_tiny_face

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = Schedule(widest=15, narrowest=2, steps=10, worth=400)
EYES_AND_LIPS = slice(36 - FIXED.start, None)
EYEBALLS = {"eyes.mean", "eyes.basis", "eye_radius"}  # which marking brings too


@pytest.fixture(scope="module")
def prior() -> HeadPrior:
    return load_prior(WEIGHTS)


@pytest.fixture(scope="module")
def tiny() -> HeadPrior:
    return random_prior(landmarks=3)


def test_the_shipped_prior_knows_where_landmarks_lie(prior):
    assert prior.config.landmarks == COUNT
    weights = torch.randn((20, prior.config.identity_modes), generator=torch.Generator().manual_seed(0))
    places, z_id = prior.landmarks_from(weights), prior.z_id_from(weights)
    with torch.no_grad():
        off = prior.sdf(prior.warp(places, z_id, prior.neutral.expand(20, -1)), z_id).abs()
    assert off.mean() * 250 < 0.7  # millimetres off the skin
    mean = canonical_landmarks(prior, np.zeros(prior.config.identity_modes))[0]
    right_eye, left_eye, mouth = (mean[part].mean(0) for part in (slice(19, 25), slice(25, 31), slice(31, 51)))
    np.testing.assert_allclose(right_eye * [-1, 1, 1], left_eye, atol=1e-3)
    assert right_eye[0] < -0.1  # the subject's right is where x is negative
    assert mouth[1] < mean[13, 1] < left_eye[1]  # lips, tip of the nose, eyes
    assert mean[:, 2].argmax() == 13


def test_marking_a_prior_adds_landmarks_and_changes_no_bit_of_the_rest(tmp_path):
    write_tiny_face(tmp_path / "face.npz")
    model = load_face_model(tmp_path / "face.npz")
    torch.manual_seed(0)
    bare = HeadPrior(PriorModel(pairs=3, mid=2, neighbours=3).config(16, 6, landmarks=0))
    save_prior(bare, tmp_path / "bare.safetensors")
    command = ["head.train.mark", "bare.safetensors", "marked.safetensors", "--ict", "face.npz"]
    in_process.run_well(*command, cwd=tmp_path)
    before, after = (load_file(tmp_path / f"{name}.safetensors") for name in ("bare", "marked"))
    assert after.keys() - before.keys() == {"landmarks.mean", "landmarks.basis"}
    assert all(torch.equal(after[name], before[name]) for name in before if name not in EYEBALLS)
    w = np.random.default_rng(0).normal(size=16)
    expected = 0.04 * (model.shape(w[:4], np.zeros(6))[model.landmarks] - [0, -0.5, 3.5])
    found = canonical_landmarks(load_prior(tmp_path / "marked.safetensors"), w)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(DataError, match="a prior of 15 identity weights; ICT-FaceKit's have 16"):
        marked(HeadPrior(PriorModel(pairs=3, mid=2, neighbours=3).config(15, 6, landmarks=0)), model)


def test_derivatives_of_landmarks_match_finite_differences(tiny):
    rng = np.random.default_rng(0)
    poses = pose.moved(np.broadcast_to(facing_pose(), (2, 4, 4)), 0.1 * rng.normal(size=(2, 6)))
    heads = Heads(rng.normal(size=5), rng.normal(size=(2, 4)), poses)
    landmarks = rng.uniform(-0.1, 0.1, (2, 3, 3))
    landmarks[0, 1] = np.nan  # unknown
    landmarks[1, 2] = 9.0  # outside of what the prior knows
    samples = Samples(rng.uniform(-0.1, 0.1, (2, 4, 3)), rng.normal(size=(2, 4, 3)), landmarks)
    linear = linearise(tiny, heads, samples, with_shared=True)
    assert linear.residual.shape == (2, 4 + 9)
    known = linear.agreement[:, 4:].reshape(2, 3, 3)  # (frame, axis, landmark)
    np.testing.assert_array_equal(known[:, 0], [[1, 0, 1], [1, 1, 0]])
    assert (known == known[:, :1]).all()
    z_id = tiny.z_id_from(torch.as_tensor(heads.identity))
    x = torch.as_tensor(pose.apply(heads.head_from_world, landmarks))[1, 1]
    there = tiny.warp(x[None], z_id, tiny.z_exp_from(torch.as_tensor(heads.expression[1])))[0, :3]
    off = there - tiny.landmarks_from(torch.as_tensor(heads.identity))[1]
    np.testing.assert_allclose(linear.residual[1, 4:].reshape(3, 3)[:, 1], off, atol=1e-12)

    def slope(frame_step: np.ndarray, shared_step: np.ndarray) -> np.ndarray:
        ahead, behind = (
            linearise(tiny, heads.moved(sign * frame_step, sign * shared_step), samples, False).residual[:, 4:]
            for sign in (1e-5, -1e-5)
        )
        return (ahead - behind) / 2e-5

    for k in range(10):
        found = slope(np.eye(10)[[k, k]], np.zeros(5))
        np.testing.assert_allclose(linear.frame[:, 4:, k], found, atol=1e-6, err_msg=f"frame unknown {k}")
    for k in range(5):
        found = slope(np.zeros((2, 10)), np.eye(5)[k])
        np.testing.assert_allclose(linear.shared[:, 4:, k], found, atol=1e-6, err_msg=f"shared unknown {k}")


def test_the_energy_counts_each_coordinate_with_the_landmarks_deviation(tiny):
    rng = np.random.default_rng(1)
    heads = Heads(rng.normal(size=5), rng.normal(size=(1, 4)), facing_pose()[None])
    points, normals = rng.uniform(-0.1, 0.1, (2, 1, 4, 3))
    samples = Samples(points, normals, rng.uniform(-0.1, 0.1, (1, 3, 3)))
    schedule, narrow = Schedule(8, 2, 1, 10, landmark_mm=5), np.array([0.008])
    both, cloud_only = (
        Point(heads, linearise(tiny, heads, some, False))
        for some in (samples, replace(samples, landmarks=np.zeros((1, 0, 3))))
    )
    off_mm = both.linear.residual[0, 4:] / SCALE * 1e3
    expected = ((off_mm / 5) ** 2 / (1 + (off_mm / 12.5) ** 2)).sum()  # the kernel ends at 2.5 deviations
    difference = both.energy(narrow, schedule) - cloud_only.energy(narrow, schedule)
    assert difference[0] == pytest.approx(expected)
    wide = np.array([20 * SCALE / 1e3])  # early on the cloud's kernel is wider than that
    expected = ((off_mm / 8) ** 2 / (1 + (off_mm / 20) ** 2)).sum()
    assert (both.energy(wide, schedule) - cloud_only.energy(wide, schedule))[0] == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_landmarks_alone_give_the_pose_of_a_head_at_rest(prior, seed):
    rng = np.random.default_rng(seed)
    identity = rng.normal(size=prior.config.identity_modes)
    truth = pose.moved(facing_pose(), np.concatenate([rng.normal(size=3), 4 * rng.normal(size=3)]))
    landmarks = pose.apply(np.linalg.inv(truth), canonical_landmarks(prior, identity)[0])
    wrong = rng.random(COUNT) < 0.2
    landmarks[wrong] += rng.normal(0, 0.1, (wrong.sum(), 3))
    landmarks[rng.random(COUNT) < 0.3] = np.nan
    off = pose.motion_between(truth, pose_from_landmarks(prior, identity, landmarks))
    assert np.degrees(np.linalg.norm(off[:3])) < 3
    assert np.linalg.norm(off[3:]) / SCALE < 5e-3


def test_landmarks_alone_give_the_pose_of_a_real_capture_nearly(prior):
    """Another person than the mean, with the mouth open: what the fit begins with."""
    stored = np.load(Path(__file__).parent / "data/landmarks/EXP-5-mouth.npz")
    for landmarks, world_from_ict in zip(stored["landmarks"][:, FIXED], stored["head_to_world"], strict=True):
        found = pose_from_landmarks(prior, np.zeros(prior.config.identity_modes), landmarks.astype(float))
        turned = Rotation.from_matrix(found[:3, :3] @ world_from_ict[:3, :3] / SCALE)
        assert np.degrees(turned.magnitude()) < 6


def _spoilt_rig() -> Rig:
    """Cameras in front of the head and as many behind it, all lying on their sides: neither up nor front is a guess."""
    behind = np.diag([-1.0, 1, -1, 1])
    cameras = rig_in_front(np.eye(4)).cameras + rig_in_front(behind).cameras
    rolled = np.eye(4)
    rolled[:3, :3] = Rotation.from_euler("z", 100, degrees=True).as_matrix()
    return Rig(tuple(replace(camera, camera_from_world=rolled @ camera.camera_from_world) for camera in cameras))


def test_landmarks_find_the_head_where_the_cameras_say_nothing(prior):
    rng = np.random.default_rng(0)
    expression = 0.7 * rng.normal(size=(1, prior.config.expression_modes))
    truth = Heads(0.7 * rng.normal(size=prior.config.identity_modes), expression, facing_pose()[None])
    points, normals = cloud(prior, truth.identity, expression[0], facing_pose(), 1500, 0, noise_mm=1, clutter=0.2)
    rig = _spoilt_rig()
    guess = pose.motion_between(facing_pose(), pose_from_rig(rig, points, SCALE))
    assert np.degrees(np.linalg.norm(guess[:3])) > 60
    landmarks = posed_landmarks(prior, truth)[0] + rng.normal(0, 1e-3, (COUNT, 3))
    landmarks[:3] += 0.05
    landmarks[20:24] = np.nan
    frame = Frame("any", 0, points, normals, np.zeros((18, 0, 0), np.uint8), landmarks)
    found = first_head(prior, rig, np.zeros(prior.config.identity_modes), frame, seed=0)
    off = pose.motion_between(facing_pose(), found.head_from_world[0])
    assert np.degrees(np.linalg.norm(off[:3])) < 3
    assert np.linalg.norm(off[3:]) / SCALE < 5e-3


@pytest.fixture(scope="module")
def grimace(prior) -> tuple[Heads, Samples, np.ndarray]:
    """Four heads with strong expressions, 500 points of each that spare eyes and lips, their landmarks with 1 mm of
    noise; and (4, L, 3) where these really are."""
    seeds = (5, 6, 7, 8)
    drawing = [np.random.default_rng(seed) for seed in seeds]
    expression = 1.2 * np.stack([rng.normal(size=prior.config.expression_modes) for rng in drawing])
    truth = Heads(np.zeros(prior.config.identity_modes), expression, np.tile(facing_pose(), (len(seeds), 1, 1)))
    landmarks = posed_landmarks(prior, truth)
    samples = []
    for seed, own, places in zip(seeds, expression, landmarks, strict=True):
        points, normals = cloud(prior, truth.identity, own, facing_pose(), 3000, seed, noise_mm=0.5, clutter=0.1)
        far = KDTree(places[EYES_AND_LIPS]).query(points)[0] > 0.025
        samples.append(draw(points[far], normals[far], facing_pose(), prior, 500, seed=0))
    noise = np.stack([rng.normal(0, 1e-3, landmarks.shape[1:]) for rng in drawing])
    return truth, replace(join(samples), landmarks=landmarks + noise), landmarks


def _started(truth: Heads) -> Heads:
    motion = np.array([[0.03, -0.03, 0.02, 0.01, -0.01, 0.01]])
    return Heads(truth.identity, np.zeros_like(truth.expression), pose.moved(truth.head_from_world, motion))


def _off_mm(prior: HeadPrior, heads: Heads, landmarks: np.ndarray) -> float:
    """Mean distance of where heads have eyes and lips to where they really are."""
    return 1e3 * np.linalg.norm((posed_landmarks(prior, heads) - landmarks)[:, EYES_AND_LIPS], axis=-1).mean()


@pytest.fixture(scope="module")
def solved(prior, grimace) -> tuple[Heads, Linearised]:
    truth, samples, _ = grimace
    return levenberg(prior, _started(truth), samples, SCHEDULE, Free())


def test_landmarks_show_what_the_cloud_does_not_to_both_solvers(prior, grimace, solved):
    truth, samples, landmarks = grimace
    cloud_only = replace(samples, landmarks=np.zeros((1, 0, 3)))
    without, linear = levenberg(prior, _started(truth), cloud_only, SCHEDULE, Free())
    with_landmarks, linear_with = solved
    descended = adam(prior, _started(truth), samples, SCHEDULE, steps=50, rate=0.05)
    assert _off_mm(prior, without, landmarks) > 2
    assert _off_mm(prior, with_landmarks, landmarks) < 0.6 * _off_mm(prior, without, landmarks)
    assert _off_mm(prior, descended, landmarks) < 0.7 * _off_mm(prior, without, landmarks)
    medians = [np.median(np.abs(one.distance)) for one in (linear_with, linear)]
    assert medians[0] < 1.3 * medians[1]  # and the cloud is met as well as without them


def test_unknown_landmarks_are_as_good_as_none(prior, grimace):
    truth, samples, _ = grimace
    unknown = replace(samples, landmarks=np.full_like(samples.landmarks, np.nan))
    schedule = replace(SCHEDULE, steps=3)
    heads = [
        levenberg(prior, _started(truth), some, schedule, Free())[0]
        for some in (unknown, replace(samples, landmarks=np.zeros((1, 0, 3))))
    ]
    np.testing.assert_allclose(heads[0].expression, heads[1].expression, atol=1e-6)
    np.testing.assert_allclose(heads[0].head_from_world, heads[1].head_from_world, atol=1e-6)


def test_false_landmarks_lose_their_pull(prior, grimace, solved):
    truth, samples, landmarks = grimace
    false = samples.landmarks.copy()
    false[:, ::4] += 0.06
    heads, _ = levenberg(prior, _started(truth), replace(samples, landmarks=false), SCHEDULE, Free())
    assert _off_mm(prior, heads, landmarks) < 1.5 * _off_mm(prior, solved[0], landmarks)


def test_sequences_with_and_without_landmarks_go_together(tmp_path):
    alpha = np.ones((9, 4, 4), np.uint8)
    spans = [
        write_spans(tmp_path / name, [Frame(name, step, np.ones((2, 3)), np.ones((2, 3)), alpha) for step in (0, 1)])
        for name in ("nod", "smile")
    ]
    clouds, frames = (list(paths) for paths in zip(*spans, strict=True))
    known = {"smile": np.arange(2 * COUNT * 3, dtype=float).reshape(2, COUNT, 3)}
    nod, smile = by_sequence(clouds, frames, known)
    assert np.isnan(nod.frame(1).landmarks).all()
    assert nod.frame(1).landmarks.shape == (COUNT, 3)
    np.testing.assert_array_equal(smile.frame(1).landmarks, known["smile"][1])
    assert by_sequence(clouds, frames)[1].frame(1).landmarks.shape == (0, 3)
    with pytest.raises(DataError, match="landmarks of 3 steps of smile; expected 2"):
        Clouds(clouds[1:], frames[1:], {"smile": np.zeros((3, COUNT, 3))})
