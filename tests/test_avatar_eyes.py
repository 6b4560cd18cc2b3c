"""What an avatar knows of eyes: numbers, coordinates that turn with the eyeballs, tracks that do not know them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.avatar.data.pictures import eye_poses
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.condition import Buffers
from pipeline.avatar.model.eyes import VISIBLE, EyePose
from pipeline.avatar.model.planes import FeaturePlanes
from pipeline.head.fit.eyes import eyeballs_of, gaze_directions, name_unseen
from pipeline.head.model.prior import load_prior
from pipeline.settings.architecture import Architecture
from tests.avatar_scene import TINY

PRIOR = Path(__file__).parents[1] / "pipeline/head/weights/head_prior.safetensors"
BLINK = 14, 15  # places in its z_exp of eyeBlink, left and right
EYEBALLS = torch.tensor([[0.13, 0.16, 0.2, 0.05], [-0.13, 0.16, 0.2, 0.05]])


def pose_of(gaze: list[list[float]], lids: float = 9.0) -> torch.Tensor:
    return torch.tensor([[*gaze[0], *gaze[1], lids, lids]])


def measured() -> EyePose:
    eyes = EyePose()
    eyes.measure(pose_of([[0.1, 0], [0.1, 0]]), EYEBALLS)
    return eyes


def with_hyper(points: torch.Tensor) -> torch.Tensor:
    return torch.cat([points, torch.zeros(*points.shape[:-1], 2)], -1)


@settings(max_examples=30, deadline=None)
@given(angles=st.lists(st.floats(-0.5, 0.5), min_size=6, max_size=6), depth=st.floats(0.95, 1.04))
def test_a_place_on_an_eyeball_keeps_its_coordinates_however_it_looks(angles, depth):
    yaw, pitch, other_yaw, other_pitch, aside, up = angles
    at_rest = np.array([np.sin(aside), np.sin(up), 0])
    at_rest[2] = np.sqrt(1 - (at_rest**2).sum())
    gaze = [[yaw, pitch], [other_yaw, other_pitch]]
    turned = [Rotation.from_euler("YX", [a, -b]).apply(at_rest) for a, b in gaze]
    points = EYEBALLS[:, :3] + depth * EYEBALLS[:, 3:] * torch.tensor(np.array(turned), dtype=torch.float32)
    found = measured().coordinates(with_hyper(points)[None], pose_of(gaze))[0]
    expected = np.clip(at_rest[:2] / VISIBLE, -1, 1)
    np.testing.assert_allclose(found[0], [(expected[0] + 1) / 2, expected[1], 1], atol=1e-5)
    np.testing.assert_allclose(found[1], [(expected[0] - 1) / 2, expected[1], 1], atol=1e-5)


def test_coordinates_turn_as_the_tracks_gaze_does():
    gaze = np.array([[0.3, -0.2], [0.1, 0.25]])
    irises = EYEBALLS[:, :3] + EYEBALLS[:, 3:] * torch.tensor(gaze_directions(gaze), dtype=torch.float32)
    found = measured().coordinates(with_hyper(irises)[None], pose_of(gaze.tolist()))[0]
    np.testing.assert_allclose(found, [[0.5, 0, 1], [-0.5, 0, 1]], atol=1e-5)


def test_away_from_eyeballs_or_behind_them_or_where_none_is_known_nothing_is_one():
    eyes, still = measured(), pose_of([[0, 0], [0, 0]])
    lid, behind, nose = (EYEBALLS[0, :3] + torch.tensor(off) for off in ([0, 0, 0.061], [0, 0, -0.05], [-0.13, 0, 0.1]))
    points = with_hyper(torch.stack([lid, behind, nose]))[None]
    assert not eyes.coordinates(points, still)[..., 2].any()
    eyes.measure(still, torch.full((2, 4), torch.nan))
    on_one = with_hyper(EYEBALLS[:, :3] + torch.tensor([0, 0, 0.05]))[None]
    assert not eyes.coordinates(on_one, still)[..., 2].any()
    assert measured().coordinates(on_one, still)[..., 2].all()


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_seen_between_open_lids_is_an_eyeball_and_shut_lids_are_none(one_thread, seed):
    prior = load_prior(PRIOR)
    w_id = 0.5 * np.random.default_rng(seed).normal(size=prior.config.identity_modes)
    eyes, still = EyePose(), pose_of([[0, 0], [0, 0]])
    eyes.measure(still, torch.from_numpy(eyeballs_of(prior, w_id)))
    z_id = prior.z_id_from(torch.from_numpy(w_id).float())
    axes = torch.linspace(-0.02, 0.02, 5), torch.linspace(0, 0.012, 4), torch.linspace(0.1, 0, 101)
    rays = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (5, 4, 101, 3) from the front, over the pupil
    surely = {}
    for shut in (False, True):
        code = prior.neutral.clone()
        code[list(BLINK)] = float(shut)
        with torch.no_grad():
            x_can = prior.warp((eyes.eyeballs[:, None, None, None, :3] + rays).reshape(-1, 3), z_id, code)
            inside = (prior.sdf(x_can, z_id) < 0).view(2, 20, 101)
        assert inside.any(-1).all()
        first = x_can.view(2, 20, 101, 5).gather(2, inside.int().argmax(-1)[..., None, None].expand(2, 20, 1, 5))
        surely[shut] = eyes.coordinates(first.view(1, -1, 5), still)[..., 2].mean()
    assert surely[False] > 0.9
    assert surely[True] < 0.1


def test_an_eyeball_before_which_nothing_lies_is_named(one_thread, caplog):
    prior = load_prior(PRIOR)
    w_id = np.zeros(prior.config.identity_modes)
    name_unseen(eyeballs_of(prior, w_id), "SEN")
    assert not caplog.messages
    prior.eyes.mean[3:] += 1  # the right one lies outside the head
    found = eyeballs_of(prior, w_id)
    assert np.isnan(found[:, 3]).tolist() == [False, True]
    name_unseen(found, "SEN")
    (line,) = caplog.messages
    assert line.startswith("SEN: nothing lies ahead of the right eyeball of the head at rest, and so in every step")


def test_an_eyeball_has_the_features_of_its_own_plane_alone():
    planes = FeaturePlanes(8, 3, eyeballs=True)
    points = torch.rand(4, 8) - 0.5
    surely = points[:, 7:] = torch.tensor([0, 0.5, 1, 1])[:, None]
    found = planes(points)
    whole, away = points.clone(), points.clone()
    whole[:, 7], away[:, 7] = 1, 0
    torch.testing.assert_close(found[:, -3:], surely * planes(whole)[:, -3:])
    torch.testing.assert_close(found[:, :-3], (1 - surely) * planes(away)[:, :-3])
    assert not planes(away)[:, -3:].any()
    assert not planes(whole)[:, :-3].any()


@pytest.mark.parametrize("kind", ["turned", "tokens", "none"])
def test_eyes_matter_as_far_as_the_architecture_says(kind):
    torch.manual_seed(0)
    avatar = Avatar(Architecture(**TINY, eyes=kind), code_size=4)
    if avatar.eyes:
        avatar.eyes.measure(pose_of([[0, 0], [0, 0]]), EYEBALLS)
    points = with_hyper(torch.rand(1, 16, 16, 3) * 0.1 + EYEBALLS[0, :3] - 0.05)
    fixed = torch.rand(1, 16, 16), torch.rand(1, 16, 16, 3), points, torch.ones(1, 16, 16, dtype=torch.bool)
    code = torch.rand(1, 4)

    def conditions(eyes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return avatar.conditions(Buffers(*fixed, code, eyes))

    one, other = (conditions(pose_of([[a, 0], [a, 0]])) for a in (0, 0.2))
    assert torch.equal(one[0], other[0]) == (kind != "turned")
    assert torch.equal(one[1], other[1]) == (kind == "none")
    unknown = conditions(torch.full((1, 6), torch.nan))
    if kind != "none":  # as the mean
        mean = conditions(avatar.eyes.mean[None])
        assert torch.equal(unknown[0], mean[0])
        assert torch.equal(unknown[1], mean[1])


def test_what_a_track_does_not_know_is_no_number():
    codes, gaze, lids = np.zeros((3, 4)), np.arange(12.0).reshape(3, 2, 2), np.ones((3, 2))
    np.testing.assert_array_equal(eye_poses({"z_exp": codes}), np.full((3, 6), np.nan))
    found = eye_poses({"z_exp": codes, "gaze": gaze, "lids": lids})
    np.testing.assert_array_equal(found, np.concatenate([gaze.reshape(3, 4), lids], 1))
    assert np.isnan(eye_poses({"z_exp": codes, "lids": lids})).sum() == 12
