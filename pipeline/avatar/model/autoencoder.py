"""Pictures to latents and back: lossless space-to-depth, or the autoencoder of a latent diffusion model."""

from typing import cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import nn

from pipeline.errors import DataError


class SpaceToDepth(nn.Module):
    """Folds squares of `factor` pixels into channels: (B, 3, h, w) <-> (B, 3 factor^2, h / factor, w / factor)."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor
        self.channels = 3 * factor**2

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] to latents (B, channels, h / factor, w / factor); nothing is lost."""
        return F.pixel_unshuffle(pictures, self.factor)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, channels, h / factor, w / factor) to pictures (B, 3, h, w) in about [-1, 1]."""
        return F.pixel_shuffle(latents, self.factor)

    def decode_with(self, tiny: AutoencoderTiny, source: str) -> None:
        """Raise DataError: unfolding is no network that a smaller one could stand in for."""
        raise DataError(
            f"{source}: the avatar folds its pictures, which needs no decoder; expected render.decoder null"
        )


class LatentAutoencoder(nn.Module):
    """A frozen AutoencoderKL: the mean of its posterior, scaled as its diffusion model expects.

    An AutoencoderTiny made for the same latents (such as TAESD) can decode in its place.
    """

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()
        self.decoder: AutoencoderKL | AutoencoderTiny = self.vae
        self.factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.channels: int = vae.config["latent_channels"]

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] to latents (B, channels, h / factor, w / factor)."""
        encoded = cast(AutoencoderKLOutput, self.vae.encode(pictures))
        return encoded.latent_dist.mean * self.vae.config["scaling_factor"]

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, channels, h / factor, w / factor) to pictures (B, 3, h, w) in about [-1, 1]."""
        return cast(DecoderOutput, self.decoder.decode(latents / self.decoder.config["scaling_factor"])).sample

    def decode_with(self, tiny: AutoencoderTiny, source: str) -> None:
        """Decode with `tiny`, which came from `source`, from now on. Raises DataError when its latents are others."""
        theirs = tiny.config["latent_channels"], 2 ** (len(tiny.config["decoder_block_out_channels"]) - 1)
        if theirs != (self.channels, self.factor):
            raise DataError(
                f"{source}: decodes {theirs[0]} channels and enlarges them {theirs[1]} times; "
                f"expected {self.channels} and {self.factor}, as the avatar's autoencoder does"
            )
        self.decoder = tiny.requires_grad_(False).eval()
