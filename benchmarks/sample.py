"""Time drawing pictures in many and in few steps of diffusion; one JSON line last.

    python -m benchmarks.sample --device cpu|cuda --size tiny|sd21 [--steps 20] [--few 1] [--frames 4]
    python -m benchmarks.sample --avatar avatar.safetensors --results results/901 [--sequence ...] [--camera ...]

The first form draws random pictures with the paper's model of random weights, or one as small as tests use. The second
draws a held-out film of an avatar and adds what the few steps lose: psnr_head_loss, dB in the head's pixels, the mean
over frames of PSNR after `steps` less that after `few`. Frames are drawn one by one, as the render stage does.
share_controlnet, share_unet and share_decoder are of the time of the many steps.
"""

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.random_model import CODE_SIZE, SIDES, SIZES, RandomPictures, paper_settings, random_model
from pipeline.avatar.checkpoint import read_avatar
from pipeline.avatar.data import Pictures, camera_places, sequence_views
from pipeline.avatar.drawing import draw
from pipeline.avatar.model import Avatar
from pipeline.metrics.image import psnr
from pipeline.store.reel import open_reels


class Stopwatch:
    """Seconds spent inside calls of functions that it is put round."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def time(self, owner: object, function: str, name: str) -> None:
        """Measure `owner.function` from now on under a name."""
        inner = getattr(owner, function)
        self.seconds[name] = 0.0

        def timed(*arguments: Any, **options: Any) -> Any:
            started = now()
            result = inner(*arguments, **options)
            self.seconds[name] += now() - started
            return result

        setattr(owner, function, timed)


def now() -> float:
    """Seconds, after the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def drawn(avatar: Avatar, pictures: Pictures, steps: int, eta: float) -> tuple[list[np.ndarray], float]:
    """Pictures (h, w, 3) uint8 and seconds per picture, the first, which warms up, left out of the time."""
    film, seconds = [], []
    started = now()
    for picture in draw(avatar, pictures, steps, eta, seed=0):
        film.append(picture.numpy())
        seconds.append(now() - started)
        started = now()
    return film, float(np.mean(seconds[1:]))


def film_of(results: Path, sequence: str, camera: str, stack: ExitStack) -> Pictures:
    """The views of one camera's film under a results folder."""
    kinds = [f"buffers/{sequence}/capture", f"targets/{sequence}"]
    paths = [sorted((results / kind).glob("*.zarr.zip")) for kind in kinds]
    buffers, targets = (stack.enter_context(open_reels(found))[sequence] for found in paths)
    place = camera_places(buffers)[camera]
    return Pictures(sequence_views(buffers, targets, results / "tracks" / f"{sequence}.zarr.zip", [place]))


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--few", type=int, default=1)
    parser.add_argument("--eta", type=float, default=0.0, help="share of fresh noise per step")
    parser.add_argument("--frames", type=int, default=4, help="random pictures")
    parser.add_argument("--avatar", type=Path)
    parser.add_argument("--results", type=Path, help="folder of the avatar's subject")
    parser.add_argument("--sequence", default="EXP-2-eyes")
    parser.add_argument("--camera", default="222200037")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    with ExitStack() as stack:
        if given.avatar:
            avatar = read_avatar(given.avatar)
            pictures = film_of(given.results, given.sequence, given.camera, stack)
        else:
            settings = paper_settings(given.size, "bfloat16" if given.device == "cuda" else "float32")
            avatar = Avatar(settings.architecture, CODE_SIZE, random_model(given.size)[0])
            pictures = RandomPictures(given.frames + 1, SIDES[given.size], SIDES[given.size])
        avatar.to(given.device).eval().requires_grad_(False)
        few, seconds_few = drawn(avatar, pictures, given.few, given.eta)
        watch = Stopwatch()
        for owner, function, name in (
            (avatar.controlnet, "guide", "controlnet"),
            (avatar.unet, "forward", "unet"),
            (avatar.autoencoder, "decode", "decoder"),
        ):
            watch.time(owner, function, name)
        many, seconds_many = drawn(avatar, pictures, given.steps, given.eta)
        figures: dict[str, Any] = {
            f"fps_{given.steps}": 1 / seconds_many,
            "fps_few": 1 / seconds_few,
            "speedup": seconds_many / seconds_few,
            **{f"share_{name}": spent / len(many) / seconds_many for name, spent in watch.seconds.items()},
        }
        if given.avatar:
            targets = [pictures[index][1] for index in range(len(pictures))]
            truths = [(target.rgb[0].numpy(), target.head[0].numpy()) for target in targets]
            for name, film in ((f"psnr_head_{given.steps}", many), ("psnr_head_few", few)):
                figures[name] = np.mean([psnr(mine, *true) for mine, true in zip(film, truths, strict=True)])
            figures["psnr_head_loss"] = figures[f"psnr_head_{given.steps}"] - figures["psnr_head_few"]
    rounded = {name: round(float(value), 3) for name, value in figures.items()}
    print(json.dumps(rounded | vars(given) | {"frames": len(many), "threads": torch.get_num_threads()}, default=str))


if __name__ == "__main__":
    main()
