"""Distillation: a trained avatar learns to render in few steps of diffusion what it rendered in many."""

import torch

from pipeline.avatar.data.batches import NoisyPart
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.schedule import Predict, Sampling, picture_of_v, trailing, v_of_picture, walk
from pipeline.avatar.processes import Processes
from pipeline.avatar.train.critic import Critic
from pipeline.avatar.train.loop import Loop
from pipeline.errors import DataError
from pipeline.settings.distill import DistillSettings


class Distiller(Loop):
    """Goes on training an avatar at the few timesteps that sampling visits, on what sampling itself brings there.

    The latents at such a timestep are what the present avatar makes of pure noise up to there, not a real picture with
    noise on it, so that every step learns to correct the errors of those before it (DMD2, Yin et al. 2024, simulates
    sampling in training likewise). The target is the real picture; a critic judges whether predictions look real.
    """

    recipe: DistillSettings

    def __init__(
        self, avatar: Avatar, pictures: Pictures, settings: DistillSettings, processes: Processes | None = None
    ):
        if settings.into is None:
            raise DataError("distill.into is null; expected 1, 2 or 4: the steps that the avatar renders in")
        avatar.sampling = Sampling(settings.into, eta=0.0)
        self.timesteps = trailing(settings.into)
        self.critic = Critic(avatar.autoencoder.channels, settings.seed) if settings.critic_weight else None
        super().__init__(avatar, pictures, settings, self.critic, processes)

    def sample_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Timesteps (count,) int64, each of those that sampling visits equally often."""
        return self.timesteps[torch.randint(len(self.timesteps), (count,), generator=generator)]

    def noisy_and_target(
        self, part: NoisyPart, latents: torch.Tensor, predict_v: Predict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The avatar's own latents on the way from the part's noise, and the v of the real picture for them.

        Both are shaped as `latents`, (B, channels, h', w').
        """
        noisy = part.noise
        for timestep, reached in zip(
            self.timesteps.tolist(), walk(predict_v, part.noise, len(self.timesteps)), strict=False
        ):
            noisy = torch.where((part.timesteps == timestep)[:, None, None, None], reached, noisy)
        return noisy, v_of_picture(noisy, latents, part.timesteps)

    def further_loss(
        self, part: NoisyPart, noisy: torch.Tensor, predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor | float:
        """The critic's loss on real and predicted latents, times its weight; 0 without a critic.

        noisy, predicted and target v (B, channels, h', w'). Where `weights` (B, h', w') are 0, the critic is shown the
        real latents for the predicted ones.
        """
        if self.critic is None:
            return 0.0
        rendered, real = (picture_of_v(noisy, v, part.timesteps) for v in (predicted, target))
        rendered = torch.where(weights[:, None] > 0, rendered, real)
        return self.recipe.critic_weight * self.share(part) * self.critic.loss(real, rendered)
