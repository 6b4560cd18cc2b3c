"""Fitting: derivatives, solvers against dense references, alignment, robustness, the two stages."""

import itertools
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fit_capture import head_mesh, silhouettes, write_landmarks, write_spans
from fit_data import SCALE, WEIGHTS, cloud, facing_pose, posed_landmarks, random_prior, rig_in_front
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.cameras.rig import write_rig
from pipeline.errors import DataError
from pipeline.head.fit.alignment import first_head
from pipeline.head.fit.clouds import Clouds, Frame, by_sequence
from pipeline.head.fit.fitter import Fitter, face_median_mm, fit_beside, follow, spread, together
from pipeline.head.fit.free_space import believed, distance_outside, free_points
from pipeline.head.fit.least_squares.adam import adam
from pipeline.head.fit.least_squares.residuals import Heads, Samples, draw, join, linearise
from pipeline.head.fit.least_squares.solver import (
    Free,
    Schedule,
    kernel,
    kernel_weight,
    levenberg,
    millimetres,
    smooth_step,
    solve_step,
)
from pipeline.head.fit.sequence import energies, equations
from pipeline.head.model import pose
from pipeline.head.model.identity import read_identity
from pipeline.head.model.prior import HeadPrior, load_prior
from pipeline.head.model.regions import ELLIPSES, region
from pipeline.store.chunk import read_arrays, read_attributes
from tests import in_process

pytestmark = pytest.mark.usefixtures("one_thread")

numbers = st.floats(-0.5, 0.5)
motions = st.lists(numbers, min_size=6, max_size=6).map(np.array)


@pytest.fixture(scope="module")
def prior() -> HeadPrior:
    return load_prior(WEIGHTS)


@pytest.fixture(scope="module")
def tiny() -> HeadPrior:
    return random_prior()


@given(motions, motions)
def test_motion_between_undoes_moved(first, second):
    before = pose.moved(facing_pose(), first)
    after = pose.moved(before, second)
    np.testing.assert_allclose(pose.motion_between(before, after), second, atol=1e-9)
    assert pose.scale_of(after) == pytest.approx(SCALE)


@given(motions)
def test_similarity_is_made_again_from_centre_up_and_front(motion):
    expected = pose.moved(facing_pose(), motion)
    np.testing.assert_allclose(pose.similarity(*pose.centre_up_front(expected), SCALE), expected, atol=1e-9)


@given(st.floats(-5, 5), st.floats(0.1, 3))
def test_kernel_weight_is_the_kernels_slope_by_the_squared_residual(residual, width):
    square = residual**2 + 1e-3
    slope = (kernel(np.sqrt(square + 1e-5), width) - kernel(np.sqrt(square - 1e-5), width)) / 2e-5
    assert kernel_weight(np.sqrt(square), width) == pytest.approx(slope, rel=1e-3, abs=1e-6)
    assert kernel(residual, width) <= width**2


def test_derivatives_match_finite_differences(tiny):
    rng = np.random.default_rng(0)
    poses = pose.moved(np.broadcast_to(facing_pose(), (2, 4, 4)), 0.1 * rng.normal(size=(2, 6)))
    heads = Heads(rng.normal(size=5), rng.normal(size=(2, 4)), poses)
    samples = Samples(rng.uniform(-0.1, 0.1, (2, 30, 3)), rng.normal(size=(2, 30, 3)), np.zeros((2, 0, 3)))
    samples = samples.with_free(rng.uniform(-0.1, 0.1, (2, 30, 3)))
    linear = linearise(tiny, heads, samples, with_shared=True)
    assert 0.1 < (linear.residual[:, 30:] == 0).mean() < 0.9

    def slope(frame_step: np.ndarray, shared_step: np.ndarray) -> np.ndarray:
        ahead, behind = (
            linearise(tiny, heads.moved(sign * frame_step, sign * shared_step), samples, False).residual
            for sign in (1e-5, -1e-5)
        )
        return (ahead - behind) / 2e-5

    for k in range(10):
        found = slope(np.eye(10)[[k, k]], np.zeros(5))
        np.testing.assert_allclose(linear.frame[..., k], found, atol=1e-6, err_msg=f"frame unknown {k}")
    for k in range(5):
        found = slope(np.zeros((2, 10)), np.eye(5)[k])
        np.testing.assert_allclose(linear.shared[..., k], found, atol=1e-6, err_msg=f"shared unknown {k}")


def _positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    root = rng.normal(size=shape)
    return root @ np.swapaxes(root, -1, -2) + 3 * np.eye(shape[-1])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_schur_complement_solves_the_whole_system(seed):
    rng = np.random.default_rng(seed)
    frames, n, m = 3, 4, 5
    whole = _positive(rng, frames * n + m, frames * n + m)
    right = rng.normal(size=len(whole))
    for i in range(frames):  # frames do not meet
        for j in range(frames):
            if i != j:
                whole[i * n : i * n + n, j * n : j * n + n] = 0
    whole += 20 * np.eye(len(whole))
    cut = frames * n
    blocks = [slice(i * n, i * n + n) for i in range(frames)]
    equations = (
        np.stack([whole[b, b] for b in blocks]),
        right[:cut].reshape(frames, n),
        np.stack([whole[b, cut:] for b in blocks]),
        whole[cut:, cut:],
        right[cut:],
    )
    frame_step, shared_step = solve_step(equations, np.zeros(frames))
    np.testing.assert_allclose(np.r_[frame_step.ravel(), shared_step], np.linalg.solve(whole, right), atol=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 7))
def test_banded_smoothing_solves_the_dense_system(seed, frames):
    rng = np.random.default_rng(seed)
    n = 8
    matrix, right = _positive(rng, frames, n, n), rng.normal(size=(frames, n))
    stiffness = rng.uniform(0, 100, n)
    poses = np.stack([pose.moved(facing_pose(), 0.02 * rng.normal(size=6)) for _ in range(frames)])
    heads = Heads(np.zeros(1), rng.normal(size=(frames, n - 6)), poses)
    step = smooth_step(matrix, right, heads, stiffness)

    turns = [np.zeros(6)] + [pose.motion_between(a, b) for a, b in itertools.pairwise(poses)]
    track = np.concatenate([np.cumsum(turns, 0), heads.expression], 1)
    second = np.diff(np.eye(frames), n=2, axis=0) if frames > 2 else np.zeros((0, frames))
    penalty = np.kron(second.T @ second, np.diag(stiffness))
    whole = penalty.copy()
    for t in range(frames):
        whole[t * n : t * n + n, t * n : t * n + n] += matrix[t]
    expected = np.linalg.solve(whole, right.ravel() - penalty @ track.ravel())
    np.testing.assert_allclose(step.ravel(), expected, atol=1e-7)


def _lips(prior: HeadPrior, expression: np.ndarray) -> np.ndarray:
    """Millimetres (F,) from the upper lip's upper edge to the lower lip's lower one under expressions (F, J)."""
    mean = np.zeros(prior.config.identity_modes)
    found = posed_landmarks(prior, Heads(mean, expression, np.repeat(facing_pose()[None], len(expression), 0)))
    return 1e3 * np.linalg.norm(found[:, 51 - 17] - found[:, 57 - 17], axis=-1)


@pytest.fixture(scope="module")
def wide_open_mouth(prior) -> np.ndarray:
    """The expression (J,) three deviations from the mean that parts the lips most, in first order."""
    each = np.eye(prior.config.expression_modes)
    opening = _lips(prior, each) - _lips(prior, -each)
    direction = opening / np.linalg.norm(opening)
    closed, half_open = _lips(prior, np.stack([0 * direction, 1.5 * direction]))  # farther, `_lips` loses the lower lip
    assert half_open > closed + 15
    return 3 * direction


@pytest.mark.parametrize(("seed", "shouting"), [(0, True), (1, False)])
def test_first_head_in_any_world_through_clutter(prior, wide_open_mouth, seed, shouting):
    rng = np.random.default_rng(seed)
    world_from_scene = np.eye(4)
    world_from_scene[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    world_from_scene[:3, 3] = 3 * rng.normal(size=3)
    tilt = np.concatenate([rng.uniform(-0.2, 0.2, 3), SCALE * rng.uniform(-0.04, 0.04, 3)])
    truth = pose.moved(facing_pose(), 0 * tilt if shouting else tilt) @ np.linalg.inv(world_from_scene)
    mean = np.zeros(prior.config.identity_modes)
    expression = wide_open_mouth if shouting else np.zeros(prior.config.expression_modes)
    points, normals = cloud(prior, mean, expression, truth, 2000, seed, noise_mm=1.0, clutter=0.2)
    frame = Frame("any", 0, points, normals, np.zeros((9, 0, 0), np.uint8))
    found = first_head(prior, rig_in_front(world_from_scene), mean, frame, seed=0)
    error = pose.motion_between(truth, found.head_from_world[0])
    assert np.degrees(np.linalg.norm(error[:3])) < 3
    assert np.linalg.norm(error[3:]) / SCALE < 5e-3


@pytest.fixture(scope="module")
def expressive(prior) -> tuple[Heads, Samples]:
    """A head with an expression, and 600 points of it with a fifth of clutter."""
    rng = np.random.default_rng(5)
    expression = 0.7 * rng.normal(size=(1, prior.config.expression_modes))
    truth = Heads(np.zeros(prior.config.identity_modes), expression, facing_pose()[None])
    points, normals = cloud(prior, truth.identity, expression[0], facing_pose(), 1500, 5, noise_mm=0.5, clutter=0.2)
    return truth, draw(points, normals, facing_pose(), prior, 600, seed=0)


def _started(truth: Heads) -> Heads:
    motion = np.array([[0.05, -0.05, 0.03, 0.02, -0.02, 0.02]])
    return Heads(truth.identity, np.zeros_like(truth.expression), pose.moved(truth.head_from_world, motion))


def test_levenberg_finds_the_surface_through_clutter_as_well_as_adam(prior, expressive):
    truth, samples = expressive
    points, normals = cloud(prior, truth.identity, truth.expression[0], facing_pose(), 100, 6)
    samples = samples.with_free((points + 0.008 * normals)[None])
    schedule = Schedule(widest=15, narrowest=2.5, steps=10, worth=400)
    clean = linearise(prior, truth, samples, False).distance
    good = np.abs(clean) < 2 * 4e-3  # points within 2 mm of the true surface

    def distance_mm(heads: Heads) -> float:
        return float(np.abs(linearise(prior, heads, samples, False).distance[good]).mean() * 1e3 / SCALE)

    solved, _ = levenberg(prior, _started(truth), samples, schedule, Free())
    descended = adam(prior, _started(truth), samples, schedule, steps=100, rate=0.05)
    assert distance_mm(_started(truth)) > 2
    assert distance_mm(solved) < 0.7
    assert distance_mm(solved) < 1.1 * distance_mm(descended)
    error = pose.motion_between(truth.head_from_world, solved.head_from_world)[0]
    assert np.degrees(np.linalg.norm(error[:3])) < 2
    assert np.linalg.norm(error[3:]) / SCALE < 4e-3


def test_points_whose_normals_contradict_the_surface_do_not_pull(prior, expressive):
    truth, samples = expressive
    turned = replace(samples, normals=-samples.normals)
    there = slice(0, samples.points.shape[1])  # rows of codes follow
    assert linearise(prior, truth, turned, False).agreement[:, there].mean() < 0.1
    assert linearise(prior, truth, samples, False).agreement[:, there].mean() > 0.6


def test_points_in_free_space_weigh_nothing_until_the_head_reaches_them(prior, expressive):
    truth, samples = expressive
    middle, far = np.zeros((1, 1, 3)), np.full((1, 1, 3), 0.149)  # the head's origin; a corner of the prior's box
    linear = linearise(prior, truth, samples.with_free(np.concatenate([middle, far], 1)), True)
    assert linear.distance.shape == samples.points.shape[:2]
    last = linear.points - 1  # rows of codes follow
    assert linear.residual[0, last - 1] < -0.1
    assert linear.residual[0, last] == 0
    assert not linear.frame[0, last].any()
    assert not linear.shared[0, last].any()
    np.testing.assert_allclose(linear.distance, linearise(prior, truth, samples, False).distance, atol=1e-6)


def test_distance_outside_a_silhouette():
    rig = rig_in_front(np.eye(4))
    alpha = np.full((9, 384, 256), 255, np.uint8)
    points = np.array([[0.0, 0, 0], [0.03, 0, 0], [0.06, 0, 0], [5, 0, 0]])
    assert not distance_outside(rig, alpha, points).any()
    alpha[4, :, 136:] = 0  # the middle camera, 1 m away: what is 8 pixels of 2 mm left of the axis is outside
    np.testing.assert_allclose(distance_outside(rig, alpha, points), [0, 0.016, 0.046, 0], atol=2e-3)
    with pytest.raises(DataError, match=r"cameras\.json expects"):
        distance_outside(rig, alpha[:5], points)


def test_a_silhouette_that_denies_the_cloud_has_no_say():
    rig = rig_in_front(np.eye(4))
    alpha = np.full((9, 384, 256), 255, np.uint8)
    alpha[4, :, 136:] = 0
    points = np.stack([np.linspace(-0.05, 0.05, 200), np.zeros(200), np.zeros(200)], -1)  # a third of them is denied
    assert (believed(rig, alpha, points)[4] == 255).all()
    assert not alpha[4, :, 136:].any()
    np.testing.assert_array_equal(believed(rig, alpha, points[points[:, 0] < 0.01]), alpha)


def test_points_outside_the_silhouettes_push_a_bulge_in(prior):
    """The face of a head that is smaller behind than the mean head: only the silhouettes can tell."""
    rig, neutral = rig_in_front(np.eye(4)), np.zeros(prior.config.expression_modes)
    identity = np.random.default_rng(7).normal(size=prior.config.identity_modes)
    truth = Heads(identity, neutral[None], facing_pose()[None])
    alpha = silhouettes(rig, head_mesh(prior, truth, 0))
    points, normals = cloud(prior, identity, neutral, facing_pose(), 3000, 2, noise_mm=0.3)
    face = normals[:, 2] > 0.7
    start = replace(truth, identity=np.zeros_like(identity))
    surface = draw(points[face], normals[face], facing_pose(), prior, 300, seed=0)
    samples = surface.with_free(free_points(prior, rig, alpha, points, start, 300, seed=0)[None])
    schedule = Schedule(widest=20, narrowest=4, steps=8, worth=100)
    stray = []
    for measured in (surface, samples):
        heads, linear = levenberg(prior, start, measured, schedule, Free(identity=True))
        assert np.median(millimetres(heads, linear)) < 1
        away = distance_outside(rig, alpha, head_mesh(prior, heads, 0).vertices)
        stray.append((away > 4e-3).mean())
    assert stray[0] > 0.1
    assert stray[1] < 0.03


@given(st.integers(0, 1000), st.integers(1, 4))
def test_spread_covers_all_rows_nearly_as_well_as_the_best_choice(seed, count):
    rows = np.random.default_rng(seed).normal(size=(7, 2))

    def radius(chosen: np.ndarray | tuple[int, ...]) -> float:
        return np.linalg.norm(rows[:, None] - rows[list(chosen)], axis=-1).min(1).max()

    chosen = spread(rows, count)
    assert len(set(chosen)) == count
    assert np.argmin(np.linalg.norm(rows, axis=1)) in chosen
    assert radius(chosen) <= 2 * min(radius(some) for some in itertools.combinations(range(7), count)) + 1e-9


def test_a_fit_is_judged_by_the_face_and_not_by_the_hair(prior):
    mean, neutral = np.zeros(prior.config.identity_modes), np.zeros(prior.config.expression_modes)
    points, normals = cloud(prior, mean, neutral, facing_pose(), 1500, 0, 0.3)
    in_head = pose.apply(facing_pose(), points)
    hair = ~((in_head[:, 2] > 0.1) & (in_head[:, 1] < 0.3))
    assert 0.5 < hair.mean() < 0.95
    points[hair] += 0.02 * normals[hair]  # hair of two centimetres
    heads = Heads(mean, neutral[None], facing_pose()[None])
    samples = Samples(points[None], normals[None], np.zeros((1, 0, 3)))
    linear = linearise(prior, heads, samples, False)
    assert np.median(millimetres(heads, linear)) > 10
    assert face_median_mm(heads, samples, linear)[0] < 1
    behind = Samples(points[hair][None], normals[hair][None], np.zeros((1, 0, 3)))  # no face at all: all points count
    assert face_median_mm(heads, behind, linearise(prior, heads, behind, False))[0] > 10


def test_a_head_that_is_lost_is_sought_anew(prior):
    jump = pose.moved(facing_pose(), np.array([0, 0.6, 0, 0.25, 0, 0]))
    mean, neutral = np.zeros(prior.config.identity_modes), np.zeros(prior.config.expression_modes)
    fitter = Fitter(prior, rig_in_front(np.eye(4)), Schedule(8, 2.5, 4, 500), 300, 1, 0, 2.5, 0)
    points, normals = cloud(prior, mean, neutral, jump, 1000, 0, 0.3)
    frame = Frame("jump", 1, points, normals, np.full((9, 384, 256), 255, np.uint8))
    (tracked,) = follow(fitter, mean, [frame], Heads(mean, neutral[None], facing_pose()[None]))
    error = pose.motion_between(jump, tracked.heads.head_from_world[0])
    assert np.degrees(np.linalg.norm(error[:3])) < 3
    assert tracked.median_mm < 1.5


def test_frames_beside_each_other_are_fitted_as_one_by_one(prior):
    mean = np.zeros(prior.config.identity_modes)
    rng, rig = np.random.default_rng(2), rig_in_front(np.eye(4))
    expressions = 0.3 * rng.normal(size=(3, prior.config.expression_modes))
    poses = [pose.moved(facing_pose(), 0.01 * t * np.ones(6)) for t in range(3)]
    clouds = [cloud(prior, mean, expressions[t], poses[t], 1000, t, 0.3) for t in range(3)]
    frames = [Frame("nod", t, *clouds[t], np.full((9, 384, 256), 255, np.uint8)) for t in range(3)]
    starts = [Heads(mean, np.zeros((1, len(expressions[0]))), facing_pose()[None]) for _ in range(3)]
    fitter = Fitter(prior, rig, Schedule(8, 2.5, 4, 500), 300, 1, 50, 10, 0)
    singly = [fit_beside(fitter, mean, [frame], [start])[0] for frame, start in zip(frames, starts, strict=True)]
    beside = fit_beside(fitter, mean, frames, starts)
    for one, other in zip(singly, beside, strict=True):
        assert one.median_mm == pytest.approx(other.median_mm, abs=0.01)
        placed = [pose.apply(tracked.heads.head_from_world, frames[0].points) for tracked in (one, other)]
        off = np.linalg.norm(placed[0] - placed[1], axis=-1).max() / pose.scale_of(facing_pose()[None])[0]
        assert off < 1e-5  # metres
        np.testing.assert_allclose(one.heads.expression, other.heads.expression, atol=1e-3)
    assert not np.allclose(beside[0].heads.expression, beside[1].heads.expression, atol=0.1)
    samples, heads = join([one.samples for one in beside]), together([one.heads for one in beside])
    for measure in (energies, lambda *asked: equations(*asked)[0], lambda *asked: equations(*asked)[1]):
        whole, parts = (measure(fitter, size, (heads, samples)) for size in (3, 1))
        np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-4 * np.abs(parts).max())


@pytest.fixture(scope="module")
def footage(prior, tmp_path_factory) -> dict:
    """A rig file and a sequence of four steps, once as one span and once as two; one with an empty cloud, one where the
    second cloud is no head, and the first step alone; landmarks of all steps, and of the first one and two."""
    folder = tmp_path_factory.mktemp("footage")
    rng, rig = np.random.default_rng(1), rig_in_front(np.eye(4))
    mean, expression = np.zeros(prior.config.identity_modes), 0.5 * rng.normal(size=prior.config.expression_modes)
    poses = [pose.moved(facing_pose(), 0.01 * t * np.ones(6)) for t in range(4)]
    truth = Heads(mean, 0.3 * np.arange(4)[:, None] * expression, np.stack(poses))
    clouds = [cloud(prior, mean, truth.expression[t], poses[t], 1000, t, 0.3) for t in range(4)]
    frames = [Frame("nod", t, *clouds[t], silhouettes(rig, head_mesh(prior, truth, t, voxel_mm=10))) for t in range(4)]
    empty = replace(frames[1], points=np.zeros((0, 3)), normals=np.zeros((0, 3)))
    junk = replace(frames[1], points=rng.uniform(-0.12, 0.12, (1000, 3)))
    write_rig(folder / "cameras.json", rig)
    landmarks = posed_landmarks(prior, truth)
    return {
        "cameras": folder / "cameras.json",
        "whole": [write_spans(folder / "whole", frames)],
        "halves": [write_spans(folder / "halves", frames[start : start + 2]) for start in (0, 2)],
        "empty": [write_spans(folder / "empty", [frames[0], empty])],
        "junk": [write_spans(folder / "junk", [frames[0], junk])],
        "one": [write_spans(folder / "one", frames[:1])],
        "landmarks": write_landmarks(folder / "landmarks.zarr.zip", "nod", landmarks),
        "one_landmarks": write_landmarks(folder / "one_landmarks.zarr.zip", "nod", landmarks[:1]),
        "two_landmarks": write_landmarks(folder / "two_landmarks.zarr.zip", "nod", landmarks[:2]),
        "poses": poses,
    }


def _stage(name: str, settings: dict, footage: dict, which: str, *arguments: object) -> subprocess.CompletedProcess:
    clouds, frames = zip(*footage[which], strict=True)
    command = ["--settings", json.dumps(settings), "--prior", WEIGHTS, "--cameras", footage["cameras"]]
    return in_process.run(f"stages.{name}", *command, "--clouds", *clouds, "--frames", *frames, *arguments)


def _fit_identity(footage: dict, which: str, output: Path) -> subprocess.CompletedProcess:
    settings = {"key_frames": 2, "points": 300, "free": 100, "steps": 5}
    return _stage("fit_identity", settings, footage, which, "--output", output)


def _fit_sequence(
    footage: dict, which: str, identity: Path, output: Path, *more: object, bad_mm: float = 2.5
) -> subprocess.CompletedProcess:
    settings = {"points": 300, "eye_density": 1, "free": 100, "steps": 4, "window": 2, "bad_mm": bad_mm}
    return _stage(
        "fit_sequence", settings, footage, which,
        "--identity", identity, "--subject", "s", "--sequence", "nod", "--output", output, *more,
    )  # fmt: skip


@pytest.mark.parametrize(("sizes", "passes"), [((150, 20, 10_000), True), ((149, 20, 10_000), False)])
def test_clouds_too_thin_for_a_head_are_refused_where_most_are(tmp_path, sizes, passes):
    """As cameras of another size give them: whole trainings went on from such clouds."""
    alpha = np.full((1, 4, 4), 255, np.uint8)
    frames = [Frame("nod", step, np.ones((size, 3)), np.ones((size, 3)), alpha) for step, size in enumerate(sizes)]
    (clouds,) = by_sequence(*([path] for path in write_spans(tmp_path, frames)))
    if passes:
        clouds.require_plausible()
        return
    with pytest.raises(DataError, match="2 of 3 clouds of nod hold less than 150 points"):
        clouds.require_plausible()


def test_stages_fit_a_sequence_and_do_not_care_for_spans_or_workers(footage, tmp_path):
    done = _fit_identity(footage, "halves", tmp_path / "identity.safetensors")
    assert done.returncode == 0, done.stderr
    identity = read_identity(tmp_path / "identity.safetensors")
    assert identity.key_frames == ("nod:0", "nod:3")  # the neutral face, and the one that differs most
    assert identity.scale == pytest.approx(SCALE)

    tracks = []
    for name, threads in (("whole", 1), ("halves", 2)):
        output = tmp_path / f"{name}.zarr.zip"
        more = "--landmarks", footage["landmarks"], "--threads", threads  # without, the first pose takes seconds
        done = _fit_sequence(footage, name, tmp_path / "identity.safetensors", output, *more)
        assert done.returncode == 0, done.stderr
        assert read_attributes(output)["failed"] == []
        tracks.append(read_arrays(output, "z_exp", "head_from_world", "residual_mm"))
    for first, second in zip(*tracks, strict=True):
        np.testing.assert_array_equal(first, second)
    z_exp, head_from_world, residual_mm = tracks[0]
    assert len(z_exp) == 4
    assert residual_mm.max() < 1.5
    error = pose.motion_between(np.stack(footage["poses"]), head_from_world)
    assert np.degrees(np.linalg.norm(error[:, :3], axis=1)).max() < 3
    truth = np.stack(footage["poses"])
    turned, expected = (pose.motion_between(poses[:-1], poses[1:]) for poses in (head_from_world, truth))
    off = np.linalg.norm(turned - expected, axis=1)  # steps are even; windows meet between steps 1 and 2
    assert off.max() < 0.01  # radians and head units: 0.6 degrees or 2.5 mm
    change = np.linalg.norm(np.diff(z_exp, axis=0), axis=1)
    assert change[1] < 1.5 * max(change[0], change[2])

    arguments = "junk", tmp_path / "identity.safetensors", tmp_path / "junk.zarr.zip"
    done = _fit_sequence(footage, *arguments, "--landmarks", footage["two_landmarks"])
    assert done.returncode == 0, done.stderr
    assert "nod: step 1 has failed" in done.stderr
    assert read_attributes(tmp_path / "junk.zarr.zip")["failed"] == [1]
    (head_from_world,) = read_arrays(tmp_path / "junk.zarr.zip", "head_from_world")
    error = pose.motion_between(truth[1], head_from_world[1])  # but its landmarks tell where the head is
    assert np.degrees(np.linalg.norm(error[:3])) < 3
    assert np.linalg.norm(error[3:]) / SCALE < 5e-3

    nothing = tmp_path / "nothing.zarr.zip"
    done = _fit_sequence(footage, "one", arguments[1], nothing, "--landmarks", footage["one_landmarks"], bad_mm=0.001)
    assert done.returncode == 1
    assert "nod of s: 1 of 1 time steps have failed (cloud and face more than 0.001 mm apart" in done.stderr
    assert not nothing.exists()

    done = _fit_sequence(footage, "whole", *arguments[1:], "--landmarks", footage["two_landmarks"])
    assert done.returncode == 1
    assert "landmarks of 2 steps of nod; expected 4" in done.stderr


def test_an_empty_cloud_is_named_and_nothing_is_written(footage, tmp_path):
    done = _fit_identity(footage, "empty", tmp_path / "identity.safetensors")
    assert done.returncode == 1
    assert "step 1 of nod is empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_clouds_and_frames_of_other_steps_or_sequences_are_refused(footage, tmp_path):
    clouds, frames = (list(paths) for paths in zip(*footage["halves"], strict=True))
    with pytest.raises(DataError, match="frames of 2 steps of nod; expected 4 steps of nod"):
        Clouds(clouds, frames[:1])
    other = Frame("shake", 4, np.ones((1, 3)), np.ones((1, 3)), np.ones((9, 4, 4), np.uint8))
    more_clouds, _ = write_spans(tmp_path, [other])
    with pytest.raises(DataError, match="several sequences"):
        Clouds([*clouds, more_clouds], frames)
    with pytest.raises(DataError, match="shake has clouds or frames only"):
        by_sequence([*clouds, more_clouds], frames)


def test_points_round_the_eyes_are_drawn_as_densely_as_asked(prior):
    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.uniform(-0.3, 0.3, (40_000, 2)), np.full((40_000, 1), 0.3)], 1)  # head units
    world = pose.apply(np.linalg.inv(facing_pose()), plane)

    def share(density: float) -> float:
        drawn = draw(world, np.ones_like(world), facing_pose(), prior, 1000, 0, density).points[0]
        return float(region(torch.from_numpy(pose.apply(facing_pose(), drawn)), "eyes").float().mean())

    even = 2 * np.pi * np.prod(ELLIPSES["eyes"][1]) / 0.6**2  # the area of two ellipses over the plane's
    for density in (1.0, 4.0, 8.0):
        assert share(density) == pytest.approx(density * even / (density * even + 1 - even), abs=0.05)


def test_a_cloud_without_a_head_says_so(prior):
    far = np.full((10, 3), 9.0)
    with pytest.raises(DataError, match="none of 10 cloud points"):
        draw(far, far, facing_pose(), prior, 5, seed=0)
    frame = Frame("far", 0, far, far, np.zeros((9, 0, 0), np.uint8))
    with pytest.raises(DataError, match="none of 10 cloud points lies where the cameras aim"):
        first_head(prior, rig_in_front(np.eye(4)), np.zeros(prior.config.identity_modes), frame, seed=0)


def test_equations_without_a_solution_are_one_line():
    """Of frames that nothing was seen in; of a whole sequence, by smooth_step, with a number that is none."""
    with pytest.raises(DataError, match=r"^the equations of a pose have no solution .*$"):
        solve_step((np.zeros((1, 7, 7)), np.ones((1, 7)), None, None, None), np.ones(1))
    heads = Heads(np.zeros(4), np.zeros((3, 1)), np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(DataError, match=r"^the equations of the whole sequence have no solution .*$"):
        smooth_step(np.full((3, 7, 7), np.nan), np.ones((3, 7)), heads, np.ones(7))
