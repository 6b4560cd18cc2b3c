"""The diffusion: zero terminal SNR, v-prediction, trailing steps, and noise that is the same for every picture."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple, cast

import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

TRAINING_TIMESTEPS = 1000
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # noisy latents and their timesteps to v


class Sampling(NamedTuple):
    """How pictures are sampled: steps of diffusion, and the share `eta` of fresh noise per step (0 DDIM, 1 DDPM)."""

    steps: int
    eta: float


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


@cache
def signal_shares(device: torch.device) -> torch.Tensor:
    """(1000,) the share of the picture's variance in the noisy latents of every timestep, 0 at the last."""
    return make_scheduler().alphas_cumprod.to(device)


def v_of_picture(noisy: torch.Tensor, picture: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """v for noisy latents and the latents of the picture in them, both (B, C, h, w), at timesteps (B,).

    Networks that predict the picture at every noise level err by what they do not know of it. Those that predict v
    must pass the noise on exactly, or sampling adds up what they miss: trained alike for 100 steps on the demo at a
    third of its size, 20 steps were 5.4 dB worse than one step for v, and 0.1 dB better for the picture
    (benchmarks/prediction.py).
    """
    share = signal_shares(noisy.device)[timesteps][:, None, None, None]
    return (share.sqrt() * noisy - picture) / (1 - share).sqrt()


def picture_of_v(noisy: torch.Tensor, v: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The inverse of `v_of_picture`: latents of the clean picture that v predicts, both (B, C, h, w)."""
    share = signal_shares(noisy.device)[timesteps][:, None, None, None]
    return share.sqrt() * noisy - (1 - share).sqrt() * v


def snr_weights(timesteps: torch.Tensor, limit: float) -> torch.Tensor:
    """Weights (B,) of the squared error of v at timesteps (B,): min(SNR + 1, limit) / (SNR + 1).

    Min-SNR (Hang et al. 2023) for v, with SNR + 1 for SNR, since SNR is zero at the last timestep, which must count.
    The squared error of v is SNR + 1 times that of the picture: a limit of 1 weighs all errors of the picture alike,
    an infinite one all errors of v.
    """
    noise_share = 1 - signal_shares(timesteps.device)[timesteps]  # 1 / (SNR + 1)
    return (limit * noise_share).clamp_max(1)


def shared_noise(shape: tuple[int, int, int], count: int, seed: int) -> torch.Tensor:
    """(count, channels, height, width) standard normal numbers that depend on the seed and the shape only."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


@cache
def _trailing_scheduler(steps: int) -> DDIMScheduler:
    """For sampling in so many steps; made once, since that takes longer than a step of it."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    return scheduler


def trailing(steps: int) -> torch.Tensor:
    """Timesteps (steps,) int64 that sampling in so many steps visits, from pure noise on."""
    return _trailing_scheduler(steps).timesteps


@torch.no_grad()
def walk(
    predict_v: Predict,
    latents: torch.Tensor,
    steps: int,
    eta: float = 0.0,
    fresh: torch.Tensor | Sequence[torch.Tensor] = (),
) -> Iterator[torch.Tensor]:
    """Yield the latents (B, C, h, w) that each of `steps` trailing steps starts from, and at last the picture's.

    `predict_v(latents, timesteps (B,))` is the network; `latents` is pure noise. `eta` is the share of fresh noise:
    0 is DDIM, 1 adds as much as DDPM; what step i adds is row i of `fresh` (steps - 1, C, h, w) for every picture.
    """
    scheduler = _trailing_scheduler(steps)
    for i, timestep in enumerate(scheduler.timesteps.tolist()):
        yield latents
        v = predict_v(latents, torch.full((len(latents),), timestep, device=latents.device))
        adds = bool(eta) and i < steps - 1
        noise = fresh[i] if adds else None
        stepped = scheduler.step(v, timestep, latents, eta=eta if adds else 0.0, variance_noise=noise)
        latents = cast(DDIMSchedulerOutput, stepped).prev_sample
    yield latents


def sample(predict_v: Predict, noise: torch.Tensor, pictures: int, steps: int, eta: float) -> torch.Tensor:
    """Latents (pictures, C, h, w) after a `walk` from `noise` (steps, C, h, w): the start, and what the steps add.

    The same noise for every picture, so that a picture does not depend on its place in a batch.
    """
    *_, last = walk(predict_v, noise[:1].expand(pictures, -1, -1, -1), steps, eta, noise[1:])
    return last
