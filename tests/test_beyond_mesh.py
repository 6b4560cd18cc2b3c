"""Pixels beside the mesh know the nearest place on it, whole and in windows; the condition tells them from the mesh."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.condition import GEOMETRY_CHANNELS, Units, condition
from pipeline.avatar.model.planes import FeaturePlanes
from pipeline.raster.beyond import band, continued
from tests.avatar_scene import open_pictures, write_scene


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    with open_pictures(write_scene(tmp_path_factory.mktemp("scene"))) as found:
        yield found


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.floats(0, 0.3))
def test_each_pixel_near_the_mask_has_the_place_of_one_of_the_nearest(seed, reach, share):
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 15)) < share
    x_can = np.where(mask[..., None], rng.uniform(0.1, 1, (12, 15, 5)), 0).astype(np.float32)
    depth = np.where(mask, rng.uniform(0.5, 1, mask.shape), 0).astype(np.float32)
    found_depth, found = continued(depth, x_can, mask, reach)
    np.testing.assert_array_equal(found_depth[mask], depth[mask])
    np.testing.assert_array_equal(found_depth < 0, found.any(-1) & ~mask)
    pixels = np.argwhere(mask)
    for place in np.ndindex(mask.shape):
        distance = np.linalg.norm(pixels - place, axis=-1) if len(pixels) else np.array([np.inf])
        if distance.min() > 1.03 * reach:
            assert not found[place].any()
        elif distance.min() < 0.97 * reach:
            near = pixels[distance <= 1.05 * distance.min()]  # OpenCV's distances are within 3 % of the exact ones
            assert (found[place] == x_can[near[:, 0], near[:, 1]]).all(-1).any()
            if not mask[place]:
                assert abs(-found_depth[place] * reach - distance.min()) < 0.05 * distance.min()


def test_a_window_has_the_coordinates_of_the_whole_picture(pictures):
    whole, _ = pictures[4]
    pictures._cache.clear()
    pictures.fit_in_memory = False
    part, _ = pictures.cropped(4, 1, 2, 9, 7)
    pictures.fit_in_memory = True
    for name in ("depth", "x_can", "mask"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[:, 1:10, 2:9]), name
    beside = whole.depth < 0
    assert 20 < beside.sum() < 120  # a band of one pixel round a ball of 12
    assert band(192) == 10


def test_the_band_has_coordinates_features_and_how_far_off_it_is_but_no_normals(pictures):
    buffers, _ = pictures[4]
    torch.manual_seed(0)
    units, planes = Units(), FeaturePlanes(8, 3)
    units.measure(buffers.depth[buffers.mask], buffers.x_can[buffers.mask])
    without, _ = condition(buffers, units, planes, True)
    found, features = condition(buffers, units, planes, True, beyond=True)
    mask = buffers.mask[0]
    beside = buffers.depth[0] < 0
    assert not without[0][:, ~mask].any()
    torch.testing.assert_close(found[0][:, mask], without[0][:, mask])
    assert not found[0][:, ~mask & ~beside].any()
    assert not found[0][[4, 5, 6, -1]][:, beside].any()  # normals, mask
    torch.testing.assert_close(found[0][0][beside], -buffers.depth[0][beside])
    assert found[0][1:4][:, beside].any(0).all()
    torch.testing.assert_close(found[0][GEOMETRY_CHANNELS:-1][:, beside].T, features[0][beside])
