"""The diffusion: zero terminal SNR, trailing steps, v-prediction and shared noise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.avatar.model.schedule import (
    TRAINING_TIMESTEPS,
    draw_timesteps,
    make_scheduler,
    sample,
    shared_noise,
    snr_weights,
    v_of_picture,
)

LAST = TRAINING_TIMESTEPS - 1


def test_last_timestep_is_pure_noise():
    scheduler = make_scheduler()
    latents, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert scheduler.alphas_cumprod[-1] == 0
    torch.testing.assert_close(scheduler.add_noise(latents, noise, torch.tensor([LAST, LAST])), noise)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [999]), (4, [999, 749, 499, 249]), (20, [999 - 50 * i for i in range(20)])]
)
def test_steps_trail(steps, expected):
    seen = []

    def predict(latents, timesteps):
        seen.append(timesteps.unique().item())
        return torch.zeros_like(latents)

    sample(predict, shared_noise((1, 2, 2), steps, 0), pictures=2, steps=steps, eta=0.0)
    assert seen == expected


@given(timestep=st.integers(0, LAST), seed=st.integers(0, 1000))
def test_v_gives_back_latents_and_noise(timestep, seed):
    generator = torch.Generator().manual_seed(seed)
    latents, noise = torch.randn(2, 1, 3, 3, 3, generator=generator).double()
    scheduler, at = make_scheduler(), torch.tensor([timestep])
    alpha = scheduler.alphas_cumprod[timestep].double()
    noisy, v = scheduler.add_noise(latents, noise, at), scheduler.get_velocity(latents, noise, at)
    torch.testing.assert_close(alpha.sqrt() * noisy - (1 - alpha).sqrt() * v, latents, atol=1e-5, rtol=0)
    torch.testing.assert_close((1 - alpha).sqrt() * noisy + alpha.sqrt() * v, noise, atol=1e-5, rtol=0)


@given(timestep=st.integers(0, LAST), seed=st.integers(0, 1000))
def test_v_follows_from_the_picture(timestep, seed):
    latents, noise = torch.randn(2, 1, 3, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
    scheduler, at = make_scheduler(), torch.tensor([timestep])
    expected = scheduler.get_velocity(latents, noise, at)
    torch.testing.assert_close(
        v_of_picture(scheduler.add_noise(latents, noise, at), latents, at), expected, atol=1e-4, rtol=0
    )


def test_what_a_limit_weighs():
    """The weighted error of v is the picture's error at a limit of 1, never more than `limit` times it."""
    timesteps = torch.arange(TRAINING_TIMESTEPS)
    pictures, v = torch.ones(TRAINING_TIMESTEPS, 1, 1, 1), torch.zeros(TRAINING_TIMESTEPS, 1, 1, 1)
    error_of_v = v_of_picture(torch.zeros_like(pictures), pictures, timesteps).sub(v).square().flatten()
    torch.testing.assert_close(snr_weights(timesteps, 1.0) * error_of_v, torch.ones(TRAINING_TIMESTEPS))
    limited = snr_weights(timesteps, 5.0) * error_of_v
    assert limited.max() <= 5.001
    assert limited[LAST] == 1
    assert (snr_weights(timesteps, 1e6) == 1).all()


def test_one_step_is_the_regression_mean():
    """At zero SNR v is minus the picture, so the best v is minus the mean of all pictures, and one step returns it."""
    pictures = torch.randn(50, 3, 4, 4)
    noise, at = torch.randn(50, 3, 4, 4), torch.full((50,), LAST)
    best_v = make_scheduler().get_velocity(pictures, noise, at).mean(0, keepdim=True)
    rendered = sample(lambda latents, _: best_v, shared_noise((3, 4, 4), 1, 0), pictures=1, steps=1, eta=0.0)
    torch.testing.assert_close(rendered, pictures.mean(0, keepdim=True))


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_a_perfect_network_reaches_the_picture(steps, eta):
    picture = torch.randn(1, 3, 4, 4)
    scheduler = make_scheduler()

    def predict(latents, timesteps):
        alpha = scheduler.alphas_cumprod[timesteps[0]]
        return (alpha.sqrt() * latents - picture) / (1 - alpha).sqrt()

    rendered = sample(predict, shared_noise((3, 4, 4), steps, 3), pictures=2, steps=steps, eta=eta)
    torch.testing.assert_close(rendered, picture.expand(2, -1, -1, -1), atol=2e-3, rtol=0)


def test_all_pictures_get_the_same_noise():
    rendered = sample(lambda latents, _: 0.3 * latents, shared_noise((3, 4, 4), 5, 1), pictures=3, steps=5, eta=1.0)
    assert torch.equal(rendered[0], rendered[1])
    assert torch.equal(rendered[0], rendered[2])
    assert torch.equal(shared_noise((3, 4, 4), 5, 1)[:2], shared_noise((3, 4, 4), 2, 1))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_terminal_timesteps(share):
    timesteps = draw_timesteps(4000, share, torch.Generator().manual_seed(0))
    assert timesteps.min() >= 0
    assert timesteps.max() <= LAST
    assert (timesteps == LAST).float().mean().item() == pytest.approx(share, abs=0.03)
