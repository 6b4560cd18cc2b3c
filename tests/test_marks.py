"""Landmarks and eyeballs carried to another prior: the shipped one as a stranger, whose own ones are known."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.marks import cut, stripped
from pipeline.errors import DataError
from pipeline.head.fit.eyes import PITCH_SLOPE, YAW_SLOPE, gaze_directions, gaze_of, lids_of
from pipeline.head.fit.least_squares.lids import find_gaps
from pipeline.head.fit.least_squares.residuals import Heads, Samples, canonical_landmarks
from pipeline.head.fit.least_squares.solver import Free, Schedule, levenberg
from pipeline.head.fit.unit import metres_per_unit
from pipeline.head.marks import Face, lay_on, mean_face
from pipeline.head.model import pose
from pipeline.head.model.prior import HeadPrior, load_prior, numbers, save_prior
from tests import in_process
from tests.fit_data import SCALE, WEIGHTS, cloud, facing_pose, posed_landmarks, random_prior, rig_in_front

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = 48  # fewer than the shipped prior has
JAW_OPEN = 30  # of z_exp
MM = 1e3 / SCALE


@pytest.fixture(scope="module")
def truth() -> HeadPrior:
    """The shipped networks with the widest identity weights alone, a rest with an open mouth, no bound of the codes."""
    result = cut(load_prior(WEIGHTS), MODES)
    result.neutral[JAW_OPEN] = 0.3
    result.config = result.config.model_copy(update={"least_code": None})
    return result


@pytest.fixture(scope="module")
def stranger(truth: HeadPrior) -> HeadPrior:
    """The same without landmarks and eyeballs."""
    return stripped(truth)


@pytest.fixture(scope="module")
def files(stranger: HeadPrior, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The stranger, and what the command makes of it."""
    folder = tmp_path_factory.mktemp("marks")
    save_prior(stranger, folder / "in.safetensors")
    in_process.run_well("head.marks", "in.safetensors", "out.safetensors", cwd=folder)
    return folder / "in.safetensors", folder / "out.safetensors"


@pytest.fixture(scope="module")
def face(stranger: HeadPrior) -> Face:
    return mean_face(stranger)


@pytest.fixture(scope="module")
def carried(files: tuple[Path, Path]) -> HeadPrior:
    return load_prior(files[1])


def test_landmarks_and_eyeballs_lie_where_they_really_are(truth, carried):
    weights = torch.randn((200, MODES), generator=torch.Generator().manual_seed(0))
    weights[0] = 0  # the mean head

    def off_mm(found: torch.Tensor, true: torch.Tensor) -> np.ndarray:
        return MM * numbers((found - true).norm(dim=-1)).mean(-1)

    landmarks = off_mm(carried.landmarks_from(weights), truth.landmarks_from(weights))
    still = off_mm(carried.landmarks_from(0 * weights), truth.landmarks_from(weights))
    eyes = off_mm(carried.eyes_from(weights), truth.eyes_from(weights))
    assert landmarks[0] < 0.2
    assert eyes[0] < 0.2
    assert landmarks[1:].mean() < 0.4
    assert landmarks[1:].mean() < 0.15 * still[1:].mean()
    assert eyes[1:].mean() < 0.4
    assert torch.equal(carried.eye_radius, truth.eye_radius)


def test_nothing_else_changes(files, carried):
    before, after = (load_file(path) for path in files)
    marks = {f"{name}.{part}" for name in ("landmarks", "eyes") for part in ("mean", "basis")} | {"eye_radius"}
    assert after.keys() - before.keys() == marks
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert carried.config.least_code is None  # the shipped prior's bound is none of this one's
    assert (carried.config.landmarks, carried.config.eyes) == (51, 2)


def test_a_fit_finds_lids_and_gaze_with_them(truth, carried):
    """A head of the stranger, its eyes half shut and looking aside, from 400 points, landmarks and gaps."""
    rng = np.random.default_rng(1)
    identity = 0.7 * rng.normal(size=MODES)
    expression = 0.5 * rng.normal(size=(1, truth.config.expression_modes))
    true = Heads(identity, expression, facing_pose()[None])
    landmarks = posed_landmarks(truth, true)
    code = numbers(truth.z_exp_from(truth.tensor(expression)))
    gaps = find_gaps(truth, identity, code, canonical_landmarks(truth, identity)[0]).length / SCALE
    points, normals = cloud(truth, identity, expression[0], facing_pose(), 400, 0, noise_mm=0.5)
    start = Heads(identity, 0 * expression, pose.moved(true.head_from_world, np.full((1, 6), 0.02)))
    samples = Samples(points[None], normals[None], landmarks, gaps)
    fitted, _ = levenberg(carried, start, samples, Schedule(15, 2, 10, 400, lid_mm=0.5), Free())
    found = numbers(carried.z_exp_from(carried.tensor(fitted.expression)))
    apart = lids_of(carried, identity, found, fitted.head_from_world)
    np.testing.assert_allclose(apart[0], 1e3 * gaps.reshape(2, 2).mean(-1), atol=0.7)

    looks = np.tile([0.3, -0.1], (1, 2, 1))
    centres = numbers(truth.eyes_from(truth.tensor(identity)))
    irises = (centres + 0.045 * gaze_directions(looks * [YAW_SLOPE, PITCH_SLOPE])) / SCALE
    wide = np.full((1, 2), 9.0)
    gaze = gaze_of(carried, identity, fitted.head_from_world, irises, landmarks, wide)
    assert np.degrees(np.abs(gaze - looks)).max() < 3


def test_a_space_that_lies_two_centimetres_off_is_met(face):
    off = np.array([0, 0.08, 0.02])
    heads, _ = lay_on(load_prior(WEIGHTS), Face(face.points + off, face.normals, face.outwards))
    np.testing.assert_allclose(heads.head_from_world[0, :3, 3], -off, atol=0.005)


def nowhere(prior: HeadPrior) -> HeadPrior:
    """The prior with its surface gone: every distance is a metre more."""
    result = deepcopy(prior)
    result.ensemble.biases[-1] += SCALE
    return result


def test_what_has_no_face_there_is_refused(files, tmp_path, stranger, face):
    save_prior(random_prior().float(), tmp_path / "random.safetensors")
    done = in_process.run("head.marks", "random.safetensors", "out.safetensors", cwd=tmp_path)
    assert done.returncode == 1
    assert "random.safetensors: the mean head's surface at rest is no face; expected one" in done.stderr
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(DataError, match=r"^0 points of the mean head's surface at rest lie where faces are"):
        mean_face(nowhere(stranger))
    flat = Face(face.points * [1, 1, 0] + [0, 0, 0.3], 0 * face.normals + [0, 0, 1.0], face.outwards)
    with pytest.raises(DataError, match=r"the shipped prior's head meets [0-9]+% of the mean head's face at rest"):
        lay_on(load_prior(WEIGHTS), flat)
    done = in_process.run("head.marks", files[1], tmp_path / "out.safetensors")
    assert "out.safetensors: it has 51 landmarks and 2 eyeballs; expected none" in done.stderr


def test_the_size_of_a_head_needs_landmarks(stranger):
    with pytest.raises(DataError, match=r"python -m pipeline\.head\.marks"):
        metres_per_unit(stranger, rig_in_front(np.eye(4)), [], None)
