"""Cameras that do not fit what they see are named; those that do are not. Exact matches of points on a ball."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.capture.sfm.act import change, settle
from pipeline.capture.sfm.compare import off_tracks, tracks_of
from pipeline.capture.sfm.find import Placed, place
from pipeline.capture.sfm.matching.epipolar import distances, fundamental
from pipeline.capture.sfm.matching.features import Features
from pipeline.capture.sfm.matching.matches import Seen, View, match_all, match_guided
from pipeline.capture.sfm.refine import FITTING, astray
from pipeline.capture.sfm.repose import repose
from pipeline.capture.sfm.verdict import blame, exchanged, judge, neighbours
from pipeline.errors import DataError
from tests.ball_views import arc, looking, what_they_see


@pytest.fixture(scope="module")
def cameras() -> list[Camera]:
    """An arc of them."""
    return arc()


@pytest.fixture(scope="module")
def seen(cameras: list[Camera]) -> list[Seen]:
    """What they see."""
    return what_they_see(cameras)


def verdict(seen: list[Seen], cameras: list[Camera]):
    """The verdict alone."""
    return judge(seen, cameras, lambda done: None)[0]


def turned(camera: Camera, degrees: float) -> Camera:
    """The camera turned about its own y axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    return replace(camera, camera_from_world=turn @ camera.camera_from_world)


def test_good_cameras_pass(seen: list[Seen], cameras: list[Camera]) -> None:
    found = verdict(seen, cameras)
    assert not found.off
    assert not found.alone
    assert max(found.residual.values()) < 1


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_turned_camera_is_named_and_posed_anew(seen: list[Seen], cameras: list[Camera], number: int) -> None:
    bad = list(cameras)
    bad[number] = turned(cameras[number], 1.0)
    found, pairs = judge(seen, bad, lambda done: None)
    assert list(found.off) == [number]
    mended = repose(seen, bad, pairs, [number])
    for i, (camera, true) in enumerate(zip(mended, cameras, strict=True)):
        away = np.linalg.norm(camera.centre - true.centre)
        assert away < (0.005 if i == number else 1e-9)
    assert not verdict(seen, mended).off


def test_given_cameras_give_way_where_most_are_off(seen: list[Seen], cameras: list[Camera]) -> None:
    anew = place(Rig(tuple(cameras)), seen, True, True)
    assert not astray(Rig(tuple(cameras)), seen, anew, "here")
    one = [turned(camera, 1.0 if i == 3 else 0.0) for i, camera in enumerate(cameras)]
    assert not astray(Rig(tuple(one)), seen, anew, "here")
    most = [turned(camera, 0.4 * (-1) ** i) for i, camera in enumerate(cameras)]
    assert astray(Rig(tuple(most)), seen, anew, "here")


def test_given_cameras_give_way_where_the_person_moved_slowly(caplog: pytest.LogCaptureFixture) -> None:
    cameras = [looking(0.12 * (i - 8), 0.1 * (-1) ** i) for i in range(16)]
    seen = what_they_see(cameras)
    sinking = np.eye(4)
    sinking[1, 3] = 0.0003  # metres from picture to picture, too little for neighbours to tell
    published = [
        replace(camera, camera_from_world=camera.camera_from_world @ np.linalg.matrix_power(sinking, i))
        for i, camera in enumerate(cameras)
    ]
    assert np.median(list(verdict(seen, published).residual.values())) < 0.75 * FITTING
    anew = place(Rig(tuple(published)), seen, True, True)
    with caplog.at_level("INFO"):
        assert astray(Rig(tuple(published)), seen, anew, "here")
        assert not astray(Rig(tuple(cameras)), seen, anew, "here")
    for line, off, end in zip(caplog.messages, ("0.8", "0.3"), ("placed anew", "kept"), strict=True):
        assert re.search(rf" {off}\d off the given cameras, 0.3\d off 16 of 16 placed anew: {end}$", line)
    few = Placed(anew.pairs, {i: camera for i, camera in anew.cameras.items() if i < 14})
    assert not astray(Rig(tuple(published)), seen, few, "here")  # which lacks two of sixteen
    assert not astray(Rig(tuple(published)), seen, Placed({}, {}), "here")


def test_tracks_that_come_back_elsewhere_do_not_count(seen: list[Seen], cameras: list[Camera]) -> None:
    pairs = match_all(seen, [(i, i + 1) for i in range(7)], lambda done: None)
    tracks = tracks_of(seen, pairs, range(8))
    assert tracks.count > 30
    assert off_tracks(cameras, tracks) < 0.5
    wrong = pairs | {(0, 3): np.stack([np.arange(30), np.random.default_rng(0).permutation(30)], 1)}
    assert tracks_of(seen, wrong, range(8)).count < tracks.count
    assert off_tracks(cameras, tracks_of(seen, wrong, range(8))) < 0.5


@pytest.mark.parametrize("shift", [(6, 0), (0, 6), (-4, 4)])
def test_a_bumped_camera_is_named(seen: list[Seen], cameras: list[Camera], shift: tuple[int, int]) -> None:
    moved = Features(seen[2].pixels + np.array(shift), seen[2].features[0].descriptors)
    bumped = [*seen[:2], Seen(seen[2].view, (moved,)), *seen[3:]]
    assert list(verdict(bumped, cameras).off) == [2]


def test_swapped_pictures_are_told(seen: list[Seen], cameras: list[Camera]) -> None:
    found = verdict(seen, exchanged(cameras, 1, 5))
    assert sorted(found.off) == [1, 5]
    assert found.swapped == [(1, 5)]


def covered(seen: list[Seen], shift: tuple[int, int], number: int) -> list[Seen]:
    """What cameras see with masks of the ball, that of camera `number` shifted."""
    result = []
    for i, one in enumerate(seen):
        mask = np.zeros((384, 256), np.uint8)
        cv2.circle(mask, (128 + (i == number) * shift[0], 192 + (i == number) * shift[1]), 82, 255, -1)
        result.append(Seen(View(one.view.name, one.view.pictures, (mask,)), one.features))
    return result


def test_a_mask_that_misses_the_person_is_named(
    seen: list[Seen], cameras: list[Camera], caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tuple(cameras))
    assert settle(rig, covered(seen, (0, 0), 3), "stop", "here") == rig
    assert not caplog.messages
    assert settle(rig, covered(seen, (40, -30), 3), "stop", "here") == rig
    assert re.fullmatch(
        rf"here: camera {cameras[3].name}: \d\d% of the points .* outside its mask; .*", caplog.messages[0]
    )
    assert len(caplog.messages) == 1


def test_blame_takes_the_fewest() -> None:
    residual = {(0, 1): 0.5, (0, 2): 9.0, (1, 2): 7.0, (2, 3): 8.0, (0, 3): 0.4, (1, 3): 0.6}
    assert list(blame(residual, 3.0)) == [2]
    assert blame(residual | {(0, 2): 0.5, (2, 3): 0.5}, 3.0) == {}  # one bad pair is chance
    assert blame({pair: 0.5 for pair in residual}, 3.0) == {}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_epipolar_distance_is_zero_for_true_matches(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = looking(random.uniform(-1, 0), random.uniform(-0.3, 0.3)), looking(random.uniform(0.1, 1), 0.0)
    points = random.normal(scale=0.1, size=(20, 3))
    in_a, in_b = a.project(points)[0], b.project(points)[0]
    assert distances(a, b, in_a, in_b).max() < 1e-6
    line = fundamental(a, b) @ np.array([*in_a[0], 1])
    off = in_b + 5 * line[:2] / np.linalg.norm(line[:2])
    assert abs(distances(a, b, in_a[:1], off[:1])[0]) > 4.5


def test_guided_matches_are_on_the_lines(seen: list[Seen], cameras: list[Camera]) -> None:
    pairs = match_guided(seen, cameras, neighbours(cameras, 2), 1.5)
    assert all(len(index) > 50 for index in pairs.values())
    for (a, b), index in pairs.items():
        own = seen[a].pixels[index[:, 0]], seen[b].pixels[index[:, 1]]
        assert np.median(distances(cameras[a], cameras[b], *own)) < 1


def test_what_is_done_about_it(seen: list[Seen], cameras: list[Camera]) -> None:
    rig = Rig((*cameras[:3], turned(cameras[3], 1.0), *cameras[4:]))
    with pytest.raises(DataError, match=f"here: camera {cameras[3].name}: its matches lie .* pixels off .*off_cameras"):
        settle(rig, seen, "stop", "here")
    assert settle(rig, seen, "keep", "here") is rig
    assert settle(rig, seen, "drop", "here").cameras == (*rig.cameras[:3], *rig.cameras[4:])
    posed = settle(rig, seen, "repose", "here").cameras
    assert change(posed[3].camera_from_world, cameras[3].camera_from_world)[0] < 0.2
    good = Rig(tuple(cameras))
    assert settle(good, seen, "stop", "here") is good
