"""Latent diffusion models of random weights in diffusers' folder format: tiny, or with Stable Diffusion 2.1's sizes."""

import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

SPECIAL = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"}

TINY: dict[str, Any] = {
    "unet": {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "use_linear_projection": True,
    },
    "vae": {
        "block_out_channels": (4, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "latent_channels": 4,
    },
    "text_encoder": {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 7,
        "vocab_size": 8,
    },
}

# The sizes that stabilityai/stable-diffusion-2-1 was published with.
STABLE_DIFFUSION_2_1: dict[str, Any] = {
    "unet": {
        "sample_size": 96,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    "vae": {
        "sample_size": 768,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    },
    "text_encoder": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "hidden_act": "gelu",
        "projection_dim": 512,
    },
}


def write_latent_model(folder: Path, sizes: dict[str, Any], prediction_type: str = "v_prediction") -> Path:
    """Write U-Net, autoencoder, text encoder, tokenizer and scheduler of random weights; returns the folder."""
    UNet2DConditionModel(**sizes["unet"]).save_pretrained(folder / "unet")
    AutoencoderKL(**sizes["vae"]).save_pretrained(folder / "vae")
    text = sizes["text_encoder"]
    # Ids as in the vocabulary below, whose words never reach the encoder: only the empty prompt does.
    config = CLIPTextConfig(**text, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    DDIMScheduler(prediction_type=prediction_type).save_pretrained(folder / "scheduler")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    words = ["!", SPECIAL["bos_token"], SPECIAL["eos_token"], "a", "a</w>"]
    (tokenizer / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    length = text["max_position_embeddings"]
    described = SPECIAL | {"tokenizer_class": "CLIPTokenizer", "model_max_length": length}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(described))
    return folder
