"""The networks of the avatar, all of diffusers' own classes: small ones from nothing, or a pretrained model's."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn

from pipeline.avatar.architecture import Architecture
from pipeline.avatar.autoencoder import LatentAutoencoder, SpaceToDepth
from pipeline.errors import DataError


@dataclass
class Backbone:
    """Networks and what goes with them. `text` (1, L, W): the constant text condition."""

    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    autoencoder: SpaceToDepth | LatentAutoencoder
    text: nn.Parameter


class FoldedEmbedding(nn.Module):
    """Condition embedding of the scratch backbone: space-to-depth and one convolution, no bottleneck."""

    def __init__(self, condition_channels: int, width: int, patch: int):
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(condition_channels * patch**2, width, 3, padding=1)

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """(B, K, h, w) -> (B, width, h / patch, w / patch)."""
        return self.conv(F.pixel_unshuffle(condition, self.patch))


def make_backbone(architecture: Architecture, condition_channels: int) -> Backbone:
    """The networks an architecture asks for. Raises DataError when a pretrained model cannot be found."""
    make = {"scratch": _scratch, "pretrained": _pretrained}[architecture.backbone]
    return make(architecture, condition_channels)


def _scratch(architecture: Architecture, condition_channels: int) -> Backbone:
    autoencoder = SpaceToDepth(architecture.patch)
    levels, attended = len(architecture.channels), architecture.attention_levels
    attention = [level >= levels - attended for level in range(levels)]
    down = tuple("CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attention)
    up = tuple("CrossAttnUpBlock2D" if there else "UpBlock2D" for there in reversed(attention))
    shared = {
        "in_channels": 2 * autoencoder.channels,  # noisy latents and the base they start from
        "down_block_types": down,
        "block_out_channels": architecture.channels,
        "layers_per_block": architecture.layers,
        "cross_attention_dim": architecture.token_width,
        "attention_head_dim": architecture.heads,
        "norm_num_groups": architecture.groups,
    }
    unet = UNet2DConditionModel(out_channels=autoencoder.channels, up_block_types=up, **shared)
    controlnet = ControlNetModel(conditioning_channels=condition_channels, **shared)
    controlnet.controlnet_cond_embedding = FoldedEmbedding(
        condition_channels, architecture.channels[0], architecture.patch
    )
    # A ControlNet's zero convolutions protect a pretrained U-Net. Here there is nothing to protect: pass features on.
    for projection in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        nn.init.dirac_(projection.weight)
    # The picture hardly depends on the noise, least of all in the first step: start blind to it.
    for network in (unet, controlnet):
        nn.init.zeros_(network.conv_in.weight[:, : autoencoder.channels])
    text = nn.Parameter(torch.zeros(1, 1, architecture.token_width))
    return Backbone(unet, controlnet, autoencoder, text)


def _pretrained(architecture: Architecture, condition_channels: int) -> Backbone:
    """Frozen U-Net, autoencoder and empty-prompt embedding; a ControlNet that starts as a copy of the encoder."""
    source = architecture.pretrained
    try:
        unet = UNet2DConditionModel.from_pretrained(source, subfolder="unet")
        vae = AutoencoderKL.from_pretrained(source, subfolder="vae")
        text = _empty_prompt(source)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source}: no pretrained model to load ({error}); expected a hub id or a folder with the subfolders "
            "unet, vae, tokenizer and text_encoder in diffusers' format"
        ) from error
    controlnet = ControlNetModel.from_unet(unet, conditioning_channels=condition_channels)
    text = nn.Parameter(text, requires_grad=False)
    return Backbone(unet.requires_grad_(False), controlnet, LatentAutoencoder(vae), text)


@torch.no_grad()
def _empty_prompt(source: str) -> torch.Tensor:
    """(1, L, W): what the model's text encoder says to an empty prompt. Needs the transformers package."""
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise DataError(f"{source}: its text encoder needs `pip install transformers`") from error
    tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")
    encoder = CLIPTextModel.from_pretrained(source, subfolder="text_encoder").eval()
    ids = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    return encoder(ids)[0]
