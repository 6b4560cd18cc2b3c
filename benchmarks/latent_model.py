"""Train a small latent diffusion model on a subject's pictures, a stand-in for Stable Diffusion; one JSON line last.

    python -m benchmarks.latent_model --results results/901 --output /tmp/latent [--autoencoder-steps N --unet-steps N]

Writes a folder in diffusers' format that `train.architecture.pretrained` can name: an autoencoder that halves the sides
and an unconditional U-Net that predicts v, both trained on the subject's training pictures at half their size, and an
untrained text encoder, whose empty prompt is one constant. autoencoder_psnr is that of the held-out camera's pictures
of the head, in dB over all pixels, their mean; unet_loss the mean squared error of v over the last tenth of the steps.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel

from benchmarks.short_training import HALF, small_pictures
from benchmarks.short_training import parser as options
from pipeline.avatar.data.pictures import Pictures, to_bytes, to_unit
from pipeline.avatar.model.pretrained import Pretrained, load_pretrained
from pipeline.avatar.model.schedule import TRAINING_TIMESTEPS, make_scheduler
from pipeline.evaluate.measures.image import psnr
from tests.latent_model import write_latent_model

BATCH = 4
RATE = 1e-3
DIVERGENCE = 1e-5  # weight of the posterior's divergence from a standard normal: latents stay small, little is lost
SMALL: dict[str, Any] = {
    "unet": {
        "block_out_channels": (64, 96, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 64,
        "attention_head_dim": 4,
        "norm_num_groups": 16,
        "use_linear_projection": True,
    },
    "vae": {
        "block_out_channels": (32, 64),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "latent_channels": 4,
        "mid_block_add_attention": False,
    },
    "text_encoder": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 7,
        "vocab_size": 8,
    },
}


Loss = Callable[[torch.Tensor], torch.Tensor]


def train(network: torch.nn.Module, data: torch.Tensor, steps: int, loss: Loss) -> float:
    """Lower `loss` of a few random rows of the data per step; returns its mean over the last tenth of the steps."""
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    tail, began = [], time.monotonic()
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        error = loss(data[torch.randint(len(data), (BATCH,))])
        error.backward()
        optimizer.step()
        fall.step()
        tail = [*tail, error.item()][-max(steps // 10, 1) :]
        if (step + 1) % 100 == 0:
            rate = (step + 1) / (time.monotonic() - began)
            print(f"{type(network).__name__} {step + 1}/{steps}, {rate:.2f} steps/s, loss {tail[-1]:.5f}", flush=True)
    return sum(tail) / len(tail)


def train_autoencoder(vae: AutoencoderKL, pictures: torch.Tensor, steps: int) -> None:
    """Mean absolute error of pictures (N, 3, h, w) in [-1, 1]; then its latents' spread becomes the scaling factor."""

    def loss(batch: torch.Tensor) -> torch.Tensor:
        posterior = vae.encode(batch).latent_dist
        divergence = posterior.kl().mean() / batch[0].numel()
        return F.l1_loss(vae.decode(posterior.sample()).sample, batch) + DIVERGENCE * divergence

    train(vae, pictures, steps, loss)
    vae.register_to_config(scaling_factor=1 / encoded(vae, pictures).std().item())


@torch.no_grad()
def encoded(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Unscaled latents (N, 4, h / 2, w / 2)."""
    return torch.cat([vae.encode(some).latent_dist.mean for some in pictures.split(8)])


def train_unet(unet: UNet2DConditionModel, latents: torch.Tensor, text: torch.Tensor, steps: int) -> float:
    """Mean squared error of v of scaled latents at all timesteps alike, with zero terminal SNR."""
    scheduler = make_scheduler()

    def loss(batch: torch.Tensor) -> torch.Tensor:
        noised = batch, torch.randn_like(batch), torch.randint(TRAINING_TIMESTEPS, (len(batch),))
        predicted = unet(scheduler.add_noise(*noised), noised[2], text.expand(len(batch), -1, -1)).sample
        return F.mse_loss(predicted, scheduler.get_velocity(*noised))

    return train(unet, latents, steps, loss)


def all_pictures(views: Pictures) -> torch.Tensor:
    """Colours (N, 3, h, w) in [-1, 1] of all views."""
    return torch.cat([to_unit(views[index][1].rgb) for index in range(len(views))])


@torch.no_grad()
def autoencoder_psnr(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """PSNR in dB, mean over pictures (N, 3, h, w) in [-1, 1] that go through the latents."""
    passed = torch.cat([vae.decode(some).sample for some in encoded(vae, pictures).split(8)])
    pairs = zip(to_bytes(passed).numpy(), to_bytes(pictures).numpy(), strict=True)
    return float(np.mean([psnr(*pair) for pair in pairs]))


def main() -> None:
    """Train both networks and write the folder."""
    parser = options(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--autoencoder-steps", type=int, default=600)
    parser.add_argument("--unet-steps", type=int, default=1000)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    began = time.monotonic()
    training, held_out = (all_pictures(small_pictures(given, HALF, new, new)) for new in (False, True))
    model: Pretrained = load_pretrained(str(write_latent_model(given.output, SMALL)))
    train_autoencoder(model.vae, training, given.autoencoder_steps)
    latents = encoded(model.vae, training) * model.vae.config.scaling_factor
    unet_loss = train_unet(model.unet, latents, model.text, given.unet_steps)
    model.vae.save_pretrained(given.output / "vae")
    model.unet.save_pretrained(given.output / "unet")
    figures = {"autoencoder_psnr": round(autoencoder_psnr(model.vae, held_out), 2), "unet_loss": round(unet_loss, 4)}
    print(json.dumps({**figures, "pictures": len(training), "seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
