"""How much of an eye shows, from pictures: one view of all cameras, skin told from eye, lids moved to it."""

import numpy as np
import pytest

from pipeline.cameras.camera import Camera
from pipeline.cameras.rig import Rig
from pipeline.detect.heights import (
    ACROSS,
    ALONG,
    CELL,
    COLUMNS,
    MIDDLE,
    ROWS,
    eye_heights,
    eye_shares,
    eye_view,
    pupils,
)
from pipeline.detect.points import (
    HEIGHT_CONTOUR_GAIN,
    HEIGHT_GAIN,
    LIDS,
    SHOWN,
    FacePoints,
    curved,
    with_heights,
)

SKIN, SCLERA, IRIS = np.array([190, 140, 115]), np.array([215, 210, 205]), np.array([60, 80, 130])
X, Y = np.meshgrid(
    (np.arange(COLUMNS) + 0.5 - COLUMNS / 2) * CELL, (ROWS / 2 - np.arange(ROWS) - 0.5) * CELL
)  # as the view's pixels lie


def drawn(openings: np.ndarray, light: float = 1.0, skin: np.ndarray = SKIN) -> np.ndarray:
    """Views (T, ROWS, COLUMNS, 3) of an eye whose lids leave a share of the fully open eye, with noise."""
    rng = np.random.default_rng(0)
    views = []
    for opening in openings:
        edge = np.sqrt(np.clip(1 - (X / ALONG) ** 2, 0, None)) * ACROSS * 0.7
        eye = ((2 * opening - 1) * edge > Y) & (-edge < Y)
        ball = np.where((np.hypot(X, Y) < 0.2)[..., None], IRIS, SCLERA)
        shade = light * (1 + 0.2 * Y)[..., None]  # from above
        views.append(np.where(eye[..., None], ball, skin) * shade + rng.normal(0, 3, (ROWS, COLUMNS, 3)))
    return np.array(views)


@pytest.mark.parametrize(("light", "skin"), [(1.0, SKIN), (0.4, SKIN), (1.0, np.array([75, 50, 40]))])
def test_heights_follow_the_lids_and_a_shut_eye_has_none(light, skin):
    openings = np.array([1, 1, 1, 0.95, 1, 0.5, 0.25, 0, 1, 0.75])
    edge = np.sqrt(np.clip(1 - (X / ALONG) ** 2, 0, None))[0][np.abs(X[0]) < MIDDLE].mean() * ACROSS * 0.7
    found = eye_heights(eye_shares(drawn(openings, light, skin), openings))
    np.testing.assert_allclose(found, 2 * edge * openings, atol=0.025)  # millimetres of 28


def test_too_few_open_eyes_teach_nothing():
    openings = np.array([1.0, 1.0, 0.2, 0.2, 1.0, 1.0])
    views = drawn(openings)
    views[0] = np.nan
    assert np.isnan(eye_heights(eye_shares(views, openings))).all()
    assert np.isfinite(eye_shares(drawn(openings), openings)).all()


def test_pupils_are_the_darkest_discs():
    places = np.array([[0, 0], [0.1, 0.02], [-0.12, 0], [0.05, -0.03], [0, 0.04], [0, 0]])
    openings = np.array([1, 1, 1, 1, 1, 0.0])
    views = drawn(openings)
    for view, place in zip(views[:5], places, strict=False):
        view[np.hypot(X - place[0], Y - place[1]) < 0.08] = 20
    found = pupils(views, eye_shares(views, openings))
    np.testing.assert_allclose(found[:5], places[:5], atol=0.012)
    assert np.isnan(found[5]).all()


def facing(place: tuple[float, float, float]) -> Camera:
    """A camera at a place that looks at the origin, y downwards."""
    back = np.array(place, float) / np.linalg.norm(place)
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(right, back), -back])
    pose[:3, 3] = -pose[:3, :3] @ np.array(place, float)
    return Camera("c", 200, 160, np.array([[2000, 0, 100], [0, 2000, 80], [0, 0, 1.0]]), pose, np.eye(3))


def test_a_view_shows_the_plane_of_the_corners_and_leaves_out_who_sees_it_from_behind():
    cameras = [facing((0.3, 0.1, 1)), facing((-0.2, 0, 1)), facing((0.1, 0, -1))]
    corners = np.array([[-0.014, 0.001, 0], [0.014, -0.001, 0]])
    pictures = []
    for camera in cameras:
        y, x = np.mgrid[: camera.height, : camera.width] + 0.5
        rays = (
            np.stack([x, y, np.ones_like(x)], -1)
            @ np.linalg.inv(camera.intrinsics).T
            @ camera.camera_from_world[:3, :3]
        )
        hit = camera.centre - rays * (camera.centre[2] / rays[..., 2])[..., None]  # where z is zero
        tint = 50 if camera.centre[2] > 0 else 255
        pictures.append(np.stack([128 + 4e3 * hit[..., 0], 128 + 4e3 * hit[..., 1], tint + 0 * x], -1))
    view = eye_view(
        Rig(tuple(cameras)), np.array(pictures).clip(0, 255).astype(np.uint8), corners, np.array([0, 1.0, 0])
    )
    width = np.linalg.norm(corners[1] - corners[0])
    along = (corners[1] - corners[0]) / width
    places = width * (X[..., None] * along + Y[..., None] * np.array([-along[1], along[0], 0]))
    np.testing.assert_allclose(view[..., 0], 128 + 4e3 * places[..., 0], atol=1.5)
    np.testing.assert_allclose(view[..., 1], 128 + 4e3 * places[..., 1], atol=1.5)
    np.testing.assert_allclose(view[..., 2], 50, atol=0.5)


def looked_at(gaps: np.ndarray, contours: np.ndarray) -> FacePoints:
    """Points (T, 51, 3) with gaps (T, 2) between the lids and contours (T, 2), metres, the left eye first."""
    steps = len(gaps)
    points = np.random.default_rng(0).normal(size=(steps, 51, 3))
    for eye, pairs in enumerate(LIDS[::-1]):
        for upper, lower in pairs:
            points[:, upper] = points[:, lower] + gaps[:, eye, None] * [0, 1, 0]
    return FacePoints(points, np.ones((steps, 51)), np.zeros((steps, 2, 3)), np.ones((steps, 2)), contours)


def test_lids_go_where_heights_say_each_eye_by_itself():
    """The face's network sees both eyes half shut where one winks."""
    steps = 8
    gaps = np.full((steps, 2), 0.009)
    heights, contours = np.full((steps, 2), 0.010), np.full((steps, 2), 0.0085)
    gaps[5] = 0.006  # both
    heights[5, 0], contours[5, 0] = 0, 0.005
    found = looked_at(gaps, contours)
    moved = with_heights(found, heights).points
    for eye, pairs in enumerate(LIDS[::-1]):
        for upper, lower in pairs:
            length = np.linalg.norm(moved[:, upper] - moved[:, lower], axis=-1)
            np.testing.assert_allclose(length[[0, 1, 2, 3, 4, 6, 7]], 0.010 - SHOWN, atol=1e-9)
            assert length[5] < 0.0025 if eye == 0 else abs(length[5] - 0.010 + SHOWN) < 1e-9
    unknown = with_heights(found, np.full((steps, 2), np.nan))
    np.testing.assert_array_equal(unknown.points, found.points)


@pytest.mark.parametrize("off", [-0.001, 0.0, 0.001])
def test_how_far_eyes_stand_open_is_what_shows_of_them_and_not_what_networks_say(off):
    """The networks see eyes of 901 and 904, 10.1 and 8.7 mm open, both 9.2 mm open."""
    true = np.array([[0.0100, 0.0098]] * 8)
    heights = true + SHOWN
    heights[:, 0] += 0.002  # a lit cheek, taken for an eye
    moved = with_heights(looked_at(true + off, np.full((8, 2), 0.0085)), heights).points
    for eye, pairs in enumerate(LIDS[::-1]):
        for upper, lower in pairs:
            np.testing.assert_allclose(np.linalg.norm(moved[:, upper] - moved[:, lower], axis=-1), true[:, eye])


def test_half_shut_lids_come_nearer_than_what_shows_of_the_eye_says():
    """Eyes of 901 that stand 8.5, 6.1, 2.2 mm open seem 1.1, 3.1 and 8.3 mm lower than at 10.1 mm."""
    seen, true = np.array([-1.1, -3.1, -8.3]) / 1e3, np.array([-1.6, -4.0, -7.9]) / 1e3
    gaps = 0.0101 + np.repeat(np.array([0, 0, 0, 0, 0, *seen])[:, None], 2, 1)
    contours = np.full((8, 2), 0.009)
    found = looked_at(np.full((8, 2), 0.0101), contours)
    moved = with_heights(found, (gaps - HEIGHT_CONTOUR_GAIN * contours) / HEIGHT_GAIN).points
    for upper, lower in LIDS[0] + LIDS[1]:
        length = np.linalg.norm(moved[:, upper] - moved[:, lower], axis=-1)
        np.testing.assert_allclose(length[5:] - length[0], true, atol=5e-4)
    assert (np.diff(curved(np.linspace(-0.02, 0.01, 100))) >= 0).all()
