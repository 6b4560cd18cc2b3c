"""Pictures to latents and back: lossless space-to-depth, or the autoencoder of a latent diffusion model."""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn


class SpaceToDepth(nn.Module):
    """Folds squares of `factor` pixels into channels: (B, 3, h, w) <-> (B, 3 factor^2, h / factor, w / factor)."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor
        self.channels = 3 * factor**2

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures in [-1, 1] to latents; nothing is lost."""
        return F.pixel_unshuffle(pictures, self.factor)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to pictures in about [-1, 1]."""
        return F.pixel_shuffle(latents, self.factor)


class LatentAutoencoder(nn.Module):
    """A frozen AutoencoderKL: the mean of its posterior, scaled as its diffusion model expects."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.channels = vae.config.latent_channels

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] to latents (B, channels, h / factor, w / factor)."""
        return self.vae.encode(pictures).latent_dist.mean * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to pictures in about [-1, 1]."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample
