"""Which pictures a step trains on: whole epochs, and rare expressions more often where that is asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from avatar_scene import TINY, open_pictures, write_scene
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.data.rarity import rarity
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer
from pipeline.settings.architecture import Architecture
from pipeline.settings.recipe import Recipe

CODES = np.array([[0, 0], [0, 1], [0, 3]], np.float32)  # the last step is the rare one: twice as far from the others


@pytest.fixture
def pictures(tmp_path):
    with open_pictures(write_scene(tmp_path)) as opened:
        yield Pictures([replace(view, z_exp=CODES[view.step]) for view in opened.views])


def drawn(pictures: Pictures, steps: int, **recipe) -> list[list[int]]:
    """Places of the pictures of some steps."""
    torch.manual_seed(0)
    recipe = Recipe(**{"texture_steps": 0, "batch": 3, "crop_height": 8, "crop_width": 8, "rare_share": 0} | recipe)
    trainer = Trainer(Avatar(Architecture(**TINY), code_size=2), pictures, recipe)
    return [[index for part in trainer.batches.parts(step) for index in part.indices] for step in range(steps)]


def test_without_a_share_every_epoch_is_all_pictures_once(pictures):
    for start in range(0, 12, 3):
        epoch = drawn(pictures, start + 3)[start:]
        assert sorted(index for batch in epoch for index in batch) == list(range(len(pictures)))


def test_rare_expressions_are_drawn_as_often_as_their_weights_say(pictures):
    steps, share = 400, 0.5
    indices = np.concatenate(drawn(pictures, steps, rare_share=share))
    found = np.bincount([pictures.views[index].step for index in indices], minlength=3) / len(indices)
    expected = (1 - share) / 3 + share * np.array([1, 1, 4]) / 6
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / len(indices))
    assert np.abs(expected - 1 / 3).max() > 8 * np.sqrt(0.25 / len(indices))  # so that even drawing would be noticed


def test_what_is_drawn_is_a_function_of_seed_and_step(pictures):
    ours = drawn(pictures, 12, rare_share=0.5)
    assert ours == drawn(pictures, 12, rare_share=0.5)
    assert ours == drawn(pictures, 12, rare_share=0.5, accumulation=3)
    assert ours != drawn(pictures, 12, rare_share=0.5, seed=1)
    assert ours != drawn(pictures, 12)


def test_texture_steps_see_every_picture_alike(pictures):
    assert drawn(pictures, 6, rare_share=1.0, texture_steps=6) == drawn(pictures, 6)


@given(arrays.arrays(np.float64, (7, 3), elements=st.integers(-5, 5)))
def test_rarity_is_the_squared_distance_to_the_nearest_other_code(codes):
    ours = rarity(torch.from_numpy(codes)).numpy()
    squares = ((codes[:, None] - codes[None]) ** 2).sum(-1)
    nearest = np.array([min((square for square in row if square), default=1.0) for row in squares])
    np.testing.assert_allclose(ours, nearest / nearest.mean(), rtol=1e-9)
