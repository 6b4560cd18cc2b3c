"""The networks of the avatar, all of diffusers' own classes: small ones from nothing, or a pretrained model's."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn

from pipeline.avatar.model.autoencoder import LatentAutoencoder, SpaceToDepth
from pipeline.avatar.model.pretrained import Pretrained, load_pretrained
from pipeline.errors import DataError
from pipeline.settings.architecture import Architecture

Guidance = tuple[torch.Tensor, dict[str, Any]]  # what the U-Net reads: its input, and residuals by argument


class GuidingControlNet(ControlNetModel):
    """A ControlNet behind the interface that `ConditionBeside` shares."""

    def guide(
        self, latents: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, picture: torch.Tensor
    ) -> Guidance:
        """Latents (B, C, h', w') as they are, and residuals made from them and the condition (B, K, h, w)."""
        down, mid = self(latents, timesteps, text, controlnet_cond=picture, return_dict=False)
        return latents, {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


class ConditionBeside(nn.Module):
    """In a ControlNet's place: the condition, folded to the latents' size, stands beside them."""

    def guide(
        self, latents: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, picture: torch.Tensor
    ) -> Guidance:
        """Latents (B, C, h', w') and condition (B, K, h, w) as (B, C + K (h / h')^2, h', w'), and no residuals."""
        return torch.cat([latents, F.pixel_unshuffle(picture, picture.shape[-1] // latents.shape[-1])], dim=1), {}


class FoldedEmbedding(nn.Module):
    """Condition embedding of the scratch backbone: space-to-depth and one convolution, no bottleneck."""

    def __init__(self, condition_channels: int, width: int, patch: int):
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(condition_channels * patch**2, width, 3, padding=1)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """(B, K, h, w) -> (B, width, h / patch, w / patch)."""
        return self.conv(F.pixel_unshuffle(condition, self.patch))


@dataclass
class Backbone:
    """Networks and what goes with them. `text` (1, L, W): the constant text condition, trained or not."""

    unet: UNet2DConditionModel
    controlnet: GuidingControlNet | ConditionBeside
    autoencoder: SpaceToDepth | LatentAutoencoder
    text: nn.Parameter | nn.Buffer


def make_backbone(architecture: Architecture, condition_channels: int, pretrained: Pretrained | None) -> Backbone:
    """The networks an architecture asks for, round the pretrained model if it asks for one, which may be given."""
    make = {"scratch": _scratch, "plain": _plain, "pretrained": _pretrained}[architecture.backbone]
    return make(architecture, condition_channels, pretrained)


def _sizes(architecture: Architecture) -> dict[str, Any]:
    """What U-Net and ControlNet share."""
    levels, attended = len(architecture.channels), architecture.attention_levels
    there = [level >= levels - attended for level in range(levels)]
    return {
        "down_block_types": tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in there),
        "block_out_channels": architecture.channels,
        "layers_per_block": architecture.layers,
        "cross_attention_dim": architecture.token_width,
        "attention_head_dim": architecture.heads,
        "norm_num_groups": architecture.groups,
    }


def _unet(architecture: Architecture, in_channels: int, out_channels: int) -> UNet2DConditionModel:
    sizes = _sizes(architecture)
    up = tuple(kind.replace("Down", "Up") for kind in reversed(sizes["down_block_types"]))
    unet = UNet2DConditionModel(in_channels=in_channels, out_channels=out_channels, up_block_types=up, **sizes)
    return _blind_to_noise(unet, out_channels)


Network = TypeVar("Network", UNet2DConditionModel, GuidingControlNet)


def _blind_to_noise(network: Network, latent_channels: int) -> Network:
    """The picture hardly depends on the noise, least of all in the first step: start blind to it."""
    nn.init.zeros_(network.conv_in.weight[:, :latent_channels])
    return network


def _read_channels(architecture: Architecture, latent_channels: int) -> int:
    """Noisy latents, and the base beside them where there is one."""
    return latent_channels * (2 if architecture.base == "texture" else 1)


def _text(architecture: Architecture) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, 1, architecture.token_width))


def _scratch(architecture: Architecture, condition_channels: int, pretrained: None) -> Backbone:
    autoencoder = SpaceToDepth(architecture.patch)
    channels = autoencoder.channels
    in_channels = _read_channels(architecture, channels)
    unet = _unet(architecture, in_channels, channels)
    sizes = _sizes(architecture)
    controlnet = GuidingControlNet(in_channels=in_channels, conditioning_channels=condition_channels, **sizes)
    embedding = FoldedEmbedding(condition_channels, architecture.channels[0], architecture.patch)
    controlnet.register_module("controlnet_cond_embedding", embedding)  # in place of diffusers' own
    # A ControlNet's zero convolutions protect a pretrained U-Net. Here there is nothing to protect: pass features on.
    for projection in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        nn.init.dirac_(projection.weight)
    return Backbone(unet, _blind_to_noise(controlnet, channels), autoencoder, _text(architecture))


def _plain(architecture: Architecture, condition_channels: int, pretrained: None) -> Backbone:
    autoencoder = SpaceToDepth(architecture.patch)
    in_channels = _read_channels(architecture, autoencoder.channels) + condition_channels * architecture.patch**2
    unet = _unet(architecture, in_channels, autoencoder.channels)
    return Backbone(unet, ConditionBeside(), autoencoder, _text(architecture))


def _pretrained(architecture: Architecture, condition_channels: int, pretrained: Pretrained | None) -> Backbone:
    """Frozen U-Net, autoencoder and empty-prompt embedding; a ControlNet that starts as a copy of the encoder."""
    pretrained = pretrained or load_pretrained(architecture.pretrained)
    unet, autoencoder = pretrained.unet, LatentAutoencoder(pretrained.vae)
    widths = architecture.condition_widths
    if 2 ** (len(widths) - 1) != autoencoder.factor:
        raise DataError(
            f"{architecture.pretrained}: its autoencoder divides pictures by {autoencoder.factor} but condition_widths "
            f"{list(widths)} divide the condition by {2 ** (len(widths) - 1)}; expected the same"
        )
    controlnet = GuidingControlNet.from_unet(
        unet, conditioning_embedding_out_channels=widths, conditioning_channels=condition_channels
    )
    # A tensor read from a file may lie at an odd address, where matrix products round differently: take a copy.
    return Backbone(unet.requires_grad_(False), controlnet, autoencoder, nn.Buffer(pretrained.text.clone()))
