"""Time a training step of the paper's model: the release's recipe against ours; one JSON line last.

    python -m benchmarks.train_step --device cpu|cuda --size tiny|sd21 [--batch 8] [--steps 10] [--compile MODE]

Weights and pictures are random. Both sides do the same step on the same networks. The release's recipe: float32, the
prompt through the text encoder and the pictures through the autoencoder in every step. Ours: the prompt's embedding
kept, latents kept too as crops are whole pictures (`--random-crops` measures without), bfloat16 and channels-last on
CUDA. Each side runs in a process of its own; peak_gb is the GPU's memory on CUDA, the process's elsewhere.
"""

import argparse
import json
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from benchmarks.random_model import CODE_SIZE, SIDES, SIZES, RandomPictures, paper_settings, random_model
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer

CROP_SHARE = 0.7  # of the paper's random crops
WARM_STEPS = 2  # kernels are chosen, memory is taken, latents are kept


def measure(ours: bool, given: argparse.Namespace) -> dict[str, float]:
    """images_per_s and peak_gb of one side."""
    cuda = given.device == "cuda"
    pretrained, encoder = random_model(given.size)
    crop_share = 1.0 if ours and not given.random_crops else CROP_SHARE
    settings = paper_settings(
        given.size, "bfloat16" if ours and cuda else "float32", batch=given.batch, crop_share=crop_share
    )
    side = SIDES[given.size]
    avatar = Avatar(settings.architecture, CODE_SIZE, pretrained)
    trainer = Trainer(avatar, RandomPictures(given.batch, side, side), settings)
    device = trainer.accelerator.device
    if not ours:
        avatar.to(memory_format=torch.contiguous_format)
    if ours:
        avatar.compile_networks(given.compile)
    encoder.to(device)
    prompt = torch.zeros(1, encoder.config.max_position_embeddings, dtype=torch.long, device=device)

    def step() -> None:
        if not ours:
            with torch.no_grad():
                avatar.text.copy_(encoder(prompt)[0])
        trainer.train_step()  # returns a number, and so waits for the GPU

    spent = []
    for _ in range(WARM_STEPS + given.steps):
        started = time.perf_counter()
        step()
        spent.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"images_per_s": given.batch / float(np.median(spent[WARM_STEPS:])), "peak_gb": peak / 1e9}


def main() -> None:
    """Measure both sides and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each side")
    parser.add_argument("--compile", default="none", help="torch.compile's mode for our networks")
    parser.add_argument("--random-crops", action="store_true", help="random crops on our side too: no latents are kept")
    given = parser.parse_args()
    if (given.device == "cuda") != torch.cuda.is_available():
        parser.error(f"--device {given.device}: training takes CUDA where there is one, and here cuda is "
                     f"{'there' if torch.cuda.is_available() else 'not there'}")  # fmt: skip
    sides: dict[str, dict[str, float]] = {}
    for name in ("ours", "release"):
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            sides[name] = alone.submit(measure, name == "ours", given).result()
    figures: dict[str, Any] = {
        f"{side}_{name}": round(value, 3) for side, values in sides.items() for name, value in values.items()
    }
    figures["ratio"] = round(sides["ours"]["images_per_s"] / sides["release"]["images_per_s"], 3)
    name = torch.cuda.get_device_name() if given.device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(json.dumps(figures | vars(given) | {"device": name}))


if __name__ == "__main__":
    main()
