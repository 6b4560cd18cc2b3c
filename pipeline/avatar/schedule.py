"""The diffusion: zero terminal SNR, v-prediction, trailing steps, and noise that is the same for every picture."""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler

TRAINING_TIMESTEPS = 1000


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas rescaled so that the last timestep is pure noise (Lin et al. 2024, algorithm 1)."""
    return DDIMScheduler(
        num_train_timesteps=TRAINING_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def draw_timesteps(count: int, terminal_share: float, generator: torch.Generator) -> torch.Tensor:
    """Timesteps (count,) int64: pure noise with probability `terminal_share`, otherwise uniform."""
    uniform = torch.randint(0, TRAINING_TIMESTEPS, (count,), generator=generator)
    terminal = torch.rand(count, generator=generator) < terminal_share
    return torch.where(terminal, TRAINING_TIMESTEPS - 1, uniform)


def snr_weights(timesteps: torch.Tensor, limit: float) -> torch.Tensor:
    """Weights (B,) of the squared error of v at timesteps (B,): min(SNR + 1, limit) / (SNR + 1).

    Min-SNR (Hang et al. 2023) for v, with SNR + 1 for SNR, since SNR is zero at the last timestep, which must count.
    The squared error of v is SNR + 1 times that of the picture: a limit of 1 weighs all errors of the picture alike,
    an infinite one all errors of v.
    """
    pictures_share = 1 - make_scheduler().alphas_cumprod.to(timesteps.device)[timesteps]  # 1 / (SNR + 1)
    return (limit * pictures_share).clamp_max(1)


def shared_noise(shape: tuple[int, int, int], count: int, seed: int) -> torch.Tensor:
    """(count, channels, height, width) standard normal numbers that depend on the seed and the shape only."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def sample(
    predict_v: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    pictures: int,
    steps: int,
    eta: float,
) -> torch.Tensor:
    """Latents (pictures, channels, h, w) after `steps` trailing steps.

    `predict_v(latents, timesteps (pictures,))` is the network; `noise` (steps, channels, h, w): the first row is the
    initial latent and row i the fresh noise of step i, the same for every picture, so that a picture does not depend
    on its place in a batch. `eta` 0 is DDIM, 1 adds as much noise as DDPM.
    """
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    latents = noise[:1].expand(pictures, -1, -1, -1)
    for i, timestep in enumerate(scheduler.timesteps):
        v = predict_v(latents, timestep.expand(pictures))
        last = i == steps - 1
        fresh = None if last else noise[i + 1]
        latents = scheduler.step(v, timestep, latents, eta=0.0 if last else eta, variance_noise=fresh).prev_sample
    return latents
