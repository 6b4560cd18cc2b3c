"""What the autoencoder loses in bfloat16: PSNR of its pictures and latents to those in float32. Last line: JSON.

    python -m benchmarks.autoencoder [--model FOLDER] [--capture data/demo/901] [--side 128] [--pictures 1]
                                    [--device cpu|cuda] [--rounded]

FOLDER is a latent diffusion model as the setting train.architecture.pretrained takes it; without one the weights are
random, of Stable Diffusion 2.1's sizes: that says how far the rounding is passed on, not what trained weights make of
it. Pictures are the first frame of every camera, cut to a square round their middle. psnr_pictures compares both
decoders on the float32 encoder's latents, psnr_whole the whole way through both, psnr_latents the encoders. Most CPUs
compute in bfloat16 a hundred times slower: `--rounded` computes in float32 and rounds what a GPU would round.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from benchmarks.random_model import SIZES
from pipeline.avatar.data.pictures import to_unit
from pipeline.avatar.model.autoencoder import LatentAutoencoder
from pipeline.avatar.model.pretrained import load_pretrained
from pipeline.capture.formats import open_capture
from pipeline.capture.pictures.decode import read_source


def pictures_of(folder: Path, side: int) -> torch.Tensor:
    """Squares (N, 3, side, side) in [-1, 1] of the first frame of each camera."""
    capture = open_capture(folder)
    found = []
    for source in capture.pictures(capture.sequences()[0]).values():
        picture = next(read_source(source, range(1)))
        height, width = picture.shape[:2]
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        square = picture[top : top + edge, left : left + edge]
        found.append(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))
    return to_unit(torch.from_numpy(np.stack(found)))


def one_by_one(work: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """What `work` makes of each of a batch: memory for one at a time."""
    return torch.cat([work(one[None]) for one in batch])


def psnr(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Decibels, against the range of what is expected."""
    expected = expected.double()
    error = (found.double() - expected).square().mean()
    return float(20 * torch.log10(expected.max() - expected.min()) - 10 * torch.log10(error))


def round_as_a_gpu(autoencoder: nn.Module) -> None:
    """From now on compute in float32 with the roundings of bfloat16 autocast on a GPU.

    Weights, inputs and results of convolutions and products are rounded, sums inside them are not, nor are group norms;
    residuals are added up in bfloat16.
    """

    def coarse(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(torch.bfloat16).float()

    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for parameter in module.parameters():
                parameter.data = coarse(parameter.data)
            module.register_forward_pre_hook(lambda _, given: (coarse(given[0]), *given[1:]))
        if isinstance(module, nn.Conv2d | nn.Linear | ResnetBlock2D | Attention):
            module.register_forward_hook(lambda _, given, result: coarse(result))


def main() -> None:
    """Encode and decode in both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or name of a pretrained model; none: random weights")
    parser.add_argument("--size", choices=SIZES, default="sd21", help="of random weights")
    parser.add_argument("--capture", type=Path, default=Path("data/demo/901"))
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--pictures", type=int, help="the first so many cameras; all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounded", action="store_true", help="compute in float32 and round as a GPU would")
    given = parser.parse_args()
    torch.manual_seed(0)
    vae = load_pretrained(given.model).vae if given.model else AutoencoderKL(**SIZES[given.size]["vae"])
    autoencoder = LatentAutoencoder(vae).to(given.device)
    pictures = pictures_of(given.capture, given.side)[: given.pictures].to(given.device)
    latents = one_by_one(autoencoder.encode, pictures)
    truth = one_by_one(autoencoder.decode, latents)
    if given.rounded:
        round_as_a_gpu(autoencoder)
    # as the avatar computes with precision bfloat16
    with nullcontext() if given.rounded else torch.autocast(given.device, torch.bfloat16):
        coarse = one_by_one(autoencoder.encode, pictures).float()
        decoded, whole = one_by_one(autoencoder.decode, latents), one_by_one(autoencoder.decode, coarse)
    figures = {
        "psnr_pictures": psnr(decoded, truth),
        "psnr_whole": psnr(whole, truth),
        "psnr_latents": psnr(coarse, latents),
    }
    about = {"pictures": len(pictures), "side": given.side, "weights": given.model or "random"}
    about |= {"device": given.device, "rounded": given.rounded}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()} | about))


if __name__ == "__main__":
    main()
