"""A pretrained latent diffusion model: its U-Net, its autoencoder and its embedding of the empty prompt."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel

from pipeline.errors import DataError


@dataclass
class Pretrained:
    """A v-prediction model; `text` (1, L, W) is the embedding of the empty prompt."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: torch.Tensor


def load_pretrained(source: str, text: torch.Tensor | None = None) -> Pretrained:
    """Load from a hub id or a folder in diffusers' format; the text encoder only when its embedding is not given.

    Raises DataError when it cannot be found, or does not predict v.
    """
    try:
        scheduler = cast(dict[str, Any], DDIMScheduler.load_config(source, subfolder="scheduler"))
        unet = UNet2DConditionModel.from_pretrained(source, subfolder="unet", use_safetensors=True)
        vae = AutoencoderKL.from_pretrained(source, subfolder="vae", use_safetensors=True)
        text = _empty_prompt(source) if text is None else text
    except (OSError, ValueError) as error:
        reason, *_ = str(error).splitlines()
        raise DataError(
            f"{source}: no pretrained model to load ({reason}); expected a hub id or a folder with the "
            "subfolders scheduler, unet, vae, tokenizer and text_encoder in diffusers' format"
        ) from error
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction != "v_prediction":
        raise DataError(
            f"{source}: the model predicts {prediction}; expected v_prediction, as Stable Diffusion 2.1 does"
        )
    return Pretrained(unet, vae, text)


@torch.no_grad()
def _empty_prompt(source: str) -> torch.Tensor:
    """(1, L, W): what the model's text encoder makes of an empty prompt."""
    from transformers import CLIPTextModel, CLIPTokenizer  # takes seconds, and no other stage or backbone needs it

    tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")
    encoder = CLIPTextModel.from_pretrained(source, subfolder="text_encoder", use_safetensors=True).eval()
    ids = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    return encoder(ids)[0]


def load_tiny_decoder(source: str) -> AutoencoderTiny:
    """A small autoencoder such as TAESD from a hub id or a folder; raises DataError when it cannot be found."""
    try:
        return AutoencoderTiny.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason, *_ = str(error).splitlines()
        raise DataError(
            f"{source}: no small decoder to load ({reason}); expected a hub id such as madebyollin/taesd, or a folder, "
            "with an AutoencoderTiny in diffusers' format (render.decoder)"
        ) from error
