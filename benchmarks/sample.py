"""Time rendering pictures in many and in few steps of diffusion; one JSON line last.

    python -m benchmarks.sample --device cpu|cuda --size tiny|sd21 [--steps 20] [--few 1 2 4] [--frames 4]
    python -m benchmarks.sample --avatar avatar.safetensors --results results/901 [--distilled distilled.safetensors]

The first form renders random pictures with the paper's model of random weights, or one as small as tests use. The
second renders a held-out film of an avatar, and adds psnr_head and flip_head, means over frames of the head's pixels,
and what the few steps lose: psnr_head_loss in dB, flip_head_ratio. Distilled avatars render in the steps they are made
for, an avatar without them in each of `--few`. fps_few, speedup, psnr_head_loss and flip_head_ratio are those of the
fewest steps; `few` has them all. Frames are rendered one by one, as the render stage does; the first is left out of the
time. share_controlnet, share_unet and share_decoder are of the time of the many steps. `--decoder` renders with a small
decoder in the autoencoder's place (a folder or hub id; `random` is TAESD's size with random weights). `--compile` has
torch.compile make the networks in one of its modes, and leaves the shares out.
"""

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from diffusers import AutoencoderTiny

from benchmarks.random_model import CODE_SIZE, SIDES, SIZES, RandomPictures, paper_settings, random_model
from benchmarks.short_training import views_of
from pipeline.avatar.data.pictures import Pictures
from pipeline.avatar.model.avatar import Avatar
from pipeline.avatar.model.checkpoint import read_avatar
from pipeline.avatar.model.pretrained import load_tiny_decoder
from pipeline.avatar.render import render_timed
from pipeline.evaluate.measures.image import flip_map, psnr
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.render import RenderSettings


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


def quality(film: np.ndarray, pictures: Pictures) -> dict[str, float]:
    """psnr_head and flip_head, means over the film."""
    each = []
    for index, picture in enumerate(film):
        target = pictures[index][1]
        truth, head = target.rgb[0].numpy(), target.head[0].numpy()
        flip = flip_map(picture, truth, EvaluateSettings().pixels_per_degree)
        each.append((psnr(picture, truth, head), flip[head].mean()))
    return dict(zip(("psnr_head", "flip_head"), np.mean(each, axis=0).tolist(), strict=True))


def random_avatar(size: str, device: str) -> Avatar:
    """The paper's model, or its tiny counterpart, of random weights."""
    avatar = Avatar(paper_settings(size).architecture, CODE_SIZE, random_model(size, device)[0])
    return avatar.eval().requires_grad_(False)


def prepared(avatar: Avatar, device: str, compile_mode: str) -> Avatar:
    """The avatar as the render stage has it, on CUDA in bfloat16."""
    avatar.to(device).channels_last()
    if device == "cuda":
        avatar.compute_in("bfloat16")
    avatar.compile_networks(compile_mode)
    return avatar


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Four decimals, which FLIP needs."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def shares(avatar: Avatar) -> Stopwatch:
    """A stopwatch on the avatar's ControlNet, U-Net and decoder."""
    watch = Stopwatch()
    watch.time(avatar.controlnet, "guide", "controlnet")
    watch.time(avatar.unet, "forward", "unet")
    watch.time(avatar.autoencoder, "decode", "decoder")
    return watch


def measure_random(device: str, size: str, compile_mode: str, frames: int, batch: int) -> dict[str, Any]:
    """fps_1 and fps_20 of random pictures with random weights, and shares of the time of one step; of compiled
    networks fps_1 alone."""
    avatar = prepared(random_avatar(size, device), device, compile_mode)
    pictures = RandomPictures(frames + batch, SIDES[size], SIDES[size])
    figures = {"fps_1": render_timed(avatar, pictures, 1, 0.0, seed=0, batch=batch)[1], "batch": batch}
    if compile_mode != "none":
        return figures
    figures["fps_20"] = render_timed(avatar, pictures, 20, 0.0, seed=0, most=2 * batch, batch=batch)[1]
    watch, started = shares(avatar), now()
    render_timed(avatar, pictures, 1, 0.0, seed=0, batch=batch)
    spent = now() - started
    return figures | {f"share_{name}": seconds / spent for name, seconds in watch.seconds.items()}


def measure(given: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """All figures."""
    if given.avatar:
        avatar = read_avatar(given.avatar)
        pictures = Pictures(views_of(stack, given.results, [given.sequence], given.camera, held_out=True))
    else:
        avatar = random_avatar(given.size, given.device)
        pictures = RandomPictures(given.frames + 1, SIDES[given.size], SIDES[given.size])
    if given.decoder:
        tiny = AutoencoderTiny() if given.decoder == "random" else load_tiny_decoder(given.decoder)
        avatar.autoencoder.decode_with(tiny, given.decoder)
    few = {steps: avatar for steps in given.few}
    if given.distilled:
        made = [read_avatar(path) for path in given.distilled]
        few = {other.sampling.steps: other for other in made}
    for rendered in {avatar, *few.values()}:
        prepared(rendered, given.device, given.compile)
    rows = {}
    for steps, rendered in sorted(few.items()):
        film, per_second = render_timed(rendered, pictures, steps, given.eta, seed=0)
        rows[steps] = {"fps": per_second} | (quality(film, pictures) if given.avatar else {})
    watch = shares(avatar) if given.compile == "none" else Stopwatch()
    started = now()
    film, per_second = render_timed(avatar, pictures, given.steps, given.eta, seed=0)
    spent = now() - started
    many = quality(film, pictures) if given.avatar else {}
    for row in rows.values():
        row["speedup"] = row["fps"] / per_second
        if given.avatar:
            row["psnr_head_loss"] = many["psnr_head"] - row["psnr_head"]
            row["flip_head_ratio"] = row["flip_head"] / many["flip_head"]
    fewest = rows[min(rows)]
    return {
        f"fps_{given.steps}": per_second,
        "fps_few": fewest["fps"],
        **{name: fewest[name] for name in ("speedup", "psnr_head_loss", "flip_head_ratio") if name in fewest},
        **{f"{name}_{given.steps}": value for name, value in many.items()},
        "few": {steps: rounded(row) for steps, row in rows.items()},
        **{f"share_{name}": seconds / spent for name, seconds in watch.seconds.items()},
        "frames": len(film),
    }


def main() -> None:
    """Render, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--few", type=int, nargs="+", default=[1])
    parser.add_argument("--eta", type=float, default=0.0, help="share of fresh noise per step")
    parser.add_argument(
        "--frames", type=int, default=4, help="random pictures after the first, which is timed only if alone"
    )
    parser.add_argument("--decoder", help="render with this AutoencoderTiny")
    modes = get_args(RenderSettings.model_fields["compile"].annotation)
    parser.add_argument("--compile", choices=modes, default="none")
    parser.add_argument("--avatar", type=Path)
    parser.add_argument("--distilled", type=Path, nargs="+", default=[], help="few-step avatars of the same subject")
    parser.add_argument("--results", type=Path, help="folder of the avatar's subject")
    parser.add_argument("--sequence", default="EXP-2-eyes")
    parser.add_argument("--camera", default="222200037")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    with ExitStack() as stack:
        figures = measure(given, stack)
    print(json.dumps(vars(given) | rounded(figures) | {"threads": torch.get_num_threads()}, default=str))


if __name__ == "__main__":
    main()
