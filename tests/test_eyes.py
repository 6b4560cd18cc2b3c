"""Lids and gaze: exact derivatives of gaps, gazes from irises, detections as stages."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cameras.aim import aim_of
from pipeline.cameras.rig import Rig, write_rig
from pipeline.cameras.triangulation import triangulate
from pipeline.capture.calibration import read_rig_of
from pipeline.capture.formats import open_capture
from pipeline.detect import models
from pipeline.detect.look import Seen, Watcher
from pipeline.detect.points import IBUG, LIDS, Detections, triangulate_face
from pipeline.head.fit.alignment import pose_from_landmarks
from pipeline.head.fit.beside import usual_bias
from pipeline.head.fit.blink import move_lids, shut_lids, usual_slopes
from pipeline.head.fit.clouds import Frame
from pipeline.head.fit.eyes import PITCH_SLOPE, YAW_SLOPE, gaze_directions, gaze_of
from pipeline.head.fit.landmarks import (
    as_seen,
    believe,
    believed,
    bias_of,
    each_of,
)
from pipeline.head.fit.least_squares.lids import find_gaps, posed_landmarks, seen_gaps
from pipeline.head.fit.least_squares.residuals import (
    Heads,
    Samples,
    canonical_landmarks,
    code_rows,
    gap_rows,
    linearise,
)
from pipeline.head.fit.least_squares.solver import Free, Schedule, levenberg
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.store.chunk import Array, read_arrays, write_chunk
from tests import in_process
from tests.tiny_videos import decode_all

ROOT = Path(__file__).parents[1]
CAPTURE = ROOT / "data/demo/901"
METRES = np.diag([4.0, 4, 4, 1])


@pytest.fixture(scope="module")
def prior(one_thread: None) -> HeadPrior:
    return load_prior(ROOT / "pipeline/head/weights/head_prior.safetensors")


@pytest.fixture(scope="module")
def rig() -> Rig:
    return read_rig_of(open_capture(CAPTURE), scale=1.0)


def heads_of(prior: HeadPrior, seed: int, frames: int = 2) -> Heads:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=prior.config.identity_modes), rng.normal(size=(frames, prior.config.expression_modes))
    return Heads(0.5 * weights[0], 0.5 * weights[1], np.repeat(METRES[None], frames, 0))


def codes(prior: HeadPrior, heads: Heads) -> np.ndarray:
    return prior.z_exp_from(torch.as_tensor(heads.expression, dtype=torch.float32)).numpy()


def test_a_gaps_derivatives_are_those_of_finite_differences(prior):
    exact = load_prior(ROOT / "pipeline/head/weights/head_prior.safetensors").double()
    heads = heads_of(exact, 0)
    gaps = np.array([[0.009, np.nan, 0.008, 0.007], [0.002, 0.003, 0.009, 0.01]])
    samples = Samples(np.zeros((2, 1, 3)), np.ones((2, 1, 3)), np.zeros((2, 0, 3)), gaps)

    def rows(moved: Heads) -> np.ndarray:
        return linearise(exact, moved, samples, False).residual[:, -4:]

    linear, step = linearise(exact, heads, samples, True), 1e-5
    assert linear.gaps == 4
    assert not linear.agreement[0, -3]
    for index in (0, 4, 6, 20):
        motion = np.zeros((2, linear.frame.shape[-1]))
        motion[:, index] = step
        there = (rows(heads.moved(motion, None)) - rows(heads.moved(-motion, None))) / (2 * step)
        np.testing.assert_allclose(linear.frame[:, -4:, index], there, atol=2e-5)
    for index in (3, 60):
        shared = np.zeros(linear.shared.shape[-1])
        shared[index] = step
        still = np.zeros_like(motion)
        there = (rows(heads.moved(still, shared)) - rows(heads.moved(still, -shared))) / (2 * step)
        np.testing.assert_allclose(linear.shared[:, -4:, index], there, atol=2e-5)


def test_lids_that_are_seen_shut_shut_the_head(prior):
    open_eyes = Heads(np.zeros(prior.config.identity_modes), np.zeros((1, prior.config.expression_modes)), METRES[None])
    shut = np.full((1, 4), 0.003)
    still = canonical_landmarks(prior, open_eyes.identity)[0] / 4  # brows, nose and lips hold the head where it is
    still[[index for pairs in LIDS for pair in pairs for index in pair]] = np.nan
    samples = Samples(np.full((1, 1, 3), 9.0), np.ones((1, 1, 3)), still[None], shut)
    fitted, _ = levenberg(prior, open_eyes, samples, Schedule(8, 1.5, 8, 1, lid_mm=0.5), Free())
    places = canonical_landmarks(prior, fitted.identity)[0]
    found = find_gaps(prior, fitted.identity, codes(prior, fitted), places).length / 4
    assert find_gaps(prior, open_eyes.identity, codes(prior, open_eyes), places).length.min() / 4 > 0.007
    np.testing.assert_allclose(found, shut, atol=1e-3)  # two deviations: one shape of the face moves two gaps


def test_a_detectors_constant_bias_is_found(prior):
    heads = heads_of(prior, 1, frames=3)
    places = canonical_landmarks(prior, heads.identity)[0]
    off = np.random.default_rng(2).normal(0, 0.006, places.shape)
    seen = posed_landmarks(prior, heads.identity, codes(prior, heads), places + off) / 4
    found = bias_of(prior, heads, seen, 1e-3)
    others = [index for index in range(len(places)) if index not in {i for p in LIDS for q in p for i in q}]
    np.testing.assert_allclose(found[others], off[others], atol=1e-3)
    np.testing.assert_allclose(canonical_landmarks(as_seen(prior, found), heads.identity)[0], places + found, atol=1e-6)


def test_what_one_frame_tells_is_hardly_a_detectors_bias(prior):
    """A mouth that the fit of the only frame left agape is not held for where the detector sees lips."""
    heads, usual = heads_of(prior, 1, frames=1), usual_bias(prior)
    places = canonical_landmarks(prior, heads.identity)[0]
    apart = usual + np.where(np.arange(len(places)) >= 31, 0.02, 0)[:, None] * [0, -1, 0]  # lips 5 mm lower
    seen = posed_landmarks(prior, heads.identity, codes(prior, heads), places + apart) / 4
    found = bias_of(prior, heads, seen, 3.0)
    assert np.abs(found - usual).max() < 0.25 * 0.02
    many = Heads(heads.identity, heads.expression.repeat(64, 0), heads.head_from_world.repeat(64, 0))
    others = bias_of(prior, many, seen.repeat(64, 0), 3.0)
    assert np.abs(others - apart)[31:].max() < 0.1 * 0.02


@given(st.integers(1, 100), st.floats(0, 5), st.floats(0.1, 5))
def test_measurements_that_share_a_bias_are_no_surer_than_it(count, own, each):
    mean = each_of(count, own, each) ** 2 / count
    assert mean == pytest.approx(own**2 + each**2 / count)
    assert believe(count, own, each) == pytest.approx(own**2 / mean)
    assert believe(count, own, each, 2.0) == pytest.approx(own**2 / (mean + 4))


def test_gaze_comes_back_from_irises(prior):
    rng = np.random.default_rng(0)
    jumps = rng.permuted(np.linspace([-0.3, -0.3], [0.3, 0.3], 7), axis=0)  # straight ahead in the median
    gaze = np.repeat(jumps[:, None], 2, 1).repeat(5, 0)  # held for five steps each
    identity = rng.normal(size=prior.config.identity_modes)
    centres = prior.eyes_from(torch.as_tensor(identity, dtype=torch.float32)).numpy()
    moves = rng.normal(0, 0.05, (len(gaze), pose.POSE))
    poses = pose.moved(np.repeat(METRES[None], len(gaze), 0), moves)
    seen = gaze * [YAW_SLOPE, PITCH_SLOPE]
    wrong = np.array([[0.04, 0.01], [-0.04, -0.01]])  # the places of the eyeballs are a little off
    sight = centres + 0.04 * gaze_directions(seen + wrong)
    irises = pose.apply(np.linalg.inv(poses), sight)
    apertures = np.full((len(gaze), 2), 9.0)
    apertures[3] = 2.0  # a blink
    irises[8, 0] = np.nan  # an eye that is not seen
    skull = pose.apply(np.linalg.inv(poses), canonical_landmarks(prior, identity)[0])
    wobbly = pose.moved(poses, np.array([0, 0, 0, 1, 0, 0]) * rng.normal(0, 0.004, (len(gaze), 1)))
    found = gaze_of(prior, identity, wobbly, irises, skull, apertures)
    np.testing.assert_allclose(found, gaze, atol=np.radians(0.5))


@pytest.mark.parametrize(("steps", "kept"), [(1, (0.9, 1)), (200, (0.55, 0.75))])
def test_of_a_whole_sequence_that_looks_aside_a_part_is_the_places_error(prior, steps, kept):
    identity = np.zeros(prior.config.identity_modes)
    poses = np.repeat(METRES[None], steps, 0)
    aside = np.tile([0.1, -0.05], (steps, 2, 1))
    centres = prior.eyes_from(torch.zeros(prior.config.identity_modes)).numpy()
    irises = pose.apply(np.linalg.inv(poses), centres + 0.04 * gaze_directions(aside * [YAW_SLOPE, PITCH_SLOPE]))
    skull = pose.apply(np.linalg.inv(poses), canonical_landmarks(prior, identity)[0])
    found = gaze_of(prior, identity, poses, irises, skull, np.full((steps, 2), 9.0))
    assert ((kept[0] * np.abs(aside) < np.abs(found)) & (np.abs(found) < kept[1] * np.abs(aside))).all()


def test_landmarks_come_back_from_what_cameras_see(rig):
    rng = np.random.default_rng(0)
    aim = aim_of(rig)
    points = aim + rng.uniform(-0.05, 0.05, (1, len(IBUG), 3))
    irises = aim + rng.uniform(-0.05, 0.05, (1, 2, 3))
    cameras = len(rig.cameras)
    seen = Detections(
        np.ones((1, cameras)),
        np.zeros((1, cameras, 468, 2)),
        np.ones((1, cameras, 2)),
        np.zeros((1, cameras, 2, 16, 2)),
        np.zeros((1, cameras, 2, 5, 2)),
    )
    for index, camera in enumerate(rig.cameras):
        seen.points[0, index, list(IBUG)] = camera.project(points[0])[0]
        seen.irises[0, index, :, 0] = camera.project(irises[0])[0]
    found = triangulate_face(rig, seen, 0.008)
    fixed = [index for index in range(len(IBUG)) if index not in {i for p in LIDS for q in p for i in q}]
    np.testing.assert_allclose(found.points[:, fixed], points[:, fixed], atol=1e-6)
    assert np.isnan(found.irises).all()  # no eye was seen wide: a contour without width
    seen.lids[..., 0, 0] = 20  # pixels from corner to corner
    np.testing.assert_allclose(triangulate_face(rig, seen, 0.008).irises, irises, atol=1e-6)


@pytest.mark.skipif(not models.present(), reason=models.BRING)
def test_cameras_on_their_side_find_the_same_head(rig, prior):
    """Today's first pose without points took the head for lying down: 87 degrees off."""
    names = ("220700191", "222200037", "222200047", "222200049")
    cameras = [rig.cameras[rig.index(name)] for name in names]
    pictures = [
        decode_all(CAPTURE / f"sequences/EXP-5-mouth/images/cam_{n}.mp4")[0].to_ndarray(format="rgb24") for n in names
    ]
    # numpy.rot90 takes pixel (x, y) to (y, width - x)
    rolled = [
        replace(
            camera,
            width=camera.height,
            height=camera.width,
            intrinsics=np.array([[0, 1, 0], [-1, 0, camera.width], [0, 0, 1]])
            @ camera.intrinsics
            @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
            camera_from_world=np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
            @ camera.camera_from_world,
        )
        for camera in cameras
    ]
    turned = [np.ascontiguousarray(np.rot90(picture)) for picture in pictures]
    poses = []
    for some, shown in ((cameras, pictures), (rolled, turned)):
        aim = aim_of(Rig(tuple(some)))
        seen = [Watcher(c.project(aim)[0]).look(picture) for c, picture in zip(some, shown, strict=True)]
        found = triangulate_face(Rig(tuple(some)), as_detections(seen), 0.008)
        poses.append(pose_from_landmarks(prior, np.zeros(prior.config.identity_modes), found.points[0]))
    apart = pose.motion_between(*poses)
    assert np.degrees(np.linalg.norm(apart[:3])) < 3
    assert np.linalg.norm(apart[3:]) / 4 < 0.005


def as_detections(seen: list[Seen]) -> Detections:
    score, points, lids, irises = (
        np.nan_to_num(np.stack([getattr(one, name) for one in seen]))[None]
        for name in ("score", "points", "lids", "irises")
    )
    return Detections(score, points, (irises != 0).any((-1, -2)), lids, irises)


@dataclass(frozen=True)
class Steps:
    """Frames in memory, as the stages read them from clouds."""

    sequence: str
    frames: list[Frame]
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, step: int) -> Frame:
        return replace(self.frames[step], landmarks=self.landmarks[step])

    def with_landmarks(self, landmarks: np.ndarray) -> "Steps":
        return replace(self, landmarks=landmarks)


@pytest.mark.parametrize("fault", ["none", "half size", "normalised", "swapped"])
def test_landmarks_that_lie_off_the_head_are_left_out_aloud(rig, caplog, fault):
    rng = np.random.default_rng(0)
    aim = aim_of(rig)
    directions = rng.normal(size=(4000, 3))
    head = aim + 0.1 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    alpha = np.zeros((len(rig.cameras), rig.cameras[0].height, rig.cameras[0].width), np.uint8)
    for cover, camera in zip(alpha, rig.cameras, strict=True):
        column, row = camera.project(head)[0].astype(int).T
        cover[np.clip(row, 0, camera.height - 1), np.clip(column, 0, camera.width - 1)] = 255
        cover[:] = 255 * (np.lib.stride_tricks.sliding_window_view(np.pad(cover, 8), (17, 17)).max((2, 3)) > 0)
    front = np.mean([camera.centre - aim for camera in rig.cameras], 0)
    landmarks = head[(head - aim) @ front > 0.07 * np.linalg.norm(front)][:51]
    seen = np.stack([camera.project(landmarks)[0] for camera in rig.cameras])[None]
    wrong = {
        "none": seen,
        "half size": seen / 2,
        "normalised": seen / [rig.cameras[0].width, rig.cameras[0].height],
        "swapped": seen[..., ::-1],
    }[fault]
    points, _ = triangulate(rig, np.concatenate([wrong, np.ones_like(wrong[..., :1])], -1), 0.008)
    steps = Steps("A", [Frame("A", 0, head, directions, alpha)], points)
    known = np.isfinite(believed(steps, rig).landmarks).any()
    assert known == (fault == "none")
    if np.isfinite(points).any() and fault != "none":
        assert "A: landmarks lie" in caplog.text


@pytest.mark.skipif(not models.present(), reason=models.BRING)
def test_stages_find_the_face_and_its_points(rig, tmp_path):
    videos = [CAPTURE / f"sequences/EXP-5-mouth/images/cam_{name}.mp4" for name in rig.names]
    rgb = np.stack([decode_all(video)[0].to_ndarray(format="rgb24") for video in videos])[None]
    write_rig(tmp_path / "cameras.json", rig)
    span = {"subject": "901", "sequence": "EXP-5-mouth", "start": 0, "stop": 1}
    write_chunk(
        tmp_path / "frames.zarr.zip",
        {"rgb": Array(rgb, ("time", "camera", "row", "column", "channel"), "sRGB", "")},
        span,
    )
    cameras = ["--cameras", tmp_path / "cameras.json"]
    given = [word for key, value in span.items() for word in (f"--{key}", str(value))]
    detections, output = tmp_path / "detections.zarr.zip", tmp_path / "points.zarr.zip"
    frames = ["--frames", str(tmp_path / "frames.zarr.zip"), "--output", str(detections)]
    in_process.run_well("stages.detect", *cameras, *given, *frames, cwd=ROOT)
    score, eyes = read_arrays(detections, "score", "eyes")
    assert (score > 0.9).all()
    assert eyes.mean() > 0.7
    given = ["--subject", "901", "--sequence", "EXP-5-mouth", "--detections", str(detections), "--output", str(output)]
    in_process.run_well("stages.triangulate", *cameras, *given, *frames[:2], cwd=ROOT)
    points, views, irises = read_arrays(output, "points", "views", "irises")
    assert (views > 1).all()
    between = np.linalg.norm(irises[0, 0] - irises[0, 1])
    assert 0.055 < between < 0.075  # the demo's pupils are 64 mm apart
    assert seen_gaps(points).min() > 0.004


def test_lids_shut_where_no_derivative_says_how(prior):
    """The shipped prior's lids do not move at all near rest, nor beside codes below zero; so blinks stayed open."""
    basis, mean = (part.double().numpy() for part in (prior.expression.basis, prior.expression.mean))
    code = np.full(mean.shape, -0.03)
    start = Heads(np.zeros(prior.config.identity_modes), np.linalg.solve(basis, code - mean)[None], METRES[None])
    places = canonical_landmarks(prior, start.identity)[0]
    still = places / 4
    still[[index for pairs in LIDS for pair in pairs for index in pair]] = np.nan
    samples = Samples(np.full((1, 1, 3), 9.0), np.ones((1, 1, 3)), still[None], np.full((1, 4), 0.003))
    usual = usual_slopes(prior, start.identity, start.head_from_world)
    fitted = shut_lids(prior, start, samples, Schedule(8, 1.5, 8, 1, lid_mm=0.5), usual)
    found = find_gaps(prior, fitted.identity, codes(prior, fitted), places).length / 4
    assert find_gaps(prior, start.identity, codes(prior, start), places).length.min() / 4 > 0.007
    np.testing.assert_allclose(found, 0.003, atol=1e-3)
    assert codes(prior, fitted).min() > -0.05  # as far as what the networks were trained on reaches
    unknown = replace(samples, gaps=np.full((1, 4), np.nan))
    assert shut_lids(prior, start, unknown, Schedule(8, 1.5, 8, 1), usual) is start


def test_lids_beyond_a_hill_of_the_energy_are_found(prior):
    """Full first steps ended 5.9 mm off, where lids no longer move; the face's stiffness holds them 1.9 mm off."""
    basis, mean = (part.double().numpy() for part in (prior.expression.basis, prior.expression.mean))
    code = np.full(mean.shape, -0.1)
    code[14:16] = 0, 0.15  # the left and the right eye's blink
    start = Heads(np.zeros(prior.config.identity_modes), np.linalg.solve(basis, code - mean)[None], METRES[None])
    gaps = np.array([[0.003, 0.003, 0.002, 0.002]])
    usual = usual_slopes(prior, start.identity, start.head_from_world)
    found = move_lids(prior, start, gaps, 25 * np.eye(len(mean)), 0.7, usual)
    off = gap_rows(prior, found, gaps, False)[0][0] / 4
    assert np.sqrt(np.mean(off**2)) < 0.003


def test_a_stiff_face_does_not_hold_lids_where_they_do_not_move(prior):
    """They stayed 5.4 mm off while a step back to the codes that the prior knows counted as a change of the face."""
    basis, mean = (part.double().numpy() for part in (prior.expression.basis, prior.expression.mean))
    expression = np.linalg.solve(basis, np.full(mean.shape, -0.1) - mean)
    start = Heads(np.zeros(prior.config.identity_modes), expression[None], METRES[None])
    usual = usual_slopes(prior, start.identity, start.head_from_world)
    found = move_lids(prior, start, np.full((1, 4), 0.003), 25 * np.eye(len(mean)), 0.7, usual)
    off = gap_rows(prior, found, np.full((1, 4), 0.003), False)[0][0] / 4
    assert np.sqrt(np.mean(off**2)) < 0.002


def test_codes_below_what_the_prior_knows_cost_with_exact_derivatives():
    exact = load_prior(ROOT / "pipeline/head/weights/head_prior.safetensors").double()
    heads = heads_of(exact, 3)
    residual, _, frame, _ = code_rows(exact, heads, False)
    below = exact.z_exp_from(torch.as_tensor(heads.expression)).numpy()
    np.testing.assert_allclose(residual, np.minimum(below, 0), atol=1e-12)
    step = np.zeros(frame.shape[::2])
    step[:, pose.POSE + 5] = 1e-6
    there = (code_rows(exact, heads.moved(step, None), False)[0] - residual) / 1e-6
    np.testing.assert_allclose(frame[..., pose.POSE + 5], there, atol=1e-6)
    samples = Samples(np.zeros((2, 1, 3)), np.ones((2, 1, 3)), np.zeros((2, 0, 3)), np.full((2, 4), 0.005))
    linear = linearise(exact, heads, samples, False)
    assert (linear.codes, linear.gaps) == (exact.config.z_exp, 4)
    np.testing.assert_array_equal(linear.residual[:, -4 - linear.codes : -4], residual)
