"""The figures against their definitions, and the baselines' colour grid against a plain loop."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.evaluate.baselines.mesh_colour import LOWER, UPPER, ColourGrid
from pipeline.evaluate.measures.flicker import flicker
from pipeline.evaluate.measures.image import PSNR_CEILING, figures, flip_map, psnr, ssim_map
from pipeline.evaluate.measures.jod import GaussianBlur, jod

seeds = st.integers(0, 2**32 - 1)


def picture(seed: int, height: int = 24, width: int = 20) -> np.ndarray:
    """A smooth random picture (h, w, 3) uint8."""
    noise = np.random.default_rng(seed).normal(128, 300, (height, width, 3))
    return np.clip(gaussian_filter(noise, (2, 2, 0)), 0, 255).astype(np.uint8)


@given(seeds, seeds)
def test_psnr_is_its_definition(seed: int, other: int) -> None:
    a, b = picture(seed), picture(other)
    mask = np.random.default_rng(seed).random(a.shape[:2]) < 0.5
    errors = [
        (float(a[y, x, c]) - float(b[y, x, c])) ** 2 for y, x in zip(*np.nonzero(mask), strict=True) for c in range(3)
    ]
    expected = 20 * np.log10(255) - 10 * np.log10(np.mean(errors)) if any(errors) else PSNR_CEILING
    assert psnr(a, b, mask) == pytest.approx(expected)
    assert psnr(a, b) == pytest.approx(psnr(a, b, np.ones_like(mask)))


@given(seeds, st.integers(1, 60))
def test_psnr_of_a_constant_error(seed: int, error: int) -> None:
    truth = np.minimum(picture(seed), 255 - error).astype(np.uint8)
    assert psnr(truth + np.uint8(error), truth) == pytest.approx(20 * np.log10(255 / error))


@settings(max_examples=10, deadline=None)
@given(seeds, seeds)
def test_ssim_is_its_definition(seed: int, other: int) -> None:
    """Wang et al. 2004 written out with a Gaussian filter of sigma 1.5 cut at 5 pixels."""
    a, b = picture(seed) / 255, picture(other) / 255

    def window(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (1.5, 1.5, 0), truncate=3.5)

    mean_a, mean_b = window(a), window(b)
    variance_a, variance_b = window(a * a) - mean_a**2, window(b * b) - mean_b**2
    covariance = window(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    measured = ssim_map(picture(seed), picture(other))
    np.testing.assert_allclose(measured, expected.mean(-1), atol=1e-9)


def test_equal_pictures_are_perfect() -> None:
    a = picture(0)
    result = figures(a, a, np.ones(a.shape[:2], bool), 67)
    assert result["psnr"] == result["psnr_head"] == PSNR_CEILING
    assert result["ssim"] == result["ssim_head"] == pytest.approx(1)
    assert result["flip"] == result["flip_head"] == pytest.approx(0, abs=1e-6)


def test_figures_of_the_head_ignore_what_is_far_from_it() -> None:
    """An error 12 pixels away from the mask (the SSIM window reaches 5) leaves the head's figures alone."""
    truth = picture(1, 40, 40)
    head = np.zeros((40, 40), bool)
    head[:20] = True
    prediction = truth.copy()
    prediction[32:] = 0
    result = figures(prediction, truth, head, 67)
    assert result["psnr_head"] == PSNR_CEILING > 60 > result["psnr"]
    assert result["ssim_head"] == pytest.approx(1)
    assert result["ssim"] < 0.95


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(5, 60))
def test_flip_grows_with_the_error_and_stays_in_range(seed: int, error: int) -> None:
    truth = np.clip(picture(seed), 60, 195).astype(np.uint8)
    small, large = (flip_map(truth + np.uint8(value), truth, 67) for value in (error // 5, error))
    assert small.shape == truth.shape[:2]
    assert 0 <= small.min() <= small.mean() < large.mean()
    assert large.max() <= 1


@given(seeds, st.integers(0, 50))
def test_flicker_ignores_an_error_that_stands_still(seed: int, error: int) -> None:
    before, now = (np.clip(picture(seed + index), 0, 200).astype(np.uint8) for index in range(2))
    everywhere = np.ones(now.shape[:2], bool)
    still = np.uint8(error)
    assert flicker(before + still, now + still, before, now, everywhere) == 0
    assert flicker(before, now + still, before, now, everywhere) == pytest.approx(error)
    frozen = np.abs(now.astype(int) - before).mean()
    assert flicker(before, before, before, now, everywhere) == pytest.approx(frozen)


def test_flicker_counts_the_mask_only() -> None:
    before, now = picture(1), picture(2)
    mask = np.zeros(now.shape[:2], bool)
    mask[:5] = True
    spoiled = now.copy()
    spoiled[10:] += 9
    assert flicker(before, spoiled, before, now, mask) == 0


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_colour_grid_against_a_plain_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    cell = 0.1
    points, colors, weights = random.uniform(-0.3, 0.3, (40, 3)), random.uniform(0, 255, (40, 3)), random.random(40)
    grid = ColourGrid(cell)
    grid.splat(points, colors, weights)
    total: dict[tuple[int, ...], np.ndarray] = {}
    for point, color, weight in zip(points, colors, weights, strict=True):
        place = (point - LOWER) / cell
        for corner in np.ndindex(2, 2, 2):
            node = np.floor(place) + corner
            share = weight * np.prod(1 - np.abs(place - node))
            total[tuple(node)] = total.get(tuple(node), np.zeros(4)) + share * np.array([*color, 1])
    nodes = np.array([node for node, value in total.items() if value[3] >= 0.1])
    expected = [value[:3] / value[3] for value in total.values() if value[3] >= 0.1]
    looked_up = grid.look_up(grid.filled(), LOWER + nodes * cell)
    np.testing.assert_allclose(looked_up, expected, atol=1e-2)


def test_colour_grid_fills_from_the_nearest_seen_cell() -> None:
    grid = ColourGrid(0.1)
    left, right = np.array([[-0.5, 0, 0], [0.5, 0, 0]])
    grid.splat(np.array([left, right]), np.array([[200.0, 0, 0], [0, 0, 100]]), np.ones(2))
    corners = np.array([LOWER, UPPER, [-0.2, 0.3, 0.1], [0.7, 2.0, 0]])  # the last lies outside and is moved in
    expected = [[200, 0, 0], [0, 0, 100], [200, 0, 0], [0, 0, 100]]
    np.testing.assert_allclose(grid.look_up(grid.filled(), corners), expected, atol=1e-3)


def test_jod_is_told_of_any_screen_and_leaves_no_stand_in_behind():
    film = np.zeros((2, 32, 32, 3), np.uint8)
    before = find_spec("torchvision")
    assert [jod(film, film, 24, degrees) for degrees in (20, 67)] == [10, 10]
    assert find_spec("torchvision") == before


def test_jod_falls_with_what_a_viewer_sees_and_sees_flicker():
    """Blurs, flicker and a film that stands still, in the order that viewers have them; PSNR has flicker better."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.normal(size=(8, 64, 64, 3)), (2, 1, 1, 0))
    film = (127 + 400 * texture).clip(0, 255).astype(np.uint8)
    blurred = [gaussian_filter(film, (0, sigma, sigma, 0)) for sigma in (1, 2)]
    flickering = (film * (1 + 0.05 * rng.choice([-1, 1], 8))[:, None, None, None]).clip(0, 255).astype(np.uint8)
    score = [jod(made, film, 24, 67) for made in (film, *blurred, flickering)]
    assert score[0] == pytest.approx(10)
    assert score[0] > score[1] > score[2]
    assert score[3] < 9.5


def test_blur_in_jod_is_a_gaussian_with_mirrored_edges():
    picture = torch.rand(2, 1, 20, 30)
    expected = gaussian_filter(picture.numpy(), (0, 0, 1.5, 1.5), mode="mirror", radius=(0, 0, 4, 4))
    np.testing.assert_allclose(GaussianBlur(9, 1.5)(picture).numpy(), expected, atol=1e-6)
