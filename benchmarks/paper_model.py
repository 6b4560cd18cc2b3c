"""The preset `paper` at full size with random weights: build, one training step, one picture; one JSON line last.

    python -m benchmarks.paper_model [--side 512] [--batch 1] [--steps 20] [--device cpu] [--folder /tmp] [--size sd21]

Writes a model folder with Stable Diffusion 2.1's sizes (5 GB, deleted at the end), builds the avatar round it, does a
training step on random pictures, renders one and reads the avatar back from its file. Times and memory are those of
the real model; what the picture shows is noise.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_model import CODE_SIZE, SIDES, SIZES, TINY_ARCHITECTURE, RandomPictures
from pipeline.avatar.data.pictures import moved
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar, trained_tensors, write_avatar
from pipeline.avatar.model.schedule import shared_noise
from pipeline.avatar.train.loop import Trainer
from pipeline.planning.presets import PRESETS, laid_over
from pipeline.settings.train import TrainSettings
from tests.latent_model import write_latent_model

figures: dict[str, Any] = {}


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Do something, note its seconds and the process's peak memory up to its end, and say so."""
    started = time.perf_counter()
    result = work()
    figures[f"{name}_s"] = round(time.perf_counter() - started, 2)
    figures[f"{name}_peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(name, figures[f"{name}_s"], "s, peak", figures[f"{name}_peak_gb"], "GB", flush=True)
    return result


def sums(avatar: Avatar, names: Iterable[str]) -> dict[str, float]:
    """The sum of each of some tensors."""
    tensors = avatar.state_dict()
    return {name: tensors[name].double().sum().item() for name in names}


def train_and_render(folder: Path, size: str, side: int, batch: int, steps: int, device: str) -> dict[str, float]:
    """Everything but reading back, into `figures`; returns the sums of the avatar's tensors."""
    timed("write_model", lambda: write_latent_model(folder / "model", SIZES[size]))
    changes = {"batch": batch, "crop_height": side, "crop_width": side, "device": device}
    own = TINY_ARCHITECTURE if size == "tiny" else {}
    changes["architecture"] = own | {"pretrained": str(folder / "model")}
    settings = TrainSettings(**laid_over(PRESETS["paper"]["train"], changes))
    avatar = timed("build", lambda: Avatar(settings.architecture, CODE_SIZE))
    pictures = RandomPictures(4, side, side)
    trainer = Trainer(avatar, pictures, settings)
    for name, p in avatar.named_parameters():
        part = f"{'trained' if p.requires_grad else 'frozen'}_{name.split('.')[0]}"
        figures[part] = figures.get(part, 0) + p.numel()
    figures["trained"], figures["loss"] = trainer.size, timed("train_step", lambda: float(trainer.train_step()))
    noise = shared_noise(avatar.latent_shape(side, side), steps, seed=0).to(trainer.device)
    buffers = moved(pictures[0][0], trainer.device)
    picture = timed("render", lambda: avatar.render(buffers, noise, steps, eta=1.0).cpu())
    figures["picture_is_finite"] = bool(torch.isfinite(picture).all())
    path = folder / "avatar.safetensors"
    timed("write_avatar", lambda: write_avatar(path, avatar, trainer.average, trainer.step))
    figures["avatar_file_gb"] = round(path.stat().st_size / 1e9, 3)
    return sums(avatar, trained_tensors(avatar))


def main() -> None:
    """Measure in a temporary folder and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="sd21", help="of the model: Stable Diffusion 2.1's, or tiny")
    parser.add_argument("--side", type=int, help="pixels of the crop and the picture; not given: as the model's size")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20, help="steps of the diffusion")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    given = parser.parse_args()
    side = given.side or SIDES[given.size]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        before = train_and_render(Path(folder), given.size, side, given.batch, given.steps, given.device)
        again = timed("read_avatar", lambda: read_avatar(Path(folder) / "avatar.safetensors"))
        figures["file_is_whole"] = sums(again, before) == before
    print(json.dumps(vars(given) | figures, default=str))


if __name__ == "__main__":
    main()
