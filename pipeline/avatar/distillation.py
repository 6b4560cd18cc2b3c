"""Distillation: a trained avatar learns to draw in few steps of diffusion what it drew in many."""

import torch

from pipeline.avatar.batch import Part
from pipeline.avatar.data import Pictures
from pipeline.avatar.loop import Loop
from pipeline.avatar.model import Avatar
from pipeline.avatar.schedule import Predict, Sampling, trailing, v_of_picture, walk
from pipeline.settings.distill import DistillSettings


class Distiller(Loop):
    """Goes on training an avatar at the few timesteps that drawing visits, on what drawing itself brings there.

    The latents at such a timestep are what the avatar as it is now makes of pure noise up to there, not a real picture
    with noise on it, so that every step learns to mend what the ones before it left (as DMD2 simulates drawing while
    it trains, Yin et al. 2024); what it is to say of them is the real picture.
    """

    def __init__(self, avatar: Avatar, pictures: Pictures, settings: DistillSettings):
        avatar.sampling = Sampling(settings.into, eta=0.0)
        self.timesteps = trailing(settings.into)
        super().__init__(avatar, pictures, settings)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """One of those that drawing visits, each as often."""
        return self.timesteps[torch.randint(len(self.timesteps), (count,), generator=generator)]

    def exercise(self, part: Part, latents: torch.Tensor, predict_v: Predict) -> tuple[torch.Tensor, torch.Tensor]:
        """The avatar's own latents on the way from the part's noise, and the v of the real picture for them."""
        noisy = part.noise
        for timestep, reached in zip(self.timesteps, walk(predict_v, part.noise, len(self.timesteps)), strict=False):
            noisy = torch.where((part.timesteps == timestep)[:, None, None, None], reached, noisy)
        return noisy, v_of_picture(noisy, latents, part.timesteps)
