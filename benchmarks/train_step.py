"""Time a training step of the paper's model: the release's recipe against ours; one JSON line last.

    python -m benchmarks.train_step --device cpu|cuda --size tiny|sd21 [--batch 8] [--steps 10] [--compile default]

Weights and pictures are random. Both sides do the same step on the same networks. The release's recipe: float32, the
prompt through the text encoder and the pictures through the autoencoder in every step, read when they are needed, the
loss looked at in every step. Ours: the prompt's embedding kept, latents kept too as crops are whole pictures
(`--random-crops` measures without), bfloat16, channels-last and fused AdamW on CUDA, pictures read ahead, the losses
looked at once at the end. Each side runs in a process of its own; peak_gb is the GPU's memory on CUDA, the process's
elsewhere; gpu_busy the share of the time in which the GPU computes; data_wait_s how long a step waits for its pictures.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.random_model import CODE_SIZE, SIDES, SIZES, RandomPictures, paper_settings, random_model
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.train.loop import Trainer

CROP_SHARE = 0.7  # of the paper's random crops
WARM_STEPS = 2  # kernels are chosen, memory is taken, latents are made


def measure(ours: bool, given: argparse.Namespace) -> dict[str, float]:
    """images_per_s, peak_gb, data_wait_s and on CUDA gpu_busy of one side."""
    cuda = given.device == "cuda"
    pretrained, encoder = random_model(given.size, given.device)
    way = {"precision": "bfloat16" if cuda else "float32", "compile": given.compile, "fetch_every": 1000}
    way = way if ours else {"fetch_every": 1, "read_ahead": 0}
    way["crop_share"] = 1.0 if ours and not given.random_crops else CROP_SHARE
    steps = WARM_STEPS + 2 * given.steps
    settings = paper_settings(given.size, batch=given.batch, device=given.device, steps=steps + 1, **way)
    side = SIDES[given.size]
    avatar = Avatar(settings.architecture, CODE_SIZE, pretrained)
    trainer = Trainer(avatar, RandomPictures(given.batch, side, side), settings)
    if not ours:
        avatar.to(memory_format=torch.contiguous_format)
    prompt = torch.zeros(1, encoder.config.max_position_embeddings, dtype=torch.long, device=given.device)

    def run(count: int) -> float:
        """Seconds of so many steps."""
        wait_for(given.device)
        started = time.perf_counter()
        for _ in range(count):
            if not ours:
                with torch.no_grad():
                    avatar.text.copy_(encoder(prompt)[0])
            trainer.train_step()
        wait_for(given.device)
        return time.perf_counter() - started

    run(WARM_STEPS)
    if trainer.batches.kept:
        trainer.batches.kept.settle()  # the GPU has been waited for: as after the first epoch
        trainer.ahead.drop()
    run(1)
    waited = trainer.ahead.waited
    seconds = run(given.steps - 1 or 1) / (given.steps - 1 or 1)
    figures = {"images_per_s": given.batch / seconds}
    figures["data_wait_s"] = (trainer.ahead.waited - waited) / (given.steps - 1 or 1)
    peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_gb"] = peak / 1e9
    if cuda:
        figures["gpu_busy"] = busy_share(lambda: run(given.steps))
    trainer.close()
    return figures


def busy_share(work: Callable[[], float]) -> float:
    """The share of the seconds that work returns in which the GPU ran its kernels and copies, by PyTorch's profiler."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        seconds = work()
    device_us = sum(event.self_device_time_total for event in found.key_averages())
    return device_us / 1e6 / seconds


def wait_for(device: str) -> None:
    """Until the GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure both sides and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each side")
    parser.add_argument("--compile", default="none", help="torch.compile's mode for our networks")
    parser.add_argument("--random-crops", action="store_true", help="random crops on our side too: no latents are kept")
    given = parser.parse_args()
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
